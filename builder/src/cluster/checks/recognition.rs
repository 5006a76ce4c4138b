//! What a machine is recognised by: MAC address, and UUID and serial number of its firmware.

use bootwright_model::cluster::Node;

use super::node;
use crate::cluster::text::finding::Finding;

/// Serial numbers of machines that were given none.
const NO_SERIALS: [&str; 8] = [
    "0",
    "0123456789",
    "Default string",
    "None",
    "Not Applicable",
    "Not Specified",
    "System Serial Number",
    "To be filled by O.E.M.",
];

pub(super) fn check(index: usize, one: &Node, findings: &mut Vec<Finding>) {
    mac(index, one, findings);
    uuid(index, one, findings);
    serial(index, one, findings);
}

fn mac(index: usize, one: &Node, findings: &mut Vec<Finding>) {
    let Some(text) = &one.mac else { return };
    let finding =
        |message: String, label: &str| Finding::new("mac", message).at_value(node(index, "mac"), label);
    match parse_mac(text) {
        None => findings.push(
            finding(format!("\"{text}\" is not a MAC address"), "not a MAC address")
                .help("write six pairs of hexadecimal digits with colons: \"52:54:00:00:00:01\""),
        ),
        Some(bytes) if bytes[0] & 1 == 1 || bytes == [0; 6] => findings.push(
            finding(format!("{text} cannot be the MAC address of a machine"), "multicast or zero")
                .help("the first byte must be even; read it from the machine's link"),
        ),
        Some(_) => {}
    }
}

/// As the firmware says it.
fn uuid(index: usize, one: &Node, findings: &mut Vec<Finding>) {
    let Some(text) = &one.uuid else { return };
    let finding = |message: String, label: &str| {
        Finding::new("uuid", message)
            .at_value(node(index, "uuid"), label)
            .help("write it as the machine's /sys/class/dmi/id/product_uuid has it")
    };
    let mut digits = text.bytes().filter(|byte| *byte != b'-').map(|digit| digit.to_ascii_lowercase());
    if !is_uuid(text) {
        findings.push(finding(format!("\"{text}\" is not a UUID"), "not a UUID"));
    } else if digits.clone().all(|digit| digit == b'0') || digits.all(|digit| digit == b'f') {
        findings.push(finding(format!("{text} is what firmware says that has no UUID"), "of no machine"));
    }
}

/// As the firmware says it.
fn serial(index: usize, one: &Node, findings: &mut Vec<Finding>) {
    let Some(text) = &one.serial else { return };
    let finding = |message: String, label: &str| {
        Finding::new("serial", message)
            .at_value(node(index, "serial"), label)
            .help("write it as the machine's /sys/class/dmi/id/product_serial has it, or use mac or uuid")
    };
    let is_plain = text.chars().all(|c| c == ' ' || c.is_ascii_graphic());
    if text.is_empty() || text.trim() != text || !is_plain {
        findings.push(finding(
            format!("\"{text}\" is not a serial number"),
            "empty, or with other signs than ASCII's",
        ));
    } else if NO_SERIALS.iter().any(|nobody| nobody.eq_ignore_ascii_case(text)) {
        let message = format!("\"{text}\" is what firmware says that has no serial number");
        findings.push(finding(message, "of many machines"));
    }
}

/// RFC 9562, section 4, in either case.
fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

pub(super) fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        let part =
            parts.next().filter(|part| part.len() == 2 && part.bytes().all(|c| c.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_addresses() {
        assert_eq!(parse_mac("52:54:00:aB:00:01"), Some([0x52, 0x54, 0, 0xab, 0, 1]));
        for bad in [
            "",
            "52:54:00:00:00",
            "52:54:00:00:00:01:02",
            "5:54:00:00:00:01",
            "52-54-00-00-00-01",
            "+2:54:00:00:00:01",
        ] {
            assert_eq!(parse_mac(bad), None, "{bad}");
        }
    }

    #[test]
    fn uuids() {
        assert!(is_uuid("B08DFAA6-fb5c-469a-8cb0-0b6b6a1ea4c3"));
        for bad in [
            "",
            "b08dfaa6fb5c469a8cb00b6b6a1ea4c3",
            "b08dfaa6-fb5c-469a-8cb0-0b6b6a1ea4cg",
            "b08dfaa6-fb5c-469a-8cb0",
        ] {
            assert!(!is_uuid(bad), "{bad}");
        }
    }
}
