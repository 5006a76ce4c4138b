//! `firstboot labels`: a control plane gives the other nodes the labels that they may not give themselves.
//!
//! The API server keeps labels below `kubernetes.io` from nodes, so that one that was broken into cannot draw pods
//! to itself; that of the role, which `kubectl get nodes` shows, is among them. The Nodes are watched, and only
//! their metadata is sent: an event per Node every few minutes.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use bootwright_model::kubernetes::{Version, is_control_plane, is_node, node_object};
use bootwright_model::node::NodeFacts;
use serde_json::{Value, json};

use super::{Api, ApiError, BootstrapError, read_facts, tell};
use crate::certificates::Roots;

/// Where the Nodes are.
const NODES: &str = "/api/v1/nodes";
/// Between two watches; the API server ends each after some minutes.
const PAUSE: Duration = Duration::from_secs(5);

/// Labels to give, by the node's name.
type Wanted = BTreeMap<String, BTreeMap<String, String>>;

/// Runs as a program below `root` (`/` on a node), and ends only if it cannot begin.
pub fn main(root: &Path) -> std::process::ExitCode {
    let Err(error) = read_facts(root).and_then(|facts| run(&Roots::below(root), &facts));
    tell("labels", Err(error))
}

/// Labels Nodes for ever.
pub fn run(roots: &Roots, facts: &NodeFacts) -> Result<Infallible, BootstrapError> {
    let wanted = wanted(facts)?;
    follow(roots, facts, &wanted)
}

/// What the inventory says of every node but the control planes, which label themselves.
fn wanted(facts: &NodeFacts) -> Result<Wanted, BootstrapError> {
    let version: Version = facts.os.kubernetes.parse()?;
    let others =
        facts.layer.file.nodes.iter().filter(|node| is_node(&node.role) && !is_control_plane(&node.role));
    Ok(others.map(|node| (node.name.clone(), node_object::kept_labels(node, version))).collect())
}

fn follow(roots: &Roots, facts: &NodeFacts, wanted: &Wanted) -> ! {
    loop {
        if wanted.is_empty() {
            // A cluster of one node: nothing will ever be to do.
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

/// The labels that the Node of an event lacks.
fn missing<'a>(wanted: &'a Wanted, event: &Value) -> Option<(&'a str, BTreeMap<&'a str, &'a str>)> {
    if !matches!(event["type"].as_str(), Some("ADDED" | "MODIFIED")) {
        return None;
    }
    let metadata = &event["object"]["metadata"];
    let (name, labels) = wanted.get_key_value(metadata["name"].as_str()?)?;
    let lacking = labels.iter().filter(|(key, value)| metadata["labels"][key] != value.as_str());
    let lacking: BTreeMap<&str, &str> = lacking.map(|(key, value)| (key.as_str(), value.as_str())).collect();
    (!lacking.is_empty()).then_some((name.as_str(), lacking))
}

#[cfg(test)]
mod tests {
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
        let wanted = wanted(&facts).unwrap();
        assert_eq!(wanted.keys().collect::<Vec<_>>(), ["w1"]);
        let event = |kind: &str, name: &str, labels: Value| {
            let metadata = json!({ "name": name, "labels": labels });
            json!({ "type": kind, "object": { "metadata": metadata } })
        };
        let role = "node-role.kubernetes.io/worker";
        let lacking = |event: &Value| missing(&wanted, event).map(|(_, labels)| labels);
        assert_eq!(lacking(&event("ADDED", "w1", json!({ "a": "b" }))), Some([(role, "")].into()));
        assert_eq!(lacking(&event("MODIFIED", "w1", json!(null))), Some([(role, "")].into()));
        assert_eq!(lacking(&event("MODIFIED", "w1", json!({ role: "" }))), None);
        assert_eq!(lacking(&event("DELETED", "w1", json!({}))), None);
        assert_eq!(lacking(&event("ADDED", "stranger", json!({}))), None);
        assert_eq!(lacking(&json!({ "type": "ERROR", "object": { "code": 410 } })), None);
    }
}
