//! What the firmware says of the machine (SMBIOS, system information), as far as clouds name their machines by it.

use std::fs;
use std::path::Path;

use crate::report::under;

/// Where the kernel shows it.
const FOLDER: &str = "/sys/class/dmi/id";

/// Why a machine cannot be named after what its firmware says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the cloud's name of this machine is not known: its firmware says no {what} for {pattern}")]
pub struct Unknown {
    /// Placeholder.
    pub what: &'static str,
    /// The whole text.
    pub pattern: String,
}

/// The provider ID after a pattern of the cluster file: `{serial}` and `{uuid}` from the firmware, `{name}` the node's.
pub fn provider_id(root: &Path, pattern: &str, name: &str) -> Result<String, Unknown> {
    let mut id = pattern.replace("{name}", name);
    // The UUID as the kernel spells it, which is in lower case and in the byte order that clouds use.
    for (what, file) in [("serial", "product_serial"), ("uuid", "product_uuid")] {
        let placeholder = format!("{{{what}}}");
        if id.contains(&placeholder) {
            let text = fs::read_to_string(under(root, FOLDER).join(file)).unwrap_or_default();
            let value = text.trim();
            if value.is_empty() || !value.chars().all(|c| c.is_ascii_graphic()) {
                return Err(Unknown { what, pattern: pattern.to_owned() });
            }
            id = id.replace(&placeholder, value);
        }
    }
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_firmware_names_the_machine() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("sys/class/dmi/id");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("product_serial"), "4711\n").unwrap();
        fs::write(folder.join("product_uuid"), "b08dfaa6-fb5c-469a-8cb0-0b6b6a1ea4c3\n").unwrap();
        let id = |pattern: &str| provider_id(root.path(), pattern, "w1");
        assert_eq!(id("hcloud://{serial}").unwrap(), "hcloud://4711");
        assert_eq!(id("x:///{name}/{uuid}").unwrap(), "x:///w1/b08dfaa6-fb5c-469a-8cb0-0b6b6a1ea4c3");
        for text in ["", " \n", "Not Specified\n"] {
            fs::write(folder.join("product_serial"), text).unwrap();
            assert_eq!(id("hcloud://{serial}").unwrap_err().what, "serial", "{text:?}");
        }
    }
}
