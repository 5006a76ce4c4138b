//! Programs of their own beside PID 1 that bring this machine and its objects into the cluster.
//!
//! - `firstboot etcd`, on a control plane in front of etcd, and `firstboot etcd-promote` after it ([`etcd`]): the
//!   member begins a cluster, joins one, or waits.
//! - `firstboot apply`, once per boot on a control plane as soon as its API server is ready: the objects that no
//!   component makes for itself. `oneshot = true`, `after = ["kube-apiserver"]`. Server-side apply makes it
//!   idempotent and lets an image with other contents bring them up to date.
//! - `firstboot addons`, after it: the addons that were baked ([`addons`]).
//! - `firstboot labels`, all the time on a control plane ([`labels`]).
//! - `firstboot join`, once per boot on every other node ([`join`]).
//! - `firstboot pod-cidr`, after it on one that nobody described ([`pod_cidr`]).

pub mod addons;
mod api;
pub mod etcd;
pub mod join;
pub mod labels;
mod lease;
pub mod pod_cidr;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use bootwright_model::kubernetes::bootstrap::{BootstrapToken, Object, objects};
use bootwright_model::kubernetes::{KubernetesError, pki};
use bootwright_model::layout;
use bootwright_model::node::NodeFacts;

use crate::certificates::Roots;
pub use api::{Api, ApiError};

/// How long a fresh API server may take to have its own namespaces and roles.
const PATIENCE: Duration = Duration::from_secs(120);
/// Pause before an object is tried again.
const PAUSE: Duration = Duration::from_millis(250);

/// Why the objects are not in the cluster. Messages are one line; causes are in `source()`.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// Who this machine is was not written by PID 1.
    #[error("cannot read {path}, which the identity stage writes: {reason}")]
    Facts {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// The bootstrap token of the cluster layer.
    #[error("{path} is no bootstrap token; put the cluster's secrets folder right and build the image again")]
    Token {
        /// The file.
        path: String,
    },
    /// The kubelet has no certificate yet.
    #[error(
        "the kubelet has been given no certificate for {seconds} s; see whether a control plane answers through the \
         agent at {server} and \"kubectl get csr\" shows the request"
    )]
    NoCertificate {
        /// Where it asks.
        server: std::net::SocketAddr,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The bootstrap token stays on the machine.
    #[error("cannot remove {path}")]
    Forget {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file of the cluster layer.
    #[error("cannot read {path}, which was baked: {reason}; build the image again")]
    Baked {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// Objects of addons that the API server does not take.
    #[error("{failed} of {all} objects of the addons are not in the cluster; they are tried again")]
    Addons {
        /// How many.
        failed: usize,
        /// Of how many.
        all: usize,
    },
    /// The version has no flags, or a range is too small.
    #[error(transparent)]
    Kubernetes(#[from] KubernetesError),
    /// The API server cannot be called, or says no.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The Node has another pod CIDR, which cannot be changed.
    #[error(
        "the Node {node} exists with another pod CIDR than this machine's {pod_cidr}; \
         run \"kubectl delete node {node}\" and restart the machine"
    )]
    PodCidr {
        /// Node name.
        node: String,
        /// What the inventory says.
        pod_cidr: String,
    },
    /// The Node belongs to another machine of the cloud, which cannot be changed.
    #[error(
        "the Node {node} exists with another provider ID than this machine's {provider_id}; \
         run \"kubectl delete node {node}\" and restart the machine"
    )]
    ProviderId {
        /// Node name.
        node: String,
        /// What this machine is called.
        provider_id: String,
    },
    /// The Node has labels that it had as a control plane, which a node may not take from itself.
    #[error(
        "the Node {node} exists with labels that this machine may not change ({message}), as after a change of its \
         role; run \"kubectl delete node {node}\" and restart the machine"
    )]
    Labels {
        /// Node name.
        node: String,
        /// The API server's words.
        message: String,
    },
}

/// Runs as a program below `root` (`/` on a node): prints a line, and says by the exit status whether it
/// worked.
pub fn main(root: &Path) -> std::process::ExitCode {
    let count = read_facts(root).and_then(|facts| run(&Roots::below(root), &facts));
    tell("apply", count.map(|count| format!("applied {count} objects")))
}

/// Says how a program ended.
pub(crate) fn tell(
    program: &str,
    result: Result<String, impl std::error::Error + 'static>,
) -> std::process::ExitCode {
    match result {
        Ok(line) => {
            println!("{line}");
            std::process::ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{program}: {}", crate::report::chain(&error).join(": "));
            std::process::ExitCode::FAILURE
        }
    }
}

pub(crate) fn read_facts(root: &Path) -> Result<NodeFacts, BootstrapError> {
    let path = root.join(layout::NODE_FACTS.trim_start_matches('/'));
    let facts = |reason: String| BootstrapError::Facts { path: path.display().to_string(), reason };
    let text = fs::read(&path).map_err(|error| facts(error.to_string()))?;
    serde_json::from_slice(&text).map_err(|error| facts(error.to_string()))
}

/// Applies everything through this node's own API server; returns the number of objects.
pub fn run(roots: &Roots, facts: &NodeFacts) -> Result<usize, BootstrapError> {
    let api = Api::open(roots, facts.layer.file.cluster.endpoint_port)?;
    // Of no consequence for the objects, and without it the controller manager only waits.
    match lease::release(&api, facts) {
        Ok(true) => println!("took the controller manager of the boot before out of its lease"),
        Ok(false) => {}
        Err(error) => eprintln!("apply: the lease of the boot before has to run out by itself: {error}"),
    }
    let objects = objects(facts, &token(roots)?)?;
    let deadline = Instant::now() + PATIENCE;
    for object in &objects {
        apply(&api, object, deadline).map_err(|error| explain(error, object, facts))?;
    }
    Ok(objects.len())
}

fn token(roots: &Roots) -> Result<BootstrapToken, BootstrapError> {
    let path = roots.cluster_pki.join(pki::BOOTSTRAP_TOKEN);
    let text = fs::read_to_string(&path).ok();
    text.as_deref()
        .and_then(BootstrapToken::parse)
        .ok_or_else(|| BootstrapError::Token { path: path.display().to_string() })
}

/// Tries again while the API server may still be filling its store.
fn apply(api: &Api, object: &Object, deadline: Instant) -> Result<(), ApiError> {
    loop {
        match api.send(object) {
            Err(error) if error.is_temporary() && Instant::now() < deadline => std::thread::sleep(PAUSE),
            other => return other,
        }
    }
}

/// A Node's pod CIDR cannot be changed once it is set, nor by the node itself some of its labels.
fn explain(error: ApiError, object: &Object, facts: &NodeFacts) -> BootstrapError {
    match error {
        ApiError::Refused { status: 422, ref message, .. }
            if object.body["kind"] == "Node" && message.contains("podCIDR") =>
        {
            let pod_cidr = facts.pod_cidr.map(|ranges| format!("{ranges:#}")).unwrap_or_default();
            BootstrapError::PodCidr { node: facts.name.clone(), pod_cidr }
        }
        ApiError::Refused { status: 422, ref message, .. }
            if object.body["kind"] == "Node" && is_about_provider_id(message) =>
        {
            let provider_id = facts.provider_id.clone().unwrap_or_default();
            BootstrapError::ProviderId { node: facts.name.clone(), provider_id }
        }
        ApiError::Refused { status: 403, message, .. }
            if object.body["kind"] == "Node" && message.contains("label") =>
        {
            BootstrapError::Labels { node: facts.name.clone(), message }
        }
        other => other.into(),
    }
}

/// Older API servers only name what may be changed of a Node.
fn is_about_provider_id(message: &str) -> bool {
    message.contains("providerID") || message.contains("node updates may only change")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_has_to_be_deleted_first_is_told_so() {
        let facts = crate::network::tests::facts("10.10.3.0/24", "vxlan");
        let node = bootwright_model::kubernetes::node_object::of(&facts).unwrap();
        let say = |status, message: &str, object: &Object| {
            let url = "https://10.20.0.10:6443/api/v1/nodes/x".to_owned();
            explain(ApiError::Refused { url, status, message: message.to_owned() }, object, &facts)
                .to_string()
        };
        let delete = format!("run \"kubectl delete node {}\" and restart the machine", facts.name);
        assert!(say(422, "spec.podCIDRs: Forbidden", &node).contains(&delete));
        assert!(say(422, "spec.providerID: Forbidden", &node).contains(&delete));
        let labels = "is not allowed to modify labels: node-role.kubernetes.io/control-plane";
        let text = say(403, labels, &node);
        assert!(text.contains(&delete) && text.contains(labels), "{text}");
        assert!(!say(403, "nodes is forbidden", &node).contains(&delete));
        let mut other = node.clone();
        other.body["kind"] = "Secret".into();
        assert!(!say(403, labels, &other).contains(&delete));
    }
}
