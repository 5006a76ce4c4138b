//! The name of a worker that nobody described, from what stays the same on the machine itself.

use ring::digest;

use bootwright_model::seed::Seed;

use super::smbios::Firmware;
use super::{Claim, Recognised};
use crate::network::links::Card;

/// Begins every such name.
const PREFIX: &str = "worker-";
/// Digits of UUIDs that many machines have: what firmware has in its maker's sample, and what people make up. Those of one
/// byte throughout need not be listed. Those that count are in systemd's list of such, the first and the fourth in GLPI's.
const UUIDS_OF_MANY: [&str; 7] = [
    "03000200040005000006000700080009",
    "000102030405060708090a0b0c0d0e0f",
    "0102030405060708090a0b0c0d0e0f10",
    "6ab5b300538d10149fb5b0684d007b53",
    "12345678123456781234567812345678",
    "123456781234567890abcddeefaabbcc",
    "deadbeefdeadbeefdeadbeefdeadbeef",
];
/// MAC addresses that many machines have: the Linux bridges' of Xen, and what people make up.
const MACS_OF_MANY: [&str; 5] =
    ["feffffffffff", "000102030405", "001122334455", "123456789abc", "1234567890ab"];
/// QEMU gives cards of machines that are given no other addresses these in turn, from the first to that with 0xfe at the end
/// (`qemu_macaddr_default_if_unset` of net/net.c).
const QEMUS: std::ops::RangeInclusive<&str> = "525400123456"..="5254001234fe";
/// Hexadecimal digits of a name: as many as a MAC address has. Among 5,000 machines two have the same with a probability
/// of 4 in 100 million.
const DIGITS: usize = 12;

/// The name as a source's: after the UUID, which stays when cards are changed, else after the MAC address of a card.
/// Nothing if the machine has neither.
pub fn claim(by: &Recognised) -> Option<Claim> {
    let (name, sign) = of_uuid(&by.firmware).or_else(|| of_card(&by.cards))?;
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
    if !is_uuid
        || is_one_byte(&digits)
        || UUIDS_OF_MANY.iter().any(|many| [*many, &swapped(many)].contains(&digits.as_str()))
    {
        return None;
    }
    let digest = digest::digest(&digest::SHA256, digits.as_bytes());
    let name: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Some((name[..DIGITS].to_owned(), format!("UUID {uuid}")))
}

/// The UUID as firmware shows it that has the bytes of its first three fields in the other order: the kernel goes by the
/// firmware's version of SMBIOS, which not every firmware keeps to (DSP0134, section 7.2.1).
fn swapped(digits: &str) -> String {
    let bytes: Vec<&str> = (0..digits.len()).step_by(2).filter_map(|at| digits.get(at..at + 2)).collect();
    [3, 2, 1, 0, 5, 4, 7, 6]
        .into_iter()
        .chain(8..bytes.len())
        .filter_map(|at| bytes.get(at).copied())
        .collect()
}

/// The same two digits throughout: zeros, ones, or a pattern.
fn is_one_byte(digits: &str) -> bool {
    digits.as_bytes().chunks(2).all(|pair| digits.as_bytes().get(..2) == Some(pair))
}

/// After a card that is not on USB, if there is one: those come and go, and management controllers of one kind show all
/// their machines the same. Of these after an address that a maker was given (IEEE 802, universally administered), as others
/// are made up, if most of virtual machines. Of these after the lowest, so that the order in which cards are found does not
/// matter, nor that one address turns up twice.
fn of_card(cards: &[Card]) -> Option<(String, String)> {
    let usable =
        cards.iter().filter(|card| card.permanent).filter_map(|card| Some((card, of_one(&card.mac)?)));
    let (card, name) = usable.min_by_key(|(card, name)| (card.usb, is_made_up(name), name.clone()))?;
    Some((name, format!("MAC address {}", card.mac)))
}

/// The digits of an address that is one card's. One without a number in its maker's half is a placeholder, and one for
/// groups is no card's.
fn of_one(mac: &str) -> Option<String> {
    let digits = mac.to_ascii_lowercase().replace(':', "");
    let is_mac = digits.len() == DIGITS && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if !is_mac || first_byte(&digits) & 1 != 0 || is_of_many(&digits) {
        return None;
    }
    let is_numbered = !["000000", "ffffff"].iter().any(|none| digits.ends_with(none));
    (is_numbered && !is_one_byte(&digits)).then_some(digits)
}

fn is_of_many(digits: &str) -> bool {
    // Of one length and in lower case: text has the order of the numbers.
    MACS_OF_MANY.contains(&digits) || QEMUS.contains(&digits)
}

fn is_made_up(digits: &str) -> bool {
    first_byte(digits) & 2 != 0
}

fn first_byte(digits: &str) -> u8 {
    digits.get(..2).and_then(|byte| u8::from_str_radix(byte, 16).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(mac: &str) -> Card {
        Card { mac: mac.to_owned(), permanent: true, usb: false }
    }

    fn name(uuid: Option<&str>, macs: &[&str]) -> Option<String> {
        let firmware = Firmware { uuid: uuid.map(str::to_owned), ..Firmware::default() };
        let cards = macs.iter().map(|mac| card(mac)).collect();
        claim(&Recognised { cards, firmware })?.says.name
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
            "01010101-0101-0101-0101-010101010101",
            "00010203-0405-0607-0809-0a0b0c0d0e0f",
            "03020100-0504-0706-0809-0A0B0C0D0E0F",
            "6AB5B300-538D-1014-9FB5-B0684D007B53",
            "12345678-1234-5678-90ab-cddeefaabbcc",
            "Not Settable",
            "",
        ];
        for uuid in many {
            assert_eq!(name(Some(uuid), &[]), None, "{uuid}");
            assert!(name(Some(uuid), &["52:54:00:00:00:0a"]).is_some());
        }
    }

    #[test]
    fn an_address_that_many_machines_have_names_none() {
        let many = [
            "00:00:00:00:00:00",
            "ff:ff:ff:ff:ff:ff",
            "FE:FF:FF:FF:FF:FF",
            "22:22:22:22:22:22",
            "00:a0:c6:00:00:00",
            "00:11:22:33:44:55",
            "52:54:00:12:34:56",
            "33:50:6f:45:30:30",
            "",
            "5:4",
            "aa:bb:cc:dd:ee:gg",
        ];
        for none in many {
            assert_eq!(name(None, &[none]), None, "{none}");
            assert_eq!(name(None, &[none, "fe:54:00:00:00:0a"]).as_deref(), Some("worker-fe540000000a"));
        }
    }

    #[test]
    fn a_machine_is_named_by_the_card_that_is_its_own_for_good() {
        let named = |cards: &[Card]| {
            let by = Recognised { cards: cards.to_vec(), firmware: Firmware::default() };
            claim(&by).and_then(|claim| claim.says.name)
        };
        let usb = |mac: &str| Card { usb: true, ..card(mac) };
        let drawn = |mac: &str| Card { permanent: false, ..card(mac) };
        let [of_maker, later, made_up] = ["3c:ec:ef:00:00:02", "a0:36:9f:00:00:01", "02:00:00:00:00:05"];
        // From the last to the best: each further card takes the name.
        let order = [usb(made_up), usb(of_maker), card(made_up), card(later), card(of_maker)];
        let names = ["020000000005", "3cecef000002", "020000000005", "a0369f000001", "3cecef000002"];
        for (last, name) in names.into_iter().enumerate() {
            let mut cards = order[..=last].to_vec();
            assert_eq!(named(&cards), Some(format!("worker-{name}")));
            cards.reverse();
            cards.insert(0, drawn("00:00:00:00:00:01"));
            assert_eq!(named(&cards), Some(format!("worker-{name}")), "{cards:?}");
        }
        assert_eq!(named(&[drawn(of_maker)]), None, "the next boot may draw another");
        assert_eq!(
            named(&[card(later), card(later)]),
            named(&[card(later)]),
            "a fast and a slow card of one address"
        );
    }

    proptest::proptest! {
        #[test]
        fn names_are_labels(
            uuid in "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|.*",
            macs in proptest::collection::vec("([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}|.*", 0..4),
        ) {
            let firmware = Firmware { uuid: Some(uuid), ..Firmware::default() };
            let cards = macs.iter().map(|mac| card(mac)).collect();
            if let Some(claim) = claim(&Recognised { cards, firmware }) {
                let name = claim.says.name.unwrap();
                proptest::prop_assert!(name.len() == PREFIX.len() + DIGITS);
                proptest::prop_assert!(name[PREFIX.len()..].bytes().all(|digit| digit.is_ascii_hexdigit()));
            }
        }
    }
}
