//! **clock**: the time, before anything looks at a certificate.
//!
//! A clock that shows less than the image's build time is wrong, and certificates would not be valid yet: it is raised.
//! Then it is set by the time servers, if any are known. What is left to do is chrony's, a service.

pub mod ask;
pub mod verdict;

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bootwright_model::layout;
use bootwright_model::node::NodeFacts;
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

use self::ask::{Answer, Question, ask};
use self::verdict::{Time, length, told};
use super::{Advice, Done, problem};
use crate::certificates;
use crate::report::under;

/// chronyd in the root.
const CHRONYD: &str = "/usr/sbin/chronyd";
/// Where the programs that ask log what they get, below [`layout::RUN`]; it is gone after the stage.
const SCRATCH: &str = "clock";
/// How long a server may take: chronyd asks four times, two seconds apart, in case a packet is lost.
const PATIENCE: Duration = Duration::from_secs(8);
/// How often servers are asked that have to answer: control planes that are to give the time may be starting too.
const ROUNDS_IF_REQUIRED: u32 = 4;
/// What chrony gets rid of by itself within seconds, by letting the clock run faster or slower; seconds.
const NO_STEP: f64 = 0.1;
const NANOSECONDS: i128 = 1_000_000_000;

/// Why the clock is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    /// It is behind and stays so.
    #[error("the clock shows {now} and cannot be raised to {floor} (seconds since 1970)")]
    Behind {
        /// What it shows.
        now: u64,
        /// What it should show at least.
        floor: u64,
        /// Why.
        source: io::Error,
    },
    /// A time server is demanded and none is known.
    #[error("the cluster file demands a time server ([clock] required), and none is known")]
    NoServer,
    /// No server knows the time.
    #[error("no time server tells the time: {told}")]
    NoAnswer {
        /// Who was asked, and what each answered.
        told: String,
    },
    /// The servers' time cannot be.
    #[error("{server} says that it is {length} before this image was built")]
    BeforeImage {
        /// The server.
        server: String,
        /// For a person.
        length: String,
    },
    /// Servers say different things.
    #[error("time servers disagree: the clock is set by {server}, and {told}")]
    Disagreement {
        /// Whose word counted.
        server: String,
        /// What the others say.
        told: String,
    },
    /// The kernel refuses.
    #[error("the clock is {length} off by {server}, and cannot be set")]
    Set {
        /// For a person.
        length: String,
        /// The server.
        server: String,
        /// Why.
        source: io::Error,
    },
}

impl Advice for ClockError {
    fn advice(&self) -> String {
        match self {
            ClockError::Behind { .. } | ClockError::Set { .. } => {
                "set the machine's hardware clock in the firmware"
            }
            ClockError::NoServer => {
                "name servers in [clock] of the cluster file, or of node.toml on the seed partition"
            }
            ClockError::NoAnswer { .. } => {
                "see that they run and that UDP port 123 leads to them, or name others in [clock]; chrony goes on asking"
            }
            ClockError::BeforeImage { .. } => {
                "correct that server, or build the image again on a machine whose clock is right"
            }
            ClockError::Disagreement { .. } => "correct the servers that are wrong, or name three or more",
        }
        .to_owned()
    }
}

/// Raises the clock to the image's build time, or to when the authorities became valid, if it is behind; then sets it by
/// the time servers. Without servers it takes no time, with servers that do not answer [`PATIENCE`].
pub fn run(root: &Path, facts: &NodeFacts) -> Result<Done<()>, ClockError> {
    let pki = under(root, layout::RUN_CLUSTER).join(layout::CLUSTER_PKI);
    // An authority that cannot be read is the stage `certificates`' to tell.
    let authorities = certificates::clock_floor(&pki).unwrap_or(0);
    let floor = facts.layer.epoch.max(authorities);
    let raised = raise(floor)?;
    let required = facts.layer.file.clock.required;
    if facts.time_servers.is_empty() {
        return if required { Err(ClockError::NoServer) } else { Ok(Done::new((), raised)) };
    }
    let answers = answers(root, &facts.time_servers, if required { ROUNDS_IF_REQUIRED } else { 1 });
    let outcome = match verdict::time(&answers) {
        None => Err(ClockError::NoAnswer { told: told(&answers) }),
        Some(time) => set(&time, floor),
    };
    match outcome {
        Ok(Done { summary, problems, .. }) => {
            Ok(Done { value: (), summary: format!("{raised}, {summary}"), problems })
        }
        Err(error) if required => Err(error),
        Err(error) => {
            let problems = vec![problem(&error)];
            Ok(Done { value: (), summary: format!("{raised}, no time from the network"), problems })
        }
    }
}

fn raise(floor: u64) -> Result<String, ClockError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let Some(behind) = missing(now, floor) else { return Ok("not behind the image".to_owned()) };
    let time = Timespec { tv_sec: i64::try_from(floor).unwrap_or(i64::MAX), tv_nsec: 0 };
    clock_settime(ClockId::Realtime, time).map_err(|errno| ClockError::Behind {
        now,
        floor,
        source: errno.into(),
    })?;
    let days = behind.as_secs_f64() / 86_400.0;
    Ok(format!("raised by {days:.1} days to the build time of the image"))
}

fn missing(now: u64, floor: u64) -> Option<Duration> {
    floor.checked_sub(now).filter(|behind| *behind > 0).map(Duration::from_secs)
}

/// Asks until one knows the time, at most so many times.
fn answers(root: &Path, servers: &[String], rounds: u32) -> Vec<Answer> {
    let (chronyd, scratch) = ([CHRONYD.to_owned()], under(root, layout::RUN).join(SCRATCH));
    let mut answers = Vec::new();
    for _ in 0..rounds {
        answers = ask(&Question { chronyd: &chronyd, servers, patience: PATIENCE, scratch: &scratch });
        if verdict::time(&answers).is_some() {
            break;
        }
    }
    answers
}

/// Sets the clock, unless it is right already.
fn set(time: &Time, floor: u64) -> Result<Done<()>, ClockError> {
    let now = clock_gettime(ClockId::Realtime);
    let (seconds, nanoseconds) = later(now, time.behind);
    if let Some(before) = missing(u64::try_from(seconds).unwrap_or(0), floor) {
        let length = length(before.as_secs_f64());
        return Err(ClockError::BeforeImage { server: time.server.clone(), length });
    }
    let summary = if time.behind.abs() < NO_STEP {
        format!("right to {} by {}", length(time.behind), time.server)
    } else {
        clock_settime(ClockId::Realtime, Timespec { tv_sec: seconds, tv_nsec: nanoseconds }).map_err(
            |errno| ClockError::Set {
                length: length(time.behind),
                server: time.server.clone(),
                source: errno.into(),
            },
        )?;
        let direction = if time.behind < 0.0 { "back" } else { "forward" };
        format!("set {direction} by {} by {}", length(time.behind), time.server)
    };
    Ok(Done { value: (), summary, problems: disagreement(time).iter().map(problem).collect() })
}

/// A time this many seconds later; the nanoseconds are what is beyond whole seconds.
fn later(now: Timespec, behind: f64) -> (i64, i64) {
    let now = i128::from(now.tv_sec) * NANOSECONDS + i128::from(now.tv_nsec);
    // `as` keeps to the ends of the range.
    let later = now.saturating_add((behind * 1e9) as i128);
    let seconds = later.div_euclid(NANOSECONDS);
    (i64::try_from(seconds).unwrap_or(i64::MAX), later.rem_euclid(NANOSECONDS) as i64)
}

fn disagreement(time: &Time) -> Option<ClockError> {
    let told: Vec<String> = (time.others.iter())
        .map(|(server, behind)| format!("{server} says that it is {}", verdict::words(behind - time.behind)))
        .collect();
    let told = told.join(", ");
    (!told.is_empty()).then(|| ClockError::Disagreement { server: time.server.clone(), told })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(behind: f64) -> Time {
        Time { behind, server: "10.0.0.1".to_owned(), others: Vec::new() }
    }

    #[test]
    fn only_a_clock_that_is_behind_is_raised() {
        assert_eq!(missing(100, 90), None);
        assert_eq!(missing(100, 100), None);
        assert_eq!(missing(0, 100), Some(Duration::from_secs(100)));
    }

    #[test]
    fn a_time_is_moved_to_the_nanosecond() {
        let now = Timespec { tv_sec: 100, tv_nsec: 900_000_000 };
        assert_eq!(later(now, 0.25), (101, 150_000_000));
        assert_eq!(later(now, -101.0), (-1, 900_000_000));
        assert_eq!(later(now, 345_600_000.0), (345_600_100, 900_000_000));
        assert_eq!(later(now, f64::MAX).0, i64::MAX);
    }

    #[test]
    fn a_clock_that_is_right_is_left_alone_and_the_image_is_no_liar() {
        let done = set(&time(0.004), 0).unwrap();
        assert_eq!((done.summary.as_str(), done.problems.len()), ("right to 0.004 s by 10.0.0.1", 0));
        let others = vec![("10.0.0.2".to_owned(), 100.0)];
        let done = set(&Time { others, ..time(0.0) }, 0).unwrap();
        assert_eq!(
            done.problems[0].chain,
            [
                "time servers disagree: the clock is set by 10.0.0.1, and 10.0.0.2 says that it is 100.0 s behind"
            ]
        );
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        // Were it not refused, it would not be set either: tests are no place for it.
        let error = set(&time(0.0), now + 400 * 86_400).unwrap_err().to_string();
        assert!(error.starts_with("10.0.0.1 says that it is 400.0 days before"), "{error}");
    }

    #[test]
    fn without_a_server_there_is_nothing_to_wait_for_unless_one_is_demanded() {
        let root = tempfile::tempdir().unwrap();
        let mut facts = crate::network::tests::facts("10.10.0.0/24", "vxlan");
        let done = run(root.path(), &facts).unwrap();
        assert_eq!((done.summary.as_str(), done.problems.len()), ("not behind the image", 0));
        facts.layer.file.clock.required = true;
        assert!(matches!(run(root.path(), &facts), Err(ClockError::NoServer)));
    }
}
