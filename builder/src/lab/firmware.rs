//! The two firmwares that an image has to boot under.

use std::path::{Path, PathBuf};

use super::Error;

/// Firmware of a machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Firmware {
    /// SeaBIOS, QEMU's default.
    #[default]
    Bios,
    /// OVMF without Secure Boot.
    Uefi,
}

/// Code and variable store of OVMF, as Debian's package `ovmf` installs them; the store is a template.
const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const OVMF_VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
/// Name of a machine's own variable store in its folder.
const VARIABLES: &str = "variables.fd";

impl Firmware {
    /// Puts what the firmware writes to into the machine's folder.
    ///
    /// # Errors
    /// The firmware is not installed, or the copy fails.
    pub fn prepare(self, folder: &Path) -> Result<(), Error> {
        if self == Firmware::Bios {
            return Ok(());
        }
        for (what, path) in [("UEFI firmware", OVMF_CODE), ("UEFI variable store", OVMF_VARIABLES)] {
            if !Path::new(path).is_file() {
                return Err(Error::MissingFirmware { what, path: PathBuf::from(path), package: "ovmf" });
            }
        }
        let variables = folder.join(VARIABLES);
        std::fs::copy(OVMF_VARIABLES, &variables).map_err(Error::file("write", &variables))?;
        Ok(())
    }

    /// QEMU's arguments; paths are relative to the machine's folder.
    pub fn arguments(self) -> Vec<String> {
        match self {
            Firmware::Bios => Vec::new(),
            Firmware::Uefi => [
                "-drive".to_owned(),
                format!("if=pflash,format=raw,unit=0,readonly=on,file={OVMF_CODE}"),
                "-drive".to_owned(),
                format!("if=pflash,format=raw,unit=1,file={VARIABLES}"),
            ]
            .into(),
        }
    }
}
