//! **network**: the node's links, and its address on one of them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bootwright_model::clock;
use bootwright_model::kubernetes::{is_control_plane, is_node};
use bootwright_model::layout;
use bootwright_model::links::Link;
use bootwright_model::node::NodeFacts;

use super::identity::Known;
use super::modules::{self, ModulesError};
use super::{Advice, Done, Problem, problem};
use crate::network::links::{self, Configured, LinkError, Wanted};
use crate::report::under;

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The link.
    #[error("the network of this node cannot be configured")]
    Link(#[from] LinkError),
    /// The facts for programs beside PID 1.
    #[error("{path}: cannot be written")]
    Facts {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Advice for NetworkError {
    fn advice(&self) -> String {
        match self {
            NetworkError::Link(error) => error.advice(),
            NetworkError::Facts { .. } => "restart; /run must have room".to_owned(),
        }
    }
}

/// Configures the links; all facts about the node are known then.
pub fn run(root: &Path, known: Known) -> Result<Done<NodeFacts>, NetworkError> {
    let Known { identity, layer, os } = known;
    let wanted = Wanted {
        mac: identity.mac,
        address: identity.address,
        gateway: identity.gateway,
        mtu: layer.file.network.mtu,
        links: identity.links,
    };
    let mut problems = load_modules(root, &wanted.links);
    let configured = links::configure(root, &wanted)?;
    let facts = NodeFacts {
        name: identity.name,
        address: identity.address,
        gateway: identity.gateway,
        link: configured.link.clone(),
        pod_cidr: identity.pod_cidr,
        provider_id: identity.provider_id,
        time_servers: clock::servers(&layer.file, &layer.role, identity.time_servers),
        layer,
        os,
    };
    write_facts(root, &facts)?;
    let summary = summary(&facts, &configured);
    problems.extend(configured.problems);
    Ok(Done { value: facts, summary, problems })
}

/// Before the kernel asks for them: it would find no program to load them with in an image without one, and `bonding`
/// makes a device that nobody described if it is loaded so.
fn load_modules(root: &Path, links: &[Link]) -> Vec<Problem> {
    let names: BTreeSet<&str> = links.iter().filter_map(links::module).collect();
    let names: Vec<&str> = names.into_iter().collect();
    let refused = |error: ModulesError| vec![problem(&error)];
    if names.is_empty() { Vec::new() } else { modules::load_named(root, &names).unwrap_or_else(refused) }
}

fn summary(facts: &NodeFacts, configured: &Configured) -> String {
    let gateway = facts.gateway.map_or("no gateway".to_owned(), |gateway| format!("gateway {gateway:#}"));
    let online = match configured.online {
        Some(took) => format!("online after {:.3} s", took.as_secs_f64()),
        None => "not online".to_owned(),
    };
    let mut summary = format!(
        "{:#} on {} ({}, MTU {}), {gateway}, {online}",
        facts.address, facts.link, configured.mac, configured.mtu
    );
    // A control plane's API is started later, by itself, and machines of etcd need none.
    if configured.online.is_some() && is_node(&facts.layer.role) && !is_control_plane(&facts.layer.role) {
        let cluster = &facts.layer.file.cluster;
        let endpoint = SocketAddr::new(cluster.endpoint, cluster.endpoint_port);
        summary = format!("{summary}; {}", links::endpoint(endpoint));
    }
    summary
}

fn write_facts(root: &Path, facts: &NodeFacts) -> Result<(), NetworkError> {
    let path = under(root, layout::NODE_FACTS);
    let write = || {
        fs::create_dir_all(under(root, layout::RUN))?;
        crate::files::replace(&path, &serde_json::to_vec(facts)?, 0o600)
    };
    write().map_err(|source| NetworkError::Facts { path: path.clone(), source })
}
