//! The real dataplane: routes, neighbours and VXLAN devices, by the engine that first boot has laid those of the
//! baked peers with.

use std::collections::BTreeSet;

use bootwright_model::node::NodeFacts;
use ipnet::IpNet;
use pod_network::{Failure, Own, PodNetwork, PodsError, Settings, Wanted};

use super::{Dataplane, Outcome, Peer};

/// Most refused entries that are told one by one: what is wrong with one is mostly wrong with all.
const MOST_FAILURES: usize = 3;
/// Most peers left out that are told one by one.
const MOST_SKIPPED: usize = 20;

/// The pod network of this machine.
pub struct Pods {
    own: Own,
    settings: Settings,
    link: String,
    /// Opened when it is first needed, and again after it broke.
    network: Option<PodNetwork>,
    /// What was wrong at the last time, so that each thing is said once.
    wrong: BTreeSet<String>,
}

impl Pods {
    /// Touches nothing yet.
    pub fn new(facts: &NodeFacts) -> Pods {
        Pods {
            own: Own::from_facts(facts),
            settings: Settings::from(&facts.layer.file.network),
            link: facts.link.clone(),
            network: None,
            wrong: BTreeSet::new(),
        }
    }

    fn apply(&mut self, wanted: &Wanted) -> Result<pod_network::Outcome, PodsError> {
        let mut network = match self.network.take() {
            Some(network) => network,
            None => PodNetwork::open()?,
        };
        let outcome = network.reconcile(&self.link, wanted)?;
        self.network = Some(network);
        Ok(outcome)
    }

    /// What of it is new, and what is over.
    fn news(&mut self, wrong: BTreeSet<String>) -> Vec<String> {
        let mut lines: Vec<String> = wrong.difference(&self.wrong).cloned().collect();
        lines.extend(self.wrong.difference(&wrong).map(|line| format!("no longer: {line}")));
        self.wrong = wrong;
        lines
    }
}

impl Dataplane for Pods {
    fn own_ranges(&mut self, ranges: &[IpNet]) {
        // Of any other machine first boot knows them, and has made its pods' network with them.
        if self.own.pod_cidrs.is_empty() {
            self.own.pod_cidrs = ranges.to_vec();
        }
    }

    fn reconcile(&mut self, peers: &[Peer]) -> Outcome {
        if self.own.pod_cidrs.is_empty() {
            // VXLAN devices have an address of the node's own range, and a node without one has no pods.
            let wrong = BTreeSet::from(["this node has no pod CIDR yet".to_owned()]);
            return Outcome { lines: self.news(wrong), incomplete: false };
        }
        let wanted = Wanted::from_peers(&self.own, &self.settings, peers);
        let mut wrong = BTreeSet::new();
        first(&wanted.skipped, MOST_SKIPPED, "peers or ranges are not reached", &mut wrong);
        let mut lines = Vec::new();
        let incomplete = match self.apply(&wanted) {
            Ok(outcome) => {
                if outcome.devices + outcome.set + outcome.removed > 0 {
                    let pod_network::Outcome { devices, set, removed, .. } = &outcome;
                    lines.push(format!(
                        "{} peers: {set} entries set, {removed} removed, {devices} devices changed",
                        peers.len()
                    ));
                }
                first::<Failure>(&outcome.failures, MOST_FAILURES, "entries could not be set", &mut wrong);
                !outcome.failures.is_empty()
            }
            Err(error) => {
                wrong.insert(crate::chain(&error));
                true
            }
        };
        lines.extend(self.news(wrong));
        Outcome { lines, incomplete }
    }
}

/// The first few, and how many more there are.
fn first<E: std::error::Error>(errors: &[E], most: usize, what: &str, lines: &mut BTreeSet<String>) {
    lines.extend(errors.iter().take(most).map(|error| crate::chain(error)));
    if let Some(more @ 1..) = errors.len().checked_sub(most) {
        lines.insert(format!("{more} more {what}"));
    }
}
