//! What a source of identity is, and the order in which sources are asked.

use super::Claim;
use super::config_drive::ConfigDrive;
use super::fw_cfg::FwCfg;
use super::kernel_command_line::KernelCommandLine;
use super::machine::Machine;
use super::metadata::Metadata;
use super::nocloud::NoCloud;
use super::seed::SeedPartition;
use super::smbios::OemStrings;
use super::vmware::VMware;
use crate::stages::{Advice, Problem, problem};

/// A place that may say who this machine is. It is asked only if the machine shows a sign of it, so that none costs
/// anything on a machine that has it not, and nothing is waited for that may not be there.
pub trait Source: Sync {
    /// For messages, with its article: `the seed partition`.
    fn name(&self) -> &'static str;

    /// Whether the machine shows a sign of it.
    fn evidence(&self, machine: &Machine) -> bool;

    /// What it says: one claim for each place that it is found in.
    fn read(&self, machine: &Machine) -> Vec<Result<Claim, SourceError>>;
}

/// All sources but the baked inventory, which is asked last, as it needs the name that these may give. Of values that
/// one source is enough for, that of the first in this order counts; docs/identity.md has the same order.
pub const SOURCES: [&dyn Source; 8] =
    [&SeedPartition, &KernelCommandLine, &FwCfg, &OemStrings, &NoCloud, &ConfigDrive, &VMware, &Metadata];

/// Why what a source has cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It is there, and cannot be read. The boot goes on without: others may be enough.
    #[error("{what}")]
    Unreadable {
        /// What cannot be read, and where.
        what: String,
        /// What to do, an imperative.
        next: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// A person meant something by it that is not understood: the boot ends.
    #[error("{document}: {message}")]
    Mistake {
        /// `node.toml on /dev/vda4, line 3, column 1`
        document: String,
        /// What is wrong there.
        message: String,
        /// What to do, an imperative.
        next: &'static str,
    },
}

impl Advice for SourceError {
    fn advice(&self) -> String {
        match self {
            SourceError::Unreadable { next, .. } | SourceError::Mistake { next, .. } => (*next).to_owned(),
        }
    }
}

/// What all sources say.
#[derive(Debug, Default)]
pub struct Said {
    /// In the order of the sources.
    pub claims: Vec<Claim>,
    /// What the boot goes on without.
    pub problems: Vec<Problem>,
}

/// Asks every source that the machine shows a sign of.
///
/// # Errors
/// A mistake in what a person wrote.
pub fn ask(sources: &[&dyn Source], machine: &Machine) -> Result<Said, SourceError> {
    let mut said = Said::default();
    for device in &machine.drives.silent {
        said.problems.push(problem(&SourceError::Unreadable {
            what: format!("{} gave no answer, whether it says who this machine is", device.display()),
            next: "take it out, or mend it if it does",
            source: std::io::Error::from(std::io::ErrorKind::TimedOut),
        }));
    }
    for source in sources.iter().filter(|source| source.evidence(machine)) {
        for result in source.read(machine) {
            match result {
                Ok(claim) => said.claims.push(claim),
                Err(error @ SourceError::Mistake { .. }) => return Err(error),
                Err(error) => said.problems.push(problem(&error)),
            }
        }
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bootwright_model::seed::Seed;

    use super::*;

    /// A source that says what it is told to, and counts how often it was asked.
    struct Mock {
        evident: bool,
        says: fn() -> Vec<Result<Claim, SourceError>>,
        asked: AtomicUsize,
    }

    impl Source for Mock {
        fn name(&self) -> &'static str {
            "the mock"
        }

        fn evidence(&self, _: &Machine) -> bool {
            self.evident
        }

        fn read(&self, _: &Machine) -> Vec<Result<Claim, SourceError>> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            (self.says)()
        }
    }

    fn mock(evident: bool, says: fn() -> Vec<Result<Claim, SourceError>>) -> Mock {
        Mock { evident, says, asked: AtomicUsize::new(0) }
    }

    fn named() -> Vec<Result<Claim, SourceError>> {
        let says = Seed { name: Some("w1".to_owned()), ..Seed::default() };
        vec![Ok(Claim::new("the mock", says))]
    }

    fn unreadable() -> Vec<Result<Claim, SourceError>> {
        let source = std::io::Error::other("torn");
        vec![Err(SourceError::Unreadable { what: "the mock".to_owned(), next: "mend it", source })]
    }

    fn mistaken() -> Vec<Result<Claim, SourceError>> {
        let (document, message) = ("mock.toml".to_owned(), "no".to_owned());
        vec![Err(SourceError::Mistake { document, message, next: "correct it" })]
    }

    #[test]
    fn only_what_shows_a_sign_is_asked() {
        let (silent, speaking) = (mock(false, mistaken), mock(true, named));
        let said = ask(&[&silent, &speaking], &Machine::default()).unwrap();
        assert_eq!(silent.asked.into_inner(), 0);
        assert_eq!(speaking.asked.into_inner(), 1);
        assert_eq!(said.claims[0].says.name.as_deref(), Some("w1"));
    }

    #[test]
    fn the_unreadable_is_told_and_gone_on_without_and_a_mistake_ends_it() {
        let (torn, speaking, wrong) = (mock(true, unreadable), mock(true, named), mock(true, mistaken));
        let said = ask(&[&torn, &speaking], &Machine::default()).unwrap();
        assert_eq!(said.claims.len(), 1);
        assert_eq!(said.problems[0].chain, ["the mock", "torn"]);
        assert_eq!(said.problems[0].next, "mend it");
        let error = ask(&[&speaking, &wrong], &Machine::default()).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.advice().as_str()), ("mock.toml: no", "correct it"));
    }
}
