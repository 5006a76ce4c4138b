//! `firstboot etcd-promote`: waits until the member beside it has a vote, and gives it to a learner.
//!
//! A learner serves no clients, so the API server starts after this. It is the service `etcd-promote`. When the member
//! has its vote, and so a cluster that takes changes, it also tells that cluster where the member is, if that has changed.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use bootwright_model::kubernetes::{etcd, etcd_members};
use bootwright_model::node::NodeFacts;

use super::super::{BootstrapError, read_facts, tell};
use super::at_once::at_once;
use super::members::{Client, Status};
use super::tell::Teller;
use super::{ApiError, peer_agent};
use crate::certificates::Roots;

/// How long a learner may take to catch up, or a cluster to find its majority, before the service counts as failed; it
/// is started again then.
const PATIENCE: Duration = Duration::from_secs(600);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// Attempts to tell the cluster where this member is.
const CORRECTIONS: u32 = 3;

/// Why the member has no vote.
#[derive(Debug, thiserror::Error)]
pub enum PromoteError {
    /// This machine, or its certificates.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// It took too long.
    #[error("etcd on this machine has had no vote for {seconds} s; see what the service etcd waits for")]
    NoVote {
        /// How long it was waited for.
        seconds: u64,
        /// The last reason.
        source: ApiError,
    },
}

/// Runs as a program below `root` (`/` on a node).
pub fn main(root: &Path) -> std::process::ExitCode {
    let done = read_facts(root).map_err(PromoteError::from).and_then(|facts| {
        let mut teller = Teller::new(root, "etcd");
        run(&Roots::below(root), &facts, |line| teller.say(line))
    });
    tell("etcd-promote", done)
}

/// Waits; returns what has become of it. What is worth a person's attention is told.
pub fn run(roots: &Roots, facts: &NodeFacts, mut say: impl FnMut(&str)) -> Result<String, PromoteError> {
    let others: Vec<IpAddr> = etcd_members(&facts.layer.file)
        .filter(|node| node.name != facts.name)
        .map(|node| node.address.addr())
        .collect();
    if others.is_empty() {
        // The API server need not wait: it tries until etcd answers.
        return Ok("the only member has nobody to vote with".to_owned());
    }
    let agent = peer_agent(roots).map_err(BootstrapError::from)?;
    let own = Client::new(&agent, etcd::LOCAL_CLIENT_URL.to_owned());
    let url = etcd::peer_url(facts.address.addr());
    let deadline = Instant::now() + PATIENCE;
    let mut learned = false;
    loop {
        let failure = match own.status() {
            Ok(Status { learner: false, member }) => {
                if learned {
                    say("has caught up, and a vote");
                }
                correct_url(&own, member, &url).iter().for_each(|line| say(line));
                return Ok(if learned { "promoted" } else { "a member with a vote" }.to_owned());
            }
            Ok(Status { learner: true, member }) => {
                if !learned {
                    say("is a learner, and gets a vote when it has caught up");
                }
                learned = true;
                promote(&agent, &others, member)
            }
            Err(error) => Some(error),
        };
        if let Some(source) = failure.filter(|_| Instant::now() >= deadline) {
            return Err(PromoteError::NoVote { seconds: PATIENCE.as_secs(), source });
        }
        std::thread::sleep(PAUSE);
    }
}

/// Has the member promoted by one that has a vote, as a learner takes no changes. All are asked, as one may be gone; a
/// second promotion is refused and changes nothing. None if it is done, else the last failure.
fn promote(agent: &ureq::Agent, others: &[IpAddr], member: u64) -> Option<ApiError> {
    let agent = agent.clone();
    let work = move |address: &IpAddr| Client::new(&agent, etcd::client_url(*address)).promote(member);
    let mut last = None;
    at_once(others.to_vec(), super::peers::TIMEOUT, work, |_, promoted| {
        last = promoted.err();
        last.is_some()
    });
    last
}

/// The others connect to where the cluster says that a member is, which is where it was when it joined. Returns what is
/// worth telling. A failure is no reason to stop: a member works
/// without, as it connects to the others by itself. The API server waits meanwhile, a minute at most.
fn correct_url(own: &Client<'_>, member: u64, url: &str) -> Option<String> {
    let id = member.to_string();
    let correct = || {
        let stale = own.members()?.into_iter().find(|told| told.id == id && told.urls != [url]);
        stale.map(|told| own.set_url(member, url).map(|()| told.urls.join(", "))).transpose()
    };
    let mut corrected = correct();
    for _ in 1..CORRECTIONS {
        if corrected.is_ok() {
            break;
        }
        std::thread::sleep(PAUSE);
        corrected = correct();
    }
    match corrected {
        Ok(old) => old.map(|old| format!("has told its cluster that it moved from {old} to {url}")),
        Err(error) => Some(format!(
            "cannot tell its cluster that it is at {url}, and tries again at the next start: {}",
            crate::report::chain(&error).join(": ")
        )),
    }
}
