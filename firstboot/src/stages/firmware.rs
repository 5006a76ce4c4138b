//! **firmware**: files that drivers asked for in vain. A stage only where there are any.
//!
//! A driver asks for its file when it finds its device, or when the link is brought up, and says in the kernel's log that it
//! was not there: nobody else is told, and the device is dead for no reason that a person could see.

use std::collections::BTreeSet;

use super::{Advice, Done, Problem, Runner, problem};
use crate::kmsg::{Log, Record};

/// How many are told: one driver may ask for a dozen of them in turn.
const MOST: usize = 16;
/// The words of `_request_firmware`, drivers/base/firmware_loader/main.c. They are not said if the driver can do without.
const WORDS: &str = ": Direct firmware load for ";
const ERROR: &str = " failed with error ";
/// `-ENOENT`
const ABSENT: &str = "-2";

/// A file that a driver did not get.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum FirmwareError {
    /// It is not in the image.
    #[error("{driver} asks for the file {file} for {device}, and the image does not have it")]
    Absent {
        /// Driver, or the bus of a device that has none.
        driver: String,
        /// The kernel's name of it: `0000:02:00.0`.
        device: String,
        /// Below `/usr/lib/firmware`.
        file: String,
    },
    /// It cannot be taken.
    #[error("{driver} asks for the file {file} for {device}, and the kernel cannot load it: error {error}")]
    Unusable {
        /// Driver.
        driver: String,
        /// Device.
        device: String,
        /// File.
        file: String,
        /// The kernel's, negative.
        error: String,
    },
}

impl Advice for FirmwareError {
    fn advice(&self) -> String {
        match self {
            FirmwareError::Absent { .. } => {
                "if the device does not work, name the package that has the file in `firmware` of [base] in the cluster \
                 file, with components = [\"main\", \"non-free-firmware\"], and build again"
            }
            FirmwareError::Unusable { .. } => "write the image to the disk again",
        }
        .to_owned()
    }
}

/// Runs the stage if more files than `told` were asked for in vain by now; how many there are.
pub fn tell(log: &mut Log, runner: &Runner<'_>, told: usize) -> usize {
    let missed = missed(log.records());
    if missed.len() > told {
        // It cannot fail.
        let _ = runner.run("firmware", || Ok::<_, FirmwareError>(done(&missed)));
    }
    missed.len()
}

fn done(missed: &BTreeSet<FirmwareError>) -> Done<()> {
    let problems: Vec<Problem> = missed.iter().take(MOST).map(problem).collect();
    let summary = match (missed.len(), missed.len().saturating_sub(MOST)) {
        (1, _) => "1 file that a driver asks for is missing".to_owned(),
        (all, 0) => format!("{all} files that drivers ask for are missing"),
        (all, more) => format!("{all} files that drivers ask for are missing, {more} of them not listed"),
    };
    Done { value: (), summary, problems }
}

/// The files that were asked for in vain, each once for a device.
pub fn missed(log: &[Record]) -> BTreeSet<FirmwareError> {
    log.iter().filter_map(|record| of(&record.text)).collect()
}

/// `bnx2 0000:02:00.0: Direct firmware load for bnx2/x.fw failed with error -2`
fn of(text: &str) -> Option<FirmwareError> {
    let (who, what) = text.split_once(WORDS)?;
    let (file, error) = what.rsplit_once(ERROR)?;
    let (driver, device) = who.split_once(' ')?;
    let [driver, device, file, error] = [driver, device, file, error.trim()].map(str::to_owned);
    Some(match error.as_str() {
        ABSENT => FirmwareError::Absent { driver, device, file },
        _ => FirmwareError::Unusable { driver, device, file, error },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Reporter;

    fn root(log: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("dev")).unwrap();
        std::fs::write(root.path().join("dev/kmsg"), log).unwrap();
        root
    }

    #[test]
    fn each_file_is_told_once_with_what_to_do() {
        let twice =
            "4,7,6001200,-;bnx2 0000:02:00.0: Direct firmware load for bnx2/mips.fw failed with error -2\n";
        let other =
            "4,8,6001300,-;ice 0000:03:00.0: Direct firmware load for intel/ice.pkg failed with error -22\n";
        let root = root(&[twice, twice, other, "6,9,6001400,-;bnx2 0000:02:00.0 eth0: up\n"].concat());
        let reporter = Reporter::open(root.path());
        let runner = Runner::new(&reporter, String::new());
        let mut kept = Log::open(root.path());
        assert_eq!(tell(&mut kept, &runner, 0), 2);
        let stage = reporter.snapshot().stages.remove(0);
        insta::assert_debug_snapshot!((stage.summary, stage.outcome));
        // Nothing new, nothing said.
        assert_eq!(tell(&mut kept, &runner, 2), 2);
        assert_eq!(reporter.snapshot().stages.len(), 1);
    }

    #[test]
    fn a_machine_whose_drivers_have_all_has_no_such_stage() {
        let root = root("6,1,2,-;random: crng init done\n");
        let reporter = Reporter::open(root.path());
        assert_eq!(tell(&mut Log::open(root.path()), &Runner::new(&reporter, String::new()), 0), 0);
        assert_eq!(reporter.snapshot().stages, []);
    }

    #[test]
    fn a_driver_that_asks_for_many_does_not_fill_the_screen() {
        let line = |n| {
            format!("4,{n},1,-;nfp 0000:01:00.0: Direct firmware load for nfp/{n}.fw failed with error -2\n")
        };
        let root = root(&(0..20).map(line).collect::<String>());
        let done = done(&missed(Log::open(root.path()).records()));
        assert_eq!(done.problems.len(), MOST);
        assert_eq!(done.summary, "20 files that drivers ask for are missing, 4 of them not listed");
    }
}
