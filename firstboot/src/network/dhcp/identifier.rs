//! Who this machine is to DHCP servers: a client identifier (RFC 4361) that is the same at every start.

use std::fs;
use std::path::Path;

use crate::report::under;

/// Where the kernel shows the UUID of the firmware (SMBIOS, system information).
const UUID_FILE: &str = "/sys/class/dmi/id/product_uuid";
/// Type of an identifier of RFC 4361.
const NODE_SPECIFIC: u8 = 255;
/// Types of DUIDs: RFC 6355, and RFC 8415 section 11.4 with the hardware type Ethernet.
const DUID_UUID: [u8; 2] = [0, 4];
const DUID_LL_ETHERNET: [u8; 4] = [0, 3, 0, 1];

/// Of the link with this MAC address. The firmware's UUID names the machine, and the MAC address the link; without a UUID
/// the MAC address names both, so that another card makes another machine.
///
/// Nothing is kept on disk for it: the state partition comes after the network, and a machine that is written to again
/// should get its address again.
pub fn of(root: &Path, mac: [u8; 6]) -> Vec<u8> {
    let mut identifier = vec![NODE_SPECIFIC, mac[2], mac[3], mac[4], mac[5]];
    match fs::read_to_string(under(root, UUID_FILE)).ok().and_then(|text| uuid(&text)) {
        Some(uuid) => {
            identifier.extend(DUID_UUID);
            identifier.extend(uuid);
        }
        None => {
            identifier.extend(DUID_LL_ETHERNET);
            identifier.extend(mac);
        }
    }
    identifier
}

fn uuid(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
    let number = u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32)?;
    // What firmware says that knows none.
    (number != 0 && number != u128::MAX).then(|| number.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_firmware_names_the_machine_or_else_the_card() {
        let root = tempfile::tempdir().unwrap();
        let mac = [0x52, 0x54, 0, 0, 0, 1];
        let by_card = [255, 0, 0, 0, 1, 0, 3, 0, 1, 0x52, 0x54, 0, 0, 0, 1];
        assert_eq!(of(root.path(), mac), by_card);
        let file = root.path().join("sys/class/dmi/id/product_uuid");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "b08dfaa6-fb5c-469a-8cb0-0b6b6a1ea4c3\n").unwrap();
        let by_uuid = of(root.path(), mac);
        assert_eq!((&by_uuid[..9], by_uuid.len()), (&[255, 0, 0, 0, 1, 0, 4, 0xb0, 0x8d][..], 23));
        for none in
            ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "Not Settable"]
        {
            fs::write(&file, none).unwrap();
            assert_eq!(of(root.path(), mac), by_card, "{none}");
        }
    }
}
