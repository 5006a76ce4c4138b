//! **network**: the node's links, and its address on one of them: the one that its identity has, or one that a DHCP
//! server lends.

mod lent;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use bootwright_model::clock;
use bootwright_model::families::PerFamily;
use bootwright_model::kubernetes::{is_control_plane, is_node};
use bootwright_model::layout;
use bootwright_model::links::Link;
use bootwright_model::node::NodeFacts;
use ipnet::IpNet;

use super::identity::Known;
use super::modules::{self, ModulesError};
use super::{Advice, Done, Problem, problem};
use crate::identity::Identity;
use crate::network::links::{self, Configured, LinkError, Wanted};
use crate::report::under;

pub use lent::LentError;

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The link.
    #[error("the network of this node cannot be configured")]
    Link(#[from] LinkError),
    /// DHCP.
    #[error("this node has got no address")]
    Lent(#[from] LentError),
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
            NetworkError::Lent(error) => error.advice(),
            NetworkError::Facts { .. } => "restart; /run must have room".to_owned(),
        }
    }
}

/// The node's address, and what came with it.
struct Addressed {
    configured: Configured,
    address: PerFamily<IpNet>,
    gateway: Option<PerFamily<IpAddr>>,
    /// NTP servers of the lease.
    time_servers: Vec<String>,
    /// Where the address is from, for the summary: nothing, or `, lent by …`.
    origin: String,
}

/// Configures the links; all facts about the node are known then.
pub fn run(root: &Path, known: Known) -> Result<Done<NodeFacts>, NetworkError> {
    let Known { identity, mut layer, os } = known;
    let mut problems = load_modules(root, &identity.links);
    let (name, pod_cidr, provider_id) =
        (identity.name.clone(), identity.pod_cidr, identity.provider_id.clone());
    let seeded = identity.time_servers.clone();
    let addressed = match identity.address {
        Some(address) => given(root, identity, address, layer.file.network.mtu)?,
        None => {
            let lent = lent::configure(root, &identity, &layer)?;
            // A lease may ask for less than the cluster file says, and pods have what is left of it.
            let least = u32::from(layer.file.network.mtu).min(lent.configured.mtu);
            layer.file.network.mtu = u16::try_from(least).unwrap_or(layer.file.network.mtu);
            lent
        }
    };
    let Addressed { configured, address, gateway, time_servers, origin } = addressed;
    let link = configured.link.clone();
    let time_servers = clock::servers(&layer.file, &layer.role, seeded, time_servers);
    let facts = NodeFacts { name, address, gateway, link, pod_cidr, provider_id, time_servers, layer, os };
    write_facts(root, &facts)?;
    let summary = summary(&facts, &configured, &origin);
    problems.extend(configured.problems);
    Ok(Done { value: facts, summary, problems })
}

fn given(
    root: &Path,
    identity: Identity,
    address: PerFamily<IpNet>,
    mtu: u16,
) -> Result<Addressed, NetworkError> {
    let Identity { mac, gateway, links, .. } = identity;
    let configured = links::configure(root, &Wanted { mac, address, gateway, mtu, links })?;
    Ok(Addressed { configured, address, gateway, time_servers: Vec::new(), origin: String::new() })
}

/// Before the kernel asks for them: it would find no program to load them with in an image without one, and `bonding`
/// makes a device that nobody described if it is loaded so.
fn load_modules(root: &Path, links: &[Link]) -> Vec<Problem> {
    let names: BTreeSet<&str> = links.iter().filter_map(links::module).collect();
    let names: Vec<&str> = names.into_iter().collect();
    let refused = |error: ModulesError| vec![problem(&error)];
    if names.is_empty() { Vec::new() } else { modules::load_named(root, &names).unwrap_or_else(refused) }
}

fn summary(facts: &NodeFacts, configured: &Configured, origin: &str) -> String {
    let gateway = facts.gateway.map_or("no gateway".to_owned(), |gateway| format!("gateway {gateway:#}"));
    let online = match configured.online {
        Some(took) => format!("online after {:.3} s", took.as_secs_f64()),
        None => "not online".to_owned(),
    };
    let mut summary = format!(
        "{:#} on {} ({}, MTU {}), {gateway}{origin}, {online}",
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
