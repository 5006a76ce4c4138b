//! Disks for the nodes' state.

use bootwright_model::cluster::ClusterFile;
use bootwright_model::state_disk::{StateDisk, bytes, wwn_digits};

use super::node;
use crate::cluster::text::finding::{Finding, KeyPath};

pub fn check(file: &ClusterFile, findings: &mut Vec<Finding>) {
    for (index, one) in file.nodes.iter().enumerate() {
        if let Some(wanted) = &one.state_disk {
            check_one(&node(index, "state-disk"), wanted, findings);
        }
    }
}

fn check_one(path: &KeyPath, wanted: &StateDisk, findings: &mut Vec<Finding>) {
    if *wanted == StateDisk::default() {
        findings.push(
            Finding::new("state-disk", "`state-disk` does not say which disk")
                .at_value(path.clone(), "empty")
                .help("write serial, wwn, path or min-size; \"0G\" as min-size is any empty disk"),
        );
    }
    let mut refuse = |key: &str, text: &str, what: &str, help: &str| {
        findings.push(
            Finding::new("state-disk", format!("\"{text}\" is {what}"))
                .at_value(path.clone().key(key), what)
                .help(help),
        );
    };
    if let Some(text) = wanted.min_size.as_deref().filter(|text| bytes(text).is_none()) {
        refuse("min-size", text, "not a size", "write a whole number and G, T, Gi or Ti: \"100G\"");
    }
    let hexadecimal = |text: &str| {
        let digits = wwn_digits(text);
        !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    };
    if let Some(text) = wanted.wwn.as_deref().filter(|text| !hexadecimal(text)) {
        refuse(
            "wwn",
            text,
            "not a World Wide Name",
            "write what `lsblk -o NAME,WWN` says: \"0x5000c500a1b2c3d4\"",
        );
    }
    for (key, value) in [("serial", &wanted.serial), ("path", &wanted.path)] {
        if let Some(text) = value.as_deref().filter(|text| text.trim().is_empty() || text.trim() != *text) {
            refuse(key, text, "blank, or has blanks around it", "write it as the machine says it");
        }
    }
}
