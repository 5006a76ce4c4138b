//! VMware: values that its hypervisor keeps for a machine ([`guestinfo`]), and the properties of one that was made from a
//! template ([`ovf`]), which the hypervisor keeps too or makes a disc of.
//!
//! The hypervisor is asked through a port of its own ([`port`]), by messages ([`rpci`]): no program of VMware's is needed.

pub mod guestinfo;
pub mod ovf;
pub mod port;
pub mod rpci;

use super::Claim;
use super::drives::Drive;
use super::machine::Machine;
use super::smbios::Firmware;
use super::source::{Source, SourceError};
use port::Port;

/// How the vendor (`VMware, Inc.`) and the product (`VMware7,1`, `VMware Virtual Platform`) in the firmware of all of
/// VMware's machines begin.
const NAME: &str = "VMware";
const NEXT_DRIVE: &str = "correct the virtual machine's OVF properties, and make its disc again";

/// guestinfo and the OVF environment.
pub struct VMware;

impl Source for VMware {
    fn name(&self) -> &'static str {
        "VMware's guestinfo and OVF environment"
    }

    fn evidence(&self, machine: &Machine) -> bool {
        is_vmwares(&machine.firmware) || drives(machine).next().is_some()
    }

    fn read(&self, machine: &Machine) -> Vec<Result<Claim, SourceError>> {
        let mut claims = Vec::new();
        if is_vmwares(&machine.firmware) {
            claims = match Port::open() {
                Ok(mut port) => guestinfo::read(&mut port),
                Err(source) => vec![Err(no_port(source))],
            };
        }
        claims.extend(drives(machine).flat_map(of_drive));
        claims
    }
}

/// Whether the machine is one of VMware's: only then is the port touched.
fn is_vmwares(firmware: &Firmware) -> bool {
    [&firmware.vendor, &firmware.product].into_iter().flatten().any(|text| text.starts_with(NAME))
}

fn no_port(source: std::io::Error) -> SourceError {
    SourceError::Unreadable {
        what: format!(
            "the kernel does not grant I/O port {:#x}, by which VMware's guestinfo is read",
            port::PORT
        ),
        next: "boot without the kernel's lockdown, or hand over the node.toml in another way (docs/identity.md)",
        source,
    }
}

fn drives(machine: &Machine) -> impl Iterator<Item = &Drive> {
    machine.drives.drives.iter().filter(|drive| drive.label == ovf::LABEL)
}

fn of_drive(drive: &Drive) -> Vec<Result<Claim, SourceError>> {
    let device = drive.device.display();
    let unreadable = |source: std::io::Error| {
        let what = format!("the OVF environment on {device} cannot be read");
        vec![Err(SourceError::Unreadable { what, next: "make the virtual machine's disc again", source })]
    };
    match &drive.files {
        Err(error) => unreadable(std::io::Error::new(error.kind(), error.to_string())),
        Ok(files) => match ovf::FILES.iter().find_map(|name| files.get(name)) {
            Some(bytes) => ovf::claims(bytes, &device.to_string(), NEXT_DRIVE),
            None => unreadable(std::io::Error::other(format!("it has no file {}", ovf::FILES[0]))),
        },
    }
}

#[cfg(test)]
mod host;
#[cfg(test)]
mod tests;
