//! The name of a worker that nobody described, from what stays the same on the machine itself.

use ring::digest;

use bootwright_model::seed::Seed;

use super::smbios::Firmware;
use super::{Claim, Recognised};

/// Begins every such name.
const PREFIX: &str = "worker-";
/// Digits of a UUID that all firmware of a kind has, as its maker's sample has them. The kernel shows the first three
/// fields in the order that the firmware's version of SMBIOS says, which not every firmware keeps to.
const OF_MANY: [&str; 4] = [
    "03000200040005000006000700080009",
    "00020003000400050006000700080009",
    "12345678123456781234567812345678",
    "123456781234567890abcddeefaabbcc",
];
/// Hexadecimal digits of a name: as many as a MAC address has. Among 5,000 machines two have the same with a probability
/// of 4 in 100 million.
const DIGITS: usize = 12;

/// The name as a source's: after the UUID, which stays when cards are changed, else after the lowest MAC address, so that
/// the order in which cards are found does not matter. Nothing if the machine has neither.
pub fn claim(by: &Recognised) -> Option<Claim> {
    let (name, sign) = of_uuid(&by.firmware).or_else(|| of_mac(&by.macs))?;
    let says = Seed { name: Some(format!("{PREFIX}{name}")), ..Seed::default() };
    Some(Claim::new(format!("this machine's {sign}, as nobody describes it"), says))
}

/// Whether the name follows from the UUID, and from nothing that may turn up later.
pub fn is_by_uuid(firmware: &Firmware) -> bool {
    of_uuid(firmware).is_some()
}

/// A digest of it: makers put serial numbers into some of its digits, and the same into the others.
fn of_uuid(firmware: &Firmware) -> Option<(String, String)> {
    let uuid = firmware.uuid.as_ref()?;
    let digits: String = uuid.chars().filter(|digit| *digit != '-').collect::<String>().to_ascii_lowercase();
    let is_uuid = digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let is_same_throughout = digits.bytes().all(|digit| Some(&digit) == digits.as_bytes().first());
    if !is_uuid || is_same_throughout || OF_MANY.contains(&digits.as_str()) {
        return None;
    }
    let digest = digest::digest(&digest::SHA256, digits.as_bytes());
    let name: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Some((name[..DIGITS].to_owned(), format!("UUID {uuid}")))
}

fn of_mac(macs: &[String]) -> Option<(String, String)> {
    let digits = |mac: &String| mac.to_ascii_lowercase().replace(':', "");
    let is_own = |name: &String| {
        name.len() == DIGITS
            && name.bytes().all(|digit| digit.is_ascii_hexdigit())
            && name.bytes().any(|digit| digit != b'0')
    };
    let (name, mac) = macs.iter().map(|mac| (digits(mac), mac)).filter(|(name, _)| is_own(name)).min()?;
    Some((name, format!("MAC address {mac}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(uuid: Option<&str>, macs: &[&str]) -> Option<String> {
        let firmware = Firmware { uuid: uuid.map(str::to_owned), ..Firmware::default() };
        let macs = macs.iter().map(|mac| (*mac).to_owned()).collect();
        claim(&Recognised { macs, firmware })?.says.name
    }

    #[test]
    fn a_machine_has_the_same_name_at_every_boot() {
        let uuid = Some("4c4c4544-0042-3510-8054-b7c04f4a3832");
        // Written down: with another name the machine would be another node after an upgrade.
        assert_eq!(name(uuid, &[]).as_deref(), Some("worker-78785d6a7206"));
        let upper = uuid.map(str::to_ascii_uppercase);
        assert_eq!(name(upper.as_deref(), &["52:54:00:00:00:01"]), name(uuid, &[]), "whatever its cards are");
        let cards = ["52:54:00:00:00:0B", "52:54:00:00:00:0a"];
        assert_eq!(name(None, &cards).as_deref(), Some("worker-52540000000a"));
        assert_eq!(name(None, &[cards[1], cards[0]]), name(None, &cards), "in whatever order they come");
    }

    #[test]
    fn a_uuid_that_many_machines_have_names_none() {
        let many = [
            "00000000-0000-0000-0000-000000000000",
            "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
            "03000200-0400-0500-0006-000700080009",
            "00020003-0004-0005-0006-000700080009",
            "12345678-1234-5678-90ab-cddeefaabbcc",
            "Not Settable",
            "",
        ];
        for uuid in many {
            assert_eq!(name(Some(uuid), &[]), None, "{uuid}");
            assert!(name(Some(uuid), &["52:54:00:00:00:0a"]).is_some());
        }
        for none in ["00:00:00:00:00:00", "", "5:4", "aa:bb:cc:dd:ee:gg"] {
            assert_eq!(name(None, &[none]), None, "{none}");
        }
    }

    proptest::proptest! {
        #[test]
        fn names_are_labels(
            uuid in "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|.*",
            macs in proptest::collection::vec("([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}|.*", 0..4),
        ) {
            let firmware = Firmware { uuid: Some(uuid), ..Firmware::default() };
            if let Some(claim) = claim(&Recognised { macs, firmware }) {
                let name = claim.says.name.unwrap();
                proptest::prop_assert!(name.len() == PREFIX.len() + DIGITS);
                proptest::prop_assert!(name[PREFIX.len()..].bytes().all(|digit| digit.is_ascii_hexdigit()));
            }
        }
    }
}
