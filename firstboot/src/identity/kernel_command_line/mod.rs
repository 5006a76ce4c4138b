//! The kernel command line: `bootwright.node=NAME`, and `bootwright.seed=URL` with a checksum.
//!
//! In an image that is the same for many machines it comes from a boot server or a hypervisor; the loader of a disk
//! starts a command line that was built in.

mod seed_url;

use std::time::{Duration, Instant};

use bootwright_model::seed::Seed;

use self::seed_url::SeedUrl;
use super::fetch::way::{self, WayError};
use super::fetch::{AskError, Port, Service};
use super::machine::Machine;
use super::source::{Source, SourceError};
use super::{Claim, document};

/// Key of the node's name.
const NODE: &str = "bootwright.node";
/// Key of a seed's address.
const SEED: &str = "bootwright.seed";
/// For a seed that somebody has put on a server for this machine: a switch with spanning tree lets nothing through for the
/// first 30 s.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the command line says.
pub struct KernelCommandLine;

impl Source for KernelCommandLine {
    fn name(&self) -> &'static str {
        "the kernel command line"
    }

    fn evidence(&self, machine: &Machine) -> bool {
        [NODE, SEED].into_iter().any(|key| machine.command_line.value(key).is_some())
    }

    fn read(&self, machine: &Machine) -> Vec<Result<Claim, SourceError>> {
        let named = machine.command_line.value(NODE).map(|name| {
            let says = Seed { name: Some(name.to_owned()), ..Seed::default() };
            Ok(Claim::new(format!("the kernel command line ({NODE})"), says))
        });
        let fetched = machine.command_line.value(SEED).map(|url| fetch(machine, url));
        named.into_iter().chain(fetched).collect()
    }
}

fn fetch(machine: &Machine, text: &str) -> Result<Claim, SourceError> {
    let url: SeedUrl = text.parse().map_err(|error: seed_url::NoSeedUrl| SourceError::Mistake {
        document: format!("{SEED}= on the kernel command line"),
        message: error.to_string(),
        next: "correct the command line where the boot server or hypervisor has it",
    })?;
    let end = Instant::now() + PATIENCE;
    let service = Service::new(url.server, Port::Any, end);
    let get = |_: &_| Ok(service.needed(&url.path, service.get(&url.path, &[])?)?);
    let bytes = way::through_any(&machine.root, end, PATIENCE, get).map_err(|error: WayError| match error {
        WayError::Ask(AskError::Source(error)) => error,
        error => SourceError::Unreadable {
            what: format!("the seed at {url} cannot be fetched"),
            next: "see whether the server has it, and whether this machine reaches the server with the address that DHCP lends",
            source: std::io::Error::other(error),
        },
    })?;
    let place = format!("node.toml at {url}");
    url.check(&bytes).map_err(|found| SourceError::Mistake {
        document: place.clone(),
        message: format!("its SHA-256 is {found}, and {} is on the kernel command line", url.sha256()),
        next: "put the document that was meant on the server, or its checksum on the command line",
    })?;
    let says = document::seed(&bytes, &place, "correct the document, and its checksum on the command line")?;
    Ok(Claim::new(format!("the kernel command line's {url}"), says))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::command_line::CommandLine;

    fn with(text: &str) -> Machine {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("proc")).unwrap();
        std::fs::write(root.path().join("proc/cmdline"), text).unwrap();
        Machine { command_line: CommandLine::read(root.path()), ..Machine::default() }
    }

    #[test]
    fn the_name_is_taken() {
        assert!(!KernelCommandLine.evidence(&with("quiet roothash=aa\n")));
        let machine = with("quiet bootwright.node=cp1 roothash=aa\n");
        assert!(KernelCommandLine.evidence(&machine));
        let claim = KernelCommandLine.read(&machine).remove(0).unwrap();
        assert_eq!(claim.says, Seed { name: Some("cp1".to_owned()), ..Seed::default() });
        assert_eq!(claim.source, "the kernel command line (bootwright.node)");
    }

    #[test]
    fn a_seed_without_a_checksum_is_not_asked_for() {
        let machine = with("quiet bootwright.seed=http://192.168.1.1/w1.toml\n");
        assert!(KernelCommandLine.evidence(&machine));
        insta::assert_snapshot!(
            KernelCommandLine.read(&machine).remove(0).unwrap_err(),
            @"bootwright.seed= on the kernel command line: #sha256= and 64 hexadecimal digits are expected at its end"
        );
    }
}
