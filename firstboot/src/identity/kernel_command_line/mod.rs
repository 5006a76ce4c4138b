//! The kernel command line: `bootwright.node=NAME`.
//!
//! In an image that is the same for many machines it comes from a boot server or a hypervisor; the loader of a disk
//! starts a command line that was built in.

use bootwright_model::seed::Seed;

use super::Claim;
use super::machine::Machine;
use super::source::{Source, SourceError};

/// Key of the node's name.
const NODE: &str = "bootwright.node";

/// The node's name on the command line.
pub struct KernelCommandLine;

impl Source for KernelCommandLine {
    fn name(&self) -> &'static str {
        "the kernel command line"
    }

    fn evidence(&self, machine: &Machine) -> bool {
        machine.command_line.value(NODE).is_some()
    }

    fn read(&self, machine: &Machine) -> Vec<Result<Claim, SourceError>> {
        let claim = |name: &str| {
            let says = Seed { name: Some(name.to_owned()), ..Seed::default() };
            Ok(Claim { source: format!("the kernel command line ({NODE})"), says })
        };
        machine.command_line.value(NODE).map(claim).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::command_line::CommandLine;

    #[test]
    fn the_name_is_taken() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("proc")).unwrap();
        let with = |text: &str| {
            std::fs::write(root.path().join("proc/cmdline"), text).unwrap();
            Machine { command_line: CommandLine::read(root.path()), ..Machine::default() }
        };
        assert!(!KernelCommandLine.evidence(&with("quiet roothash=aa\n")));
        let machine = with("quiet bootwright.node=cp1 roothash=aa\n");
        assert!(KernelCommandLine.evidence(&machine));
        let claim = KernelCommandLine.read(&machine).remove(0).unwrap();
        assert_eq!(claim.says, Seed { name: Some("cp1".to_owned()), ..Seed::default() });
        assert_eq!(claim.source, "the kernel command line (bootwright.node)");
    }
}
