//! **pod-network**: the ways to the pods of the baked peers, the network of this node's pods, and what of it is
//! masqueraded.

mod advice;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::time::Duration;

use bootwright_model::addresses::AddressError;
use bootwright_model::cluster::NetworkMode;
use bootwright_model::node::NodeFacts;
use pod_network::{Outcome, Own, PodNetwork, PodsError, Settings, Wanted, baked_peers};

use super::{Advice, Done, Problem, problem};
use crate::network::cni;
use crate::network::masquerade::{self, MasqueradeError};
use crate::report::under;

/// How many refused entries, or peers left out, are told one by one: what is wrong with one is mostly wrong with all.
const MOST_TOLD: usize = 3;
/// How often the peers are programmed at most: services wait for them, and the agent may not run for a long time.
const TRIES: usize = 3;
/// Before the next try.
const PAUSE: Duration = Duration::from_millis(200);

/// Why pods would have no network.
#[derive(Debug, thiserror::Error)]
pub enum PodNetworkError {
    /// The pod CIDR.
    #[error("the pod CIDR has no address for the bridge")]
    Range(#[from] AddressError),
    /// The configuration.
    #[error("{path}: cannot be written")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The peers.
    #[error("pods of other nodes are not reached")]
    Peers(#[from] PodsError),
    /// Entries beyond those that are told.
    #[error("{0} more entries of the pod network could not be set")]
    MoreFailures(usize),
    /// Peers beyond those that are told.
    #[error("pods of {0} more nodes or ranges are not reached either")]
    MoreSkipped(usize),
    /// The rules.
    #[error("pods would not reach anything outside of the cluster")]
    Masquerade(#[from] MasqueradeError),
}

impl Advice for PodNetworkError {
    fn advice(&self) -> String {
        match self {
            PodNetworkError::Range(_) => {
                "give the cluster a smaller node-cidr-bits in the cluster file and build again".to_owned()
            }
            PodNetworkError::Write { .. } => "restart; if it happens again, build the image again".to_owned(),
            PodNetworkError::Peers(error) => error.advice(),
            PodNetworkError::MoreFailures(_) | PodNetworkError::MoreSkipped(_) => {
                "as for those before".to_owned()
            }
            PodNetworkError::Masquerade(error) => error.advice(),
        }
    }
}

/// Programs the ways to the baked peers and tells `peers_done`, for services that reach them; then writes the CNI
/// configuration and puts the rules in place, which only pods need. What fails is a problem, not an end: the control
/// plane runs without pods, and pods reach each other without the rules.
pub fn run(root: &Path, facts: &NodeFacts, peers_done: &Sender<()>) -> Done<()> {
    let Some(pods) = facts.pod_cidr else {
        if facts.admitted {
            return Done::new((), "none yet: the cluster gives this machine a pod CIDR when it has joined");
        }
        return Done::new((), "none: this machine runs no pods");
    };
    if facts.layer.file.network.mode == NetworkMode::None {
        return Done::new((), "left to a network plugin (mode = \"none\")");
    }
    let (peers, mut problems) = program_peers(facts);
    // Nobody waits for it any more: fine.
    let _ = peers_done.send(());
    problems.extend(for_own_pods(root, facts).iter().map(problem));
    let mtu = cni::pod_mtu(facts);
    let peers = match facts.layer.file.network.mode {
        NetworkMode::Cloud => "peers by the cloud's routes".to_owned(),
        NetworkMode::Bgp => "peers by BGP".to_owned(),
        _ => peers,
    };
    let summary = format!("pods in {pods:#}, MTU {mtu}, {peers}, masqueraded beyond the cluster");
    Done { value: (), summary, problems }
}

/// What this node's own pods need: the CNI configuration and the rules. Without the ways to the others: of a node that was
/// given its range later the agent knows them already.
pub fn for_own_pods(root: &Path, facts: &NodeFacts) -> Vec<PodNetworkError> {
    if facts.layer.file.network.mode == NetworkMode::None {
        return Vec::new();
    }
    let configured = write_configuration(root, facts).err();
    configured.into_iter().chain(masquerade::apply(facts).into_iter().map(PodNetworkError::from)).collect()
}

/// Programs what is baked; says how many peers are reached.
fn program_peers(facts: &NodeFacts) -> (String, Vec<Problem>) {
    let peers = baked_peers(facts);
    let settings = Settings::from(&facts.layer.file.network);
    let wanted = Wanted::from_peers(&Own::from_facts(facts), &settings, &peers);
    let mut problems = told(&wanted.skipped, PodNetworkError::MoreSkipped);
    let done = persistently(PAUSE, || {
        PodNetwork::open().and_then(|mut network| network.reconcile(&facts.link, &wanted))
    });
    let complete = done.as_ref().is_ok_and(|outcome| outcome.failures.is_empty());
    match done {
        Ok(outcome) => problems.extend(told(&outcome.failures, PodNetworkError::MoreFailures)),
        Err(error) => problems.push(problem(&PodNetworkError::Peers(error))),
    }
    (count(wanted.routes.len(), wanted.neighbours.len(), complete), problems)
}

/// Does it again while something is left to be done.
fn persistently(
    pause: Duration,
    mut reconcile: impl FnMut() -> Result<Outcome, PodsError>,
) -> Result<Outcome, PodsError> {
    for _ in 1..TRIES {
        if let Ok(outcome) = reconcile()
            && outcome.failures.is_empty()
        {
            return Ok(outcome);
        }
        std::thread::sleep(pause);
    }
    reconcile()
}

/// How many peers are reached, or would be if all had been done.
fn count(all: usize, through: usize, complete: bool) -> String {
    match (all, through) {
        (0, _) => "no peers".to_owned(),
        (all, _) if !complete => format!("{all} peers wanted"),
        (all, 0) => format!("{all} peers by route"),
        (all, through) if all == through => format!("{all} peers by VXLAN"),
        (all, through) => format!("{} peers by route, {through} by VXLAN", all - through),
    }
}

/// The first few one by one, and the number of the others.
fn told<E: Advice + 'static>(errors: &[E], more: fn(usize) -> PodNetworkError) -> Vec<Problem> {
    let mut problems: Vec<Problem> = errors.iter().take(MOST_TOLD).map(problem).collect();
    if errors.len() > MOST_TOLD {
        problems.push(problem(&more(errors.len() - MOST_TOLD)));
    }
    problems
}

fn write_configuration(root: &Path, facts: &NodeFacts) -> Result<(), PodNetworkError> {
    let path = under(root, cni::CONFLIST);
    let text = cni::conflist(facts)?;
    let write = || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::create_dir_all(under(root, cni::LEASES))?;
        crate::files::replace(&path, text.as_bytes(), 0o644)
    };
    write().map_err(|source| PodNetworkError::Write { path: path.clone(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pod_network::{Failure, Skipped, Why, WireError};

    #[test]
    fn peers_are_tried_three_times() {
        let failed = || {
            let failure = Failure { what: "x".to_owned(), done: "set", source: WireError::Unsteady };
            Ok(Outcome { failures: vec![failure], ..Outcome::default() })
        };
        let broken = || Err(PodsError::NoLink { link: "eth0".to_owned() });
        let (mut calls, mut first) = (0, vec![failed(), broken()]);
        let done = persistently(Duration::ZERO, || {
            calls += 1;
            first.pop().unwrap_or_else(|| Ok(Outcome::default()))
        });
        assert!(done.unwrap().failures.is_empty());
        assert_eq!(calls, 3);
        let again = |result: fn() -> Result<Outcome, PodsError>| {
            let mut calls = 0;
            let done = persistently(Duration::ZERO, || {
                calls += 1;
                result()
            });
            (done.map_err(drop).map(|outcome| outcome.failures.len()), calls)
        };
        assert_eq!(again(|| Ok(Outcome::default())), (Ok(0), 1));
        assert_eq!(again(failed), (Ok(1), 3));
        assert_eq!(again(broken), (Err(()), 3));
    }

    #[test]
    fn the_summary_promises_no_peer_that_is_not_reached() {
        assert_eq!(count(0, 0, false), "no peers");
        assert_eq!(count(3, 3, false), "3 peers wanted");
        assert_eq!(count(3, 0, true), "3 peers by route");
        assert_eq!(count(3, 3, true), "3 peers by VXLAN");
        assert_eq!(count(3, 1, true), "2 peers by route, 1 by VXLAN");
    }

    #[test]
    fn a_cluster_full_of_peers_that_are_left_out_is_told_in_few_lines() {
        let skipped = |number| Skipped { peer: format!("n{number}"), pod_cidr: None, why: Why::NoPodCidr };
        let all: Vec<Skipped> = (0..5000).map(skipped).collect();
        let problems = told(&all, PodNetworkError::MoreSkipped);
        assert_eq!(problems.len(), MOST_TOLD + 1);
        assert!(problems[MOST_TOLD].chain[0].contains("4997 more"), "{:?}", problems[MOST_TOLD].chain);
        assert_eq!(told(&all[..MOST_TOLD], PodNetworkError::MoreSkipped).len(), MOST_TOLD);
    }
}
