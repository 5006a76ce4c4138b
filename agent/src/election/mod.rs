//! Which of the control planes' agents does what only one may do: the one that holds a Lease. [`lease`] reads and writes
//! it.
//!
//! Here it is decided whether to try for the Lease, by what is seen of it. No I/O and no clock of its own.
//!
//! Times of different machines are never compared: what another wrote counts from when it was first seen here, as
//! client-go's leader election has it. That is later than when it was written, so that nobody takes over too early.

pub mod lease;

use std::time::Duration;

use tokio::time::Instant;

/// What is in the Lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Name of the node that holds it; empty: given back.
    pub holder: String,
    /// Time that it is good for after each write.
    pub duration: Duration,
    /// Differs after each write.
    pub version: String,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Write the Lease: it is ours, given back, or has run out.
    Take,
    /// Leave it.
    Wait {
        /// Who has it; nobody if there is no Lease, and somebody may have deleted one that is still good.
        holder: Option<String>,
    },
}

/// One node's view of who holds the Lease.
#[derive(Debug)]
pub struct Election {
    node: String,
    /// How long a Lease is good for that is not there to say it.
    duration: Duration,
    /// The version of another's Lease, empty for none, and since when it has been seen.
    seen: Option<(String, Instant)>,
}

impl Election {
    /// Of the node with this name, where Leases are good for so long.
    pub fn new(node: &str, duration: Duration) -> Election {
        Election { node: node.to_owned(), duration, seen: None }
    }

    /// What to do, `now` being after `record` was read; `None` is a Lease that is not there.
    pub fn step(&mut self, now: Instant, record: Option<&Record>) -> Step {
        let (version, duration, holder) = match record {
            Some(record) if record.holder.is_empty() || record.holder == self.node => {
                self.seen = None;
                return Step::Take;
            }
            Some(record) => (record.version.as_str(), record.duration, Some(record.holder.clone())),
            None => ("", self.duration, None),
        };
        match &self.seen {
            Some((seen, since)) if seen == version => {
                if now.duration_since(*since) > duration {
                    return Step::Take;
                }
            }
            _ => self.seen = Some((version.to_owned(), now)),
        }
        Step::Wait { holder }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEASE: Duration = Duration::from_secs(10);

    fn record(holder: &str, version: u32) -> Record {
        Record { holder: holder.to_owned(), duration: LEASE, version: version.to_string() }
    }

    fn wait(holder: &str) -> Step {
        Step::Wait { holder: Some(holder.to_owned()) }
    }

    #[test]
    fn a_lease_that_is_free_or_ours_is_taken() {
        let mut election = Election::new("cp1", LEASE);
        let now = Instant::now();
        assert_eq!(election.step(now, Some(&record("", 1))), Step::Take);
        assert_eq!(election.step(now, Some(&record("cp1", 2))), Step::Take);
    }

    #[test]
    fn anothers_is_taken_when_it_was_not_renewed_for_its_whole_time_since_it_was_seen() {
        let mut election = Election::new("cp1", LEASE);
        let begin = Instant::now();
        let mut at = |seconds: f64, version| {
            election.step(begin + Duration::from_secs_f64(seconds), Some(&record("cp2", version)))
        };
        assert_eq!(at(0.0, 1), wait("cp2"));
        assert_eq!(at(9.9, 1), wait("cp2"));
        assert_eq!(at(9.95, 2), wait("cp2"));
        assert_eq!(at(19.9, 2), wait("cp2"));
        assert_eq!(at(20.0, 2), Step::Take);
    }

    #[test]
    fn one_that_is_not_there_may_have_been_deleted_under_its_holder() {
        let mut election = Election::new("cp1", LEASE);
        let begin = Instant::now();
        assert_eq!(election.step(begin, None), Step::Wait { holder: None });
        assert_eq!(election.step(begin + LEASE, None), Step::Wait { holder: None });
        assert_eq!(election.step(begin + LEASE + Duration::from_millis(1), None), Step::Take);
    }

    #[test]
    fn a_new_holder_gets_its_whole_time() {
        let mut election = Election::new("cp1", LEASE);
        let begin = Instant::now();
        assert_eq!(election.step(begin, Some(&record("cp2", 1))), wait("cp2"));
        assert_eq!(election.step(begin + 2 * LEASE, Some(&record("cp3", 2))), wait("cp3"));
        assert_eq!(election.step(begin + 3 * LEASE, Some(&record("cp3", 2))), wait("cp3"));
    }

    /// Several nodes and one Lease, which compares versions as the API server does. A node looks, and what it then
    /// writes arrives any time later, or never, or its answer is lost. It holds the address as the task
    /// [`vip`](crate::vip) does. Nobody deletes the Lease: one that comes and goes between two looks of a node is not noticed by it.
    fn holders(moves: &[(usize, u64, Move)]) -> Result<(), TestCaseError> {
        const NAMES: [&str; 3] = ["a", "b", "c"];
        struct Node {
            election: Election,
            /// When it asked, and the version that it had read.
            asked: Option<(Instant, Option<String>)>,
            until: Instant,
        }
        let begin = Instant::now();
        let mut now = begin;
        let mut nodes =
            NAMES.map(|name| Node { election: Election::new(name, LEASE), asked: None, until: begin });
        let (mut lease, mut version) = (None::<Record>, 0);
        for &(who, pause, what) in moves {
            now += Duration::from_millis(pause);
            let node = &mut nodes[who];
            match what {
                Move::Look => {
                    if node.election.step(now, lease.as_ref()) == Step::Take {
                        node.asked = Some((now, lease.as_ref().map(|lease| lease.version.clone())));
                    }
                }
                Move::Arrive | Move::ArriveUnseen => {
                    let Some((asked, read)) = node.asked.take() else { continue };
                    if read != lease.as_ref().map(|lease| lease.version.clone()) {
                        continue;
                    }
                    version += 1;
                    lease = Some(record(NAMES[who], version));
                    if what == Move::Arrive {
                        node.until = asked + LEASE;
                    }
                }
            }
            let holding = nodes.iter().filter(|node| node.until > now).count();
            prop_assert!(holding <= 1, "{holding} hold it after {:?}", now - begin);
        }
        Ok(())
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Move {
        Look,
        Arrive,
        ArriveUnseen,
    }

    proptest! {
        #[test]
        fn two_never_hold_it_at_once(
            moves in prop::collection::vec(
                (0..3_usize, 0..6000_u64, prop_oneof![
                    3 => Just(Move::Look),
                    3 => Just(Move::Arrive),
                    1 => Just(Move::ArriveUnseen),
                ]),
                1..200,
            ),
        ) {
            holders(&moves)?;
        }
    }
}
