//! `firstboot join`: a node without authorities takes its place in the cluster.
//!
//! The kubelet asks for its certificate with the bootstrap token, and the agent of a control plane approves it by
//! the node's name. With that this program makes the Node, or brings it up to date, and takes the token off the
//! machine until the next boot. What shows the kubelet's certificate as well, kube-proxy, starts after it.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use bootwright_model::kubernetes::{api_server, node_object, pki};
use bootwright_model::node::NodeFacts;
use serde_json::Value;

use super::{Api, ApiError, BootstrapError, PATIENCE, PAUSE, apply, explain, read_facts, tell};
use crate::certificates::Roots;

/// Between looks for the certificate.
const LOOK: Duration = Duration::from_millis(250);

/// Runs as a program below `root` (`/` on a node).
pub fn main(root: &Path) -> std::process::ExitCode {
    let node = read_facts(root).and_then(|facts| run(&Roots::below(root), &facts));
    tell("join", node.map(|name| format!("joined as {name}")))
}

/// Waits for the certificate and makes the Node; returns its name.
pub fn run(roots: &Roots, facts: &NodeFacts) -> Result<String, BootstrapError> {
    let deadline = Instant::now() + PATIENCE;
    let server = api_server(facts);
    while !roots.kubelet_pki.join(pki::KUBELET_CLIENT_CURRENT).exists() {
        if Instant::now() >= deadline {
            return Err(BootstrapError::NoCertificate { server, seconds: PATIENCE.as_secs() });
        }
        std::thread::sleep(LOOK);
    }
    let api = Api::open_as_node(roots, server)?;
    let mut node = node_object::of(facts)?;
    if facts.described().is_none()
        && let Some(present) = present(&api, &node.path, Instant::now() + PATIENCE)?
    {
        node_object::keep(&mut node, &present);
    }
    // With its taints if the kubelet has not made it yet: later a node may not taint itself.
    for object in node_object::tainted(facts)?.iter().chain([&node]) {
        apply(&api, object, Instant::now() + PATIENCE).map_err(|error| explain(error, &node, facts))?;
    }
    forget_token(roots)?;
    Ok(facts.name.clone())
}

/// The Node, if there is one.
fn present(api: &Api, path: &str, deadline: Instant) -> Result<Option<Value>, ApiError> {
    loop {
        match api.get(path) {
            Ok(node) => return Ok(Some(node)),
            Err(ApiError::Refused { status: 404, .. }) => return Ok(None),
            Err(error) if error.is_temporary() && Instant::now() < deadline => std::thread::sleep(PAUSE),
            Err(error) => return Err(error),
        }
    }
}

/// The image still has it, for the next boot: a certificate may have ended by then.
fn forget_token(roots: &Roots) -> Result<(), BootstrapError> {
    let path = roots.cluster_pki.join(pki::BOOTSTRAP_TOKEN);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(BootstrapError::Forget { path: path.display().to_string(), source: error })
        }
        _ => Ok(()),
    }
}
