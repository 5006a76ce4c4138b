//! **pod-network**: the ways to the pods of the baked peers, the network of this node's pods, and what of it is
//! masqueraded.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;

use bootwright_model::addresses::AddressError;
use bootwright_model::cluster::NetworkMode;
use bootwright_model::node::NodeFacts;

use super::{Advice, Done, Problem, problem};
use crate::network::cni;
use crate::network::masquerade::{self, MasqueradeError};
use crate::network::pods::{Failure, Own, PodNetwork, PodsError, Settings, Wanted, baked_peers};
use crate::report::under;

/// How many refused entries are told one by one: what is wrong with one is mostly wrong with all.
const MOST_FAILURES: usize = 3;

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
            PodNetworkError::MoreFailures(_) => "as for those before".to_owned(),
            PodNetworkError::Masquerade(error) => error.advice(),
        }
    }
}

/// Programs the ways to the baked peers and tells `peers_done`, for services that reach them; then writes the CNI
/// configuration and puts the rules in place, which only pods need. What fails is a problem, not an end: the control
/// plane runs without pods, and pods reach each other without the rules.
pub fn run(root: &Path, facts: &NodeFacts, peers_done: &Sender<()>) -> Done<()> {
    if facts.layer.file.network.mode == NetworkMode::None {
        return Done::new((), "left to a network plugin (mode = \"none\")");
    }
    let (peers, mut problems) = program_peers(facts);
    // Nobody waits for it any more: fine.
    let _ = peers_done.send(());
    let configured = write_configuration(root, facts);
    let masqueraded = masquerade::apply(facts).map_err(PodNetworkError::from);
    let errors = [configured, masqueraded].into_iter().filter_map(Result::err);
    problems.extend(errors.map(|error| problem(&error)));
    let (pods, mtu) = (facts.pod_cidr, cni::pod_mtu(facts));
    let summary = format!("pods in {pods}, MTU {mtu}, {peers}, masqueraded beyond the cluster");
    Done { value: (), summary, problems }
}

/// Programs what is baked; says how many peers are reached.
fn program_peers(facts: &NodeFacts) -> (String, Vec<Problem>) {
    let peers = baked_peers(facts);
    let settings = Settings::from(&facts.layer.file.network);
    let wanted = Wanted::from_peers(&Own::from_facts(facts), &settings, &peers);
    let mut problems: Vec<Problem> = wanted.skipped.iter().map(problem).collect();
    let done = PodNetwork::open().and_then(|mut network| network.reconcile(&facts.link, &wanted));
    match done {
        Ok(outcome) => problems.extend(told(&outcome.failures)),
        Err(error) => problems.push(problem(&PodNetworkError::Peers(error))),
    }
    let through = wanted.neighbours.len();
    let count = match (wanted.routes.len(), through) {
        (0, _) => "no peers".to_owned(),
        (all, 0) => format!("{all} peers by route"),
        (all, through) if all == through => format!("{all} peers by VXLAN"),
        (all, through) => format!("{} peers by route, {through} by VXLAN", all - through),
    };
    (count, problems)
}

fn told(failures: &[Failure]) -> Vec<Problem> {
    let mut problems: Vec<Problem> = failures.iter().take(MOST_FAILURES).map(problem).collect();
    if failures.len() > MOST_FAILURES {
        problems.push(problem(&PodNetworkError::MoreFailures(failures.len() - MOST_FAILURES)));
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
