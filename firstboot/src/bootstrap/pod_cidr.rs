//! `firstboot pod-cidr`: a worker that nobody described is given the range of its pods.
//!
//! `firstboot join` has made its Node, which asks for one, and a control plane's agent sets it. This program waits for
//! that, keeps the range for the next boot, and gives the pods of this node their network. The ways to the pods of other
//! nodes are the agent's, which reads the same Node.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use bootwright_model::families::PerFamily;
use bootwright_model::kubernetes::api_server;
use bootwright_model::layout;
use bootwright_model::node::NodeFacts;
use ipnet::IpNet;
use serde_json::Value;

use super::{Api, ApiError, BootstrapError, PATIENCE, read_facts, tell};
use crate::certificates::Roots;
use crate::network::given_range;
use crate::stages::network::{NetworkError, write_facts};
use crate::stages::pod_network::{self, PodNetworkError};

/// Between looks at the Node.
const LOOK: Duration = Duration::from_millis(500);

/// Why this machine's pods have no network.
#[derive(Debug, thiserror::Error)]
pub enum PodCidrError {
    /// Who this machine is.
    #[error(transparent)]
    Facts(#[from] BootstrapError),
    /// The API server cannot be called.
    #[error("cannot ask for this machine's Node")]
    Api(#[from] ApiError),
    /// No control plane sets it.
    #[error(
        "no control plane has given the Node {node} a pod CIDR for {seconds} s; see /var/log/services/agent.log of the \
         control planes, whose images have to be of a cluster file with admit-unknown-workers = true"
    )]
    NotGiven {
        /// Node name.
        node: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// Another range than the cluster can have given.
    #[error(
        "the pod CIDR {range} of the Node {node} {why}; run \"kubectl delete node {node}\" and restart the machine"
    )]
    Unusable {
        /// Node name.
        node: String,
        /// As the Node has it.
        range: String,
        /// What is wrong with it.
        why: String,
    },
    /// Its pods run in another range.
    #[error(
        "the Node {node} was made anew and given the pod CIDR {given}, and this machine runs with {had}: restart it"
    )]
    Changed {
        /// Node name.
        node: String,
        /// What it has now.
        given: String,
        /// What was kept from an earlier boot.
        had: String,
    },
    /// It cannot be kept.
    #[error("{} cannot be written", layout::GIVEN_POD_CIDR)]
    Keep(#[source] io::Error),
    /// The facts for programs that start later.
    #[error(transparent)]
    Write(#[from] NetworkError),
    /// The pods' network.
    #[error(transparent)]
    PodNetwork(#[from] PodNetworkError),
}

/// Runs as a program below `root` (`/` on a node).
pub fn main(root: &Path) -> std::process::ExitCode {
    let ranges =
        read_facts(root).map_err(PodCidrError::from).and_then(|facts| run(root, &Roots::below(root), facts));
    tell("pod-cidr", ranges.map(|ranges| format!("pods in {ranges:#}")))
}

/// Waits for the range and makes the network of the pods; returns the range.
pub fn run(root: &Path, roots: &Roots, facts: NodeFacts) -> Result<PerFamily<IpNet>, PodCidrError> {
    let given = wait(roots, &facts)?;
    if facts.pod_cidr.map(|had| had.trunc()) == Some(given) {
        return Ok(given);
    }
    given_range::keep(root, &facts, given).map_err(PodCidrError::Keep)?;
    if let Some(had) = facts.pod_cidr {
        let (given, had) = (format!("{given:#}"), format!("{had:#}"));
        return Err(PodCidrError::Changed { node: facts.name, given, had });
    }
    let facts = NodeFacts { pod_cidr: Some(given), ..facts };
    if let Some(error) = pod_network::for_own_pods(root, &facts).into_iter().next() {
        return Err(error.into());
    }
    // Last: with them a second run has nothing to do.
    write_facts(root, &facts)?;
    Ok(given)
}

/// Asks until the Node has a range.
fn wait(roots: &Roots, facts: &NodeFacts) -> Result<PerFamily<IpNet>, PodCidrError> {
    let api = Api::open_as_node(roots, api_server(facts))?;
    let (path, deadline) = (format!("/api/v1/nodes/{}", facts.name), Instant::now() + PATIENCE);
    loop {
        match api.get(&path) {
            Ok(node) => {
                if let Some(ranges) = ranges(facts, &node)? {
                    return Ok(ranges);
                }
            }
            Err(error) if !error.is_temporary() || Instant::now() >= deadline => return Err(error.into()),
            Err(_) => {}
        }
        if Instant::now() >= deadline {
            return Err(PodCidrError::NotGiven { node: facts.name.clone(), seconds: PATIENCE.as_secs() });
        }
        std::thread::sleep(LOOK);
    }
}

/// The ranges that a Node has, if any.
fn ranges(facts: &NodeFacts, node: &Value) -> Result<Option<PerFamily<IpNet>>, PodCidrError> {
    let texts: Vec<&str> =
        node["spec"]["podCIDRs"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if texts.is_empty() {
        return Ok(None);
    }
    let range = texts.join(",");
    let parsed: Result<PerFamily<IpNet>, _> = range.parse();
    let checked =
        parsed.map_err(|_| "is none".to_owned()).and_then(|ranges| given_range::check(facts, ranges));
    checked.map(Some).map_err(|why| PodCidrError::Unusable { node: facts.name.clone(), range, why })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_node_has_is_taken_if_it_can_be_right() {
        let facts = crate::network::tests::facts("10.10.3.0/24", "vxlan");
        let read = |node: Value| ranges(&facts, &node).map_err(|error| error.to_string());
        assert_eq!(read(json!({})), Ok(None));
        assert_eq!(read(json!({ "spec": { "podCIDRs": [] } })), Ok(None));
        let of = |range: &str| json!({ "spec": { "podCIDR": range, "podCIDRs": [range] } });
        assert_eq!(read(of("10.10.255.0/24")), Ok("10.10.255.0/24".parse().ok()));
        for bad in ["10.99.0.0/24", "fd00::/64", "x"] {
            let text = read(of(bad)).unwrap_err();
            assert!(text.contains(bad) && text.contains("kubectl delete node cp1"), "{text}");
        }
        assert!(read(json!({ "spec": { "podCIDRs": ["10.10.1.0/24", "10.10.2.0/24"] } })).is_err());
    }
}
