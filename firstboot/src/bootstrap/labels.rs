//! `firstboot labels`: a control plane gives the other nodes the labels that they may not give themselves.
//!
//! The API server keeps labels below `kubernetes.io` from nodes, so that one that was broken into cannot draw pods
//! to itself; that of the role, which `kubectl get nodes` shows, is among them, also for workers that nobody described
//! (`admit-unknown-workers`). The Nodes are watched, and only their metadata is sent: an event per Node every few minutes.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use bootwright_model::cluster::ClusterFile;
use bootwright_model::kubernetes::{Version, is_worker, node_object};
use bootwright_model::node::NodeFacts;
use serde_json::{Value, json};

use super::{Api, ApiError, BootstrapError, read_facts, tell};
use crate::certificates::Roots;

/// Where the Nodes are.
const NODES: &str = "/api/v1/nodes";
/// Between two watches; the API server ends each after some minutes.
const PAUSE: Duration = Duration::from_secs(5);

/// Labels of a node.
type Labels = BTreeMap<String, String>;

/// Labels to give.
struct Wanted {
    /// By name, of every node of the inventory but the control planes, which label themselves, and machines that are no Node.
    described: BTreeMap<String, Labels>,
    /// Every node of the inventory.
    names: BTreeSet<String>,
    /// Says what those are that nobody described.
    file: ClusterFile,
    version: Version,
}

/// Runs as a program below `root` (`/` on a node), and ends only if it cannot begin.
pub fn main(root: &Path) -> std::process::ExitCode {
    let Err(error) = read_facts(root).and_then(|facts| run(&Roots::below(root), &facts));
    tell("labels", Err(error))
}

/// Labels Nodes for ever.
pub fn run(roots: &Roots, facts: &NodeFacts) -> Result<Infallible, BootstrapError> {
    let wanted = Wanted::of(facts)?;
    follow(roots, facts, &wanted)
}

impl Wanted {
    fn of(facts: &NodeFacts) -> Result<Wanted, BootstrapError> {
        let version: Version = facts.os.kubernetes.parse()?;
        let file = facts.layer.file.clone();
        let others = file.nodes.iter().filter(|node| is_worker(&node.role));
        let described = others.map(|node| (node.name.clone(), node_object::kept_labels(node, version)));
        Ok(Wanted {
            described: described.collect(),
            names: file.nodes.iter().map(|node| node.name.clone()).collect(),
            file,
            version,
        })
    }

    /// In a cluster of one node that takes no other, nothing will ever be to do.
    fn is_nothing(&self) -> bool {
        self.described.is_empty() && !self.file.cluster.admit_unknown_workers
    }

    /// Those of the Node with this metadata.
    fn labels(&self, name: &str, metadata: &Value) -> Labels {
        match self.described.get(name) {
            Some(labels) => labels.clone(),
            None if self.names.contains(name) => Labels::new(),
            None => node_object::admitted_labels(&self.file, metadata, self.version),
        }
    }
}

fn follow(roots: &Roots, facts: &NodeFacts, wanted: &Wanted) -> ! {
    loop {
        if wanted.is_nothing() {
            std::thread::park();
            continue;
        }
        // Opened each time, as the certificate is renewed now and then.
        let result = Api::open(roots, facts.layer.file.cluster.endpoint_port)
            .and_then(|api| api.watch(NODES, |event| label(&api, wanted, &event)));
        if let Err(error) = result {
            eprintln!("labels: {}", crate::report::chain(&error).join(": "));
        }
        std::thread::sleep(PAUSE);
    }
}

fn label(api: &Api, wanted: &Wanted, event: &Value) -> Result<(), ApiError> {
    let Some((name, labels)) = missing(wanted, event) else { return Ok(()) };
    told(name, api.merge(&format!("{NODES}/{name}"), &json!({ "metadata": { "labels": labels } })))
}

/// Says what became of one Node. An error ends the watch, so only what keeps all the others from being labelled too is
/// one: if this Node alone is refused, they must not wait for it.
fn told(name: &str, labelled: Result<(), ApiError>) -> Result<(), ApiError> {
    match labelled {
        Ok(()) => println!("labelled {name}"),
        // It has been deleted meanwhile.
        Err(ApiError::Refused { status: 404, .. }) => {}
        Err(error @ ApiError::Refused { status: 400 | 402..=428 | 430..=499, .. }) => {
            eprintln!("labels: {name} stays without its labels: {error}");
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// The labels that the Node of an event lacks, and its name.
fn missing<'a>(wanted: &Wanted, event: &'a Value) -> Option<(&'a str, Labels)> {
    if !matches!(event["type"].as_str(), Some("ADDED" | "MODIFIED")) {
        return None;
    }
    let metadata = &event["object"]["metadata"];
    let name = metadata["name"].as_str()?;
    let mut labels = wanted.labels(name, metadata);
    labels.retain(|key, value| metadata["labels"][key.as_str()] != value.as_str());
    (!labels.is_empty()).then_some((name, labels))
}

#[cfg(test)]
mod tests {
    use bootwright_model::agent::ROLE;

    use super::*;

    #[test]
    fn a_node_that_is_refused_keeps_no_other_waiting() {
        let refused = |status| ApiError::Refused { url: String::new(), status, message: String::new() };
        for status in [400, 403, 404, 409, 422] {
            assert!(told("w1", Err(refused(status))).is_ok(), "{status}");
        }
        for status in [401, 429, 500, 503] {
            assert!(told("w1", Err(refused(status))).is_err(), "{status}");
        }
        assert!(told("w1", Ok(())).is_ok());
    }

    #[test]
    fn only_what_a_node_of_the_inventory_lacks_is_set() {
        let mut facts = crate::network::tests::facts("10.10.3.0/24", "vxlan");
        facts.layer.file.nodes[1].role = "worker".to_owned();
        let wanted = Wanted::of(&facts).unwrap();
        assert_eq!(wanted.described.keys().collect::<Vec<_>>(), ["w1"]);
        let event = |kind: &str, name: &str, labels: Value| {
            let metadata = json!({ "name": name, "labels": labels });
            json!({ "type": kind, "object": { "metadata": metadata } })
        };
        let role = "node-role.kubernetes.io/worker";
        let of_worker = Some(Labels::from([(role.to_owned(), String::new())]));
        let lacking = |event: &Value| missing(&wanted, event).map(|(_, labels)| labels);
        assert_eq!(lacking(&event("ADDED", "w1", json!({ "a": "b" }))), of_worker);
        assert_eq!(lacking(&event("MODIFIED", "w1", json!(null))), of_worker);
        assert_eq!(lacking(&event("MODIFIED", "w1", json!({ role: "" }))), None);
        assert_eq!(lacking(&event("DELETED", "w1", json!({}))), None);
        assert_eq!(lacking(&event("ADDED", "stranger", json!({}))), None);
        assert_eq!(lacking(&json!({ "type": "ERROR", "object": { "code": 410 } })), None);
    }

    #[test]
    fn a_node_that_nobody_described_gets_what_workers_get() {
        let mut facts = crate::network::tests::facts("10.10.3.0/24", "vxlan");
        let lacking = |facts: &NodeFacts, name: &str, has: Value| {
            let metadata = json!({ "name": name, "labels": has, "annotations": { ROLE: "worker" } });
            let event = json!({ "type": "ADDED", "object": { "metadata": metadata } });
            missing(&Wanted::of(facts).unwrap(), &event)
                .map(|(_, labels)| labels.into_keys().collect::<String>())
        };
        let role = "node-role.kubernetes.io/worker";
        assert_eq!(lacking(&facts, "worker-a", json!({})), None);
        facts.layer.file.cluster.admit_unknown_workers = true;
        assert_eq!(lacking(&facts, "worker-a", json!({})).as_deref(), Some(role));
        assert_eq!(lacking(&facts, "worker-a", json!({ role: "" })), None);
        let other = "node-role.kubernetes.io/vault";
        assert_eq!(lacking(&facts, "worker-a", json!({ other: "" })), None, "it has chosen already");
        assert_eq!(lacking(&facts, "cp1", json!({})), None, "a control plane's name, whatever its Node says");
    }
}
