//! Which disk keeps what a node must remember.

use serde::{Deserialize, Serialize};

/// `state-disk` of a node: everything that is written has to hold. Of several disks that fit the one that has the node's
/// state is taken, else the first that is empty; one with anything else on it is never touched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct StateDisk {
    /// Serial number, as `lsblk -o NAME,SERIAL` tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// World Wide Name, as `lsblk -o NAME,WWN` tells it: `0x5000c500a1b2c3d4`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wwn: Option<String>,
    /// Where it is plugged in: a part of its path in `/sys`, the address of its controller for instance:
    /// `0000:00:1f.2/ata3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Least size: a whole number with `G` or `T` (of 1000, as on the label), or `Gi` or `Ti` (of 1024).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_size: Option<String>,
}

impl StateDisk {
    /// Least size, bytes; 0 if none is written.
    pub fn min_bytes(&self) -> u64 {
        self.min_size.as_deref().and_then(bytes).unwrap_or(0)
    }
}

/// Bytes of a size like `100G`; `None` if it is none.
pub fn bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let unit: u64 = match unit {
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// Digits of a World Wide Name, without what says of which kind it is: the kernel writes `naa.`, people `0x`.
pub fn wwn_digits(text: &str) -> String {
    let text = text.trim().to_ascii_lowercase();
    let kinds = ["0x", "naa.", "eui.", "uuid."];
    let digits = kinds.iter().find_map(|kind| text.strip_prefix(kind)).unwrap_or(&text);
    digits.replace('-', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_a_number_and_a_unit() {
        assert_eq!(bytes("100G"), Some(100_000_000_000));
        assert_eq!(bytes("2Ti"), Some(2 << 40));
        for bad in ["", "G", "100", "1.5T", "100 G", "-1G", "100g", "99999999999T"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }

    #[test]
    fn world_wide_names_are_compared_by_their_digits() {
        assert_eq!(wwn_digits("0x5000C500A1B2C3D4"), wwn_digits("naa.5000c500a1b2c3d4\n"));
        assert_eq!(wwn_digits("eui.0025385b71b0a2c4"), "0025385b71b0a2c4");
    }
}
