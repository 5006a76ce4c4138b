//! What the firmware says of the machine (SMBIOS): its UUID and serial number, by which the inventory and clouds know
//! it, and a seed among its OEM strings.

pub mod tables;

use std::fs;
use std::path::Path;

use super::Claim;
use super::document;
use super::machine::Machine;
use super::source::{Source, SourceError};
use crate::report::under;

/// Where the kernel shows the fields of its system information.
const FOLDER: &str = "/sys/class/dmi/id";
/// Where the kernel shows all structures.
const TABLE: &str = "/sys/firmware/dmi/tables/DMI";
/// Beginnings of an OEM string that a seed comes after. The second and third are how systemd hands over credentials
/// (systemd.system-credentials(7)), for which hypervisors and their tools have options; theirs in base64 is called binary.
const PREFIXES: [&str; 3] = [
    "bootwright:seed=",
    "io.systemd.credential.binary:bootwright.seed=",
    "io.systemd.credential:bootwright.seed=",
];

/// What the firmware says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Firmware {
    /// UUID of the machine as the kernel spells it: lower case, in the byte order that hypervisors and clouds use. That of
    /// nobody is left out.
    pub uuid: Option<String>,
    /// Serial number of the machine.
    pub serial: Option<String>,
    /// Who made the machine, by which clouds are known.
    pub vendor: Option<String>,
    /// What it is called.
    pub product: Option<String>,
    /// Who made the firmware.
    pub bios_vendor: Option<String>,
    /// Asset tag of the chassis.
    pub chassis_asset_tag: Option<String>,
    /// OEM strings.
    pub oem_strings: Vec<String>,
}

impl Firmware {
    /// Reads it; what a machine does not say is absent.
    pub fn read(root: &Path) -> Firmware {
        let field = |name: &str| {
            let text = fs::read_to_string(under(root, FOLDER).join(name)).ok()?;
            Some(text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        let table = fs::read(under(root, TABLE)).unwrap_or_default();
        Firmware {
            // Not set, or not present (DSP0134, section 7.2.1).
            uuid: field("product_uuid").filter(|uuid| {
                let mut digits = uuid.bytes().filter(|byte| *byte != b'-');
                digits.clone().any(|digit| digit != b'0')
                    && digits.any(|digit| !digit.eq_ignore_ascii_case(&b'f'))
            }),
            serial: field("product_serial"),
            vendor: field("sys_vendor"),
            product: field("product_name"),
            bios_vendor: field("bios_vendor"),
            chassis_asset_tag: field("chassis_asset_tag"),
            oem_strings: tables::oem_strings(&table),
        }
    }

    /// The provider ID after a pattern of the cluster file: `{serial}` and `{uuid}` from the firmware, `{name}` the node's.
    pub fn provider_id(&self, pattern: &str, name: &str) -> Result<String, Unknown> {
        let mut id = pattern.replace("{name}", name);
        for (what, value) in [("serial", &self.serial), ("uuid", &self.uuid)] {
            let placeholder = format!("{{{what}}}");
            if id.contains(&placeholder) {
                let value = value.as_ref().filter(|value| value.chars().all(|c| c.is_ascii_graphic()));
                let unknown = || Unknown { what, pattern: pattern.to_owned() };
                id = id.replace(&placeholder, value.ok_or_else(unknown)?);
            }
        }
        Ok(id)
    }
}

/// Why a machine cannot be named after what its firmware says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the cloud's name of this machine is not known: its firmware says no {what} for {pattern}")]
pub struct Unknown {
    /// Placeholder.
    pub what: &'static str,
    /// The whole text.
    pub pattern: String,
}

/// A seed in an OEM string.
pub struct OemStrings;

impl Source for OemStrings {
    fn name(&self) -> &'static str {
        "the firmware's OEM strings"
    }

    fn evidence(&self, machine: &Machine) -> bool {
        seeds(&machine.firmware).next().is_some()
    }

    fn read(&self, machine: &Machine) -> Vec<Result<Claim, SourceError>> {
        let claim = |(prefix, text): (&'static str, &str)| {
            let source = format!("the firmware's OEM string {}", prefix.trim_end_matches('='));
            let next =
                "correct the node.toml that is handed over in the firmware's OEM strings (SMBIOS type 11)";
            let says = document::seed(text.as_bytes(), &format!("node.toml in {source}"), next);
            says.map(|says| Claim::new(source, says))
        };
        seeds(&machine.firmware).map(claim).collect()
    }
}

fn seeds(firmware: &Firmware) -> impl Iterator<Item = (&'static str, &str)> {
    firmware.oem_strings.iter().filter_map(|string| {
        PREFIXES.into_iter().find_map(|prefix| Some((prefix, string.strip_prefix(prefix)?)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine whose firmware says this.
    fn machine(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, contents) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, contents).unwrap();
        }
        root
    }

    #[test]
    fn the_firmware_names_the_machine() {
        let uuid = b"b08dfaa6-fb5c-469a-8cb0-0b6b6a1ea4c3\n";
        let root = machine(&[
            ("sys/class/dmi/id/product_serial", b"4711\n"),
            ("sys/class/dmi/id/product_uuid", uuid),
        ]);
        let id = |pattern: &str| Firmware::read(root.path()).provider_id(pattern, "w1");
        assert_eq!(id("hcloud://{serial}").unwrap(), "hcloud://4711");
        assert_eq!(id("x:///{name}/{uuid}").unwrap(), "x:///w1/b08dfaa6-fb5c-469a-8cb0-0b6b6a1ea4c3");
        for text in ["", " \n", "Not Specified\n"] {
            fs::write(root.path().join("sys/class/dmi/id/product_serial"), text).unwrap();
            assert_eq!(id("hcloud://{serial}").unwrap_err().what, "serial", "{text:?}");
        }
    }

    #[test]
    fn the_uuid_of_nobody_is_none() {
        for nobody in ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"] {
            let root = machine(&[("sys/class/dmi/id/product_uuid", nobody.as_bytes())]);
            assert_eq!(Firmware::read(root.path()).uuid, None, "{nobody}");
        }
    }

    #[test]
    fn a_seed_in_an_oem_string_is_read_in_each_of_its_forms() {
        // What QEMU's option -smbios type=11 made in a guest's memory, of which the kernel shows the same bytes.
        let table = include_bytes!("fixtures/qemu-oem-strings.bin");
        let root = machine(&[("sys/firmware/dmi/tables/DMI", table)]);
        let machine = Machine { firmware: Firmware::read(root.path()), ..Machine::default() };
        assert!(OemStrings.evidence(&machine));
        let claims: Vec<Claim> = OemStrings.read(&machine).into_iter().map(Result::unwrap).collect();
        let said: Vec<String> = claims
            .iter()
            .map(|claim| format!("{} by {}", claim.says.name.as_deref().unwrap(), claim.source))
            .collect();
        insta::assert_snapshot!(said.join("\n"), @r"
        cp1 by the firmware's OEM string bootwright:seed
        cp1 by the firmware's OEM string io.systemd.credential.binary:bootwright.seed
        cp1 by the firmware's OEM string io.systemd.credential:bootwright.seed
        ");
    }

    #[test]
    fn a_mistake_in_it_is_shown_and_other_strings_are_no_sign() {
        let with = |string: &str| Machine {
            firmware: Firmware { oem_strings: vec![string.to_owned()], ..Firmware::default() },
            ..Machine::default()
        };
        assert!(!OemStrings.evidence(&with("bootwright:other=bmFtZQ==")));
        let error = OemStrings.read(&with("bootwright:seed=nahme = 1")).remove(0).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("node.toml in the firmware's OEM string bootwright:seed, line 1"), "{text}");
    }
}
