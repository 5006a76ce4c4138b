//! One file per stage, in boot order, and the runner that times and reports them.

pub mod baked;
pub mod certificates;
pub mod clock;
pub mod command_line;
pub mod firmware;
pub mod grace;
pub mod hold;
pub mod identity;
pub mod initramfs;
pub mod modules;
pub mod mounts;
pub mod network;
pub mod node;
pub mod parameters;
pub mod pod_network;
pub mod randomness;
pub mod readahead;
pub mod reserve;
pub mod root;
pub mod services;
pub mod state;
pub mod uevent;

use std::error::Error;

pub use bootwright_model::report::Problem;
use bootwright_model::report::{Outcome, Stage};

use crate::report::{Reporter, chain, uptime_ms, uptime_us};

/// What a person can do about an error: the last line that they see of it.
pub trait Advice: Error {
    /// One line, an imperative.
    fn advice(&self) -> String;
}

/// The whole chain of an error that the boot goes on without, with its advice.
pub fn problem<E: Advice + 'static>(error: &E) -> Problem {
    Problem { chain: chain(error), next: error.advice() }
}

/// What a stage did.
#[derive(Debug)]
pub struct Done<T> {
    /// For the stages that come after.
    pub value: T,
    /// One line for the console.
    pub summary: String,
    /// What it had to go on without: the stage counts as degraded.
    pub problems: Vec<Problem>,
}

impl<T> Done<T> {
    /// A stage without problems.
    pub fn new(value: T, summary: impl Into<String>) -> Done<T> {
        Done { value, summary: summary.into(), problems: Vec::new() }
    }
}

/// The boot cannot go on; the console has been told why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop;

/// Runs stages one after the other.
pub struct Runner<'a> {
    reporter: &'a Reporter,
    /// What the machine does after a failed stage, as a sentence.
    next: String,
}

impl<'a> Runner<'a> {
    /// `next` is what the machine does after a failed stage, as a sentence.
    pub fn new(reporter: &'a Reporter, next: String) -> Runner<'a> {
        Runner { reporter, next }
    }

    /// Runs and reports one stage.
    pub fn run<T, E, F>(&self, name: &str, work: F) -> Result<T, Stop>
    where
        E: Advice + 'static,
        F: FnOnce() -> Result<Done<T>, E>,
    {
        let (started_ms, started_us) = (uptime_ms(), uptime_us());
        let result = work();
        let duration_us = uptime_us() - started_us;
        let (value, summary, outcome) = match result {
            Ok(Done { value, summary, problems }) if problems.is_empty() => {
                (Ok(value), summary, Outcome::Passed)
            }
            Ok(Done { value, summary, problems }) => {
                (Ok(value), format!("{summary}; going on without"), Outcome::Degraded { problems })
            }
            Err(error) => {
                let next = format!("{}; {}", error.advice(), self.next);
                (Err(Stop), "the boot stops here".to_owned(), Outcome::Failed { chain: chain(&error), next })
            }
        };
        let name = name.to_owned();
        self.reporter.stage(Stage { name, started_ms, duration_us, summary, outcome });
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("no disk")]
    struct NoDisk(#[source] std::io::Error);

    impl Advice for NoDisk {
        fn advice(&self) -> String {
            "add a disk".into()
        }
    }

    #[test]
    fn the_outcome_of_a_stage_is_in_the_report() {
        let root = tempfile::tempdir().unwrap();
        let reporter = Reporter::open(root.path());
        let runner = Runner::new(&reporter, "reboot in 5 s".into());
        let error = || NoDisk(std::io::Error::from_raw_os_error(libc::ENXIO));
        assert_eq!(runner.run("a", || Ok::<_, NoDisk>(Done::new(7, "fine"))), Ok(7));
        let degraded = Done { problems: vec![problem(&error())], ..Done::new((), "some") };
        assert_eq!(runner.run("b", || Ok::<_, NoDisk>(degraded)), Ok(()));
        assert_eq!(runner.run("c", || Err::<Done<()>, _>(error())), Err(Stop));
        let outcomes: Vec<Outcome> =
            reporter.snapshot().stages.into_iter().map(|stage| stage.outcome).collect();
        let io = "No such device or address (os error 6)";
        assert_eq!(outcomes[0], Outcome::Passed);
        assert_eq!(
            outcomes[1],
            Outcome::Degraded {
                problems: vec![Problem {
                    chain: vec!["no disk".into(), io.into()],
                    next: "add a disk".into()
                }]
            }
        );
        assert_eq!(
            outcomes[2],
            Outcome::Failed {
                chain: vec!["no disk".into(), io.into()],
                next: "add a disk; reboot in 5 s".into()
            }
        );
    }
}
