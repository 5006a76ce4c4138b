//! QEMU's fw_cfg: a seed as the file `opt/bootwright/seed`, `qemu -fw_cfg name=opt/bootwright/seed,file=node.toml`.
//!
//! The kernel's module qemu_fw_cfg shows it; it is asked for by the ACPI device QEMU0002 and loaded with the drivers.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use super::Claim;
use super::document::{self, MOST_BYTES};
use super::machine::Machine;
use super::source::{Source, SourceError};
use crate::report::under;

/// Name that QEMU's documentation (docs/specs/fw_cfg) leaves to users: `opt/`, then the one who defines it.
const FILE: &str = "opt/bootwright/seed";
/// Where the kernel shows files by name, each a folder.
const FOLDER: &str = "/sys/firmware/qemu_fw_cfg/by_name";

/// The seed in fw_cfg.
pub struct FwCfg;

impl Source for FwCfg {
    fn name(&self) -> &'static str {
        "QEMU's fw_cfg"
    }

    fn evidence(&self, machine: &Machine) -> bool {
        path(machine).exists()
    }

    fn read(&self, machine: &Machine) -> Vec<Result<Claim, SourceError>> {
        vec![read(machine)]
    }
}

fn path(machine: &Machine) -> PathBuf {
    under(&machine.root, FOLDER).join(FILE).join("raw")
}

fn read(machine: &Machine) -> Result<Claim, SourceError> {
    let mut bytes = Vec::new();
    let file = File::open(path(machine));
    file.and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes)).map_err(|source| {
        let what = format!("QEMU's fw_cfg {FILE} cannot be read");
        SourceError::Unreadable {
            what,
            next: "give QEMU the seed again: -fw_cfg name=opt/bootwright/seed,file=…",
            source,
        }
    })?;
    let source = format!("QEMU's fw_cfg {FILE}");
    let next = "correct the node.toml that QEMU's option -fw_cfg hands over";
    let says = document::seed(&bytes, &format!("node.toml in {source}"), next)?;
    Ok(Claim::new(source, says))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_read_by_its_name() {
        let root = tempfile::tempdir().unwrap();
        let machine = Machine { root: root.path().to_owned(), ..Machine::default() };
        assert!(!FwCfg.evidence(&machine));
        // As the kernel has it: the name leads to a folder of the file's number.
        let sys = root.path().join("sys/firmware/qemu_fw_cfg");
        std::fs::create_dir_all(sys.join("by_key/37")).unwrap();
        std::fs::create_dir_all(sys.join("by_name/opt/bootwright")).unwrap();
        std::os::unix::fs::symlink("../../../by_key/37", sys.join("by_name/opt/bootwright/seed")).unwrap();
        let raw = sys.join("by_key/37/raw");
        std::fs::write(&raw, include_bytes!("../../../../examples/seeds/fw_cfg/node.toml")).unwrap();
        assert!(FwCfg.evidence(&machine));
        let claim = FwCfg.read(&machine).remove(0).unwrap();
        assert_eq!(claim.says.name.as_deref(), Some("cp1"));
        assert_eq!(claim.source, "QEMU's fw_cfg opt/bootwright/seed");
        std::fs::write(&raw, "name = cp1").unwrap();
        let error = FwCfg.read(&machine).remove(0).unwrap_err().to_string();
        assert!(
            error.starts_with("node.toml in QEMU's fw_cfg opt/bootwright/seed, line 1, column 8"),
            "{error}"
        );
        std::fs::remove_file(&raw).unwrap();
        std::fs::create_dir(&raw).unwrap();
        assert!(matches!(FwCfg.read(&machine).remove(0), Err(SourceError::Unreadable { .. })));
    }
}
