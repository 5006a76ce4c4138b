//! **network**: the node's links, and its address on one of them: the one that its identity has, or one that a DHCP
//! server lends or a router advertises.

mod asked;
mod described;
mod found;
mod leases;
mod leases_ipv6;
mod lent;
mod mtu;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use bootwright_model::baked::ClusterLayer;
use bootwright_model::clock;
use bootwright_model::families::{Family, PerFamily};
use bootwright_model::kubernetes::{is_control_plane, is_node};
use bootwright_model::layout;
use bootwright_model::links::Link;
use bootwright_model::node::NodeFacts;
use ipnet::IpNet;

use super::identity::{self, Known};
use super::modules::{self, ModulesError};
use super::{Advice, Done, Problem, problem};
use crate::identity::checks::missing_families;
use crate::identity::{Identity, metadata};
use crate::network::links::follow::Kept;
use crate::network::links::{self, Configured, LinkError};
use crate::report::under;

pub use found::FoundError;
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
    /// IPv6, alone or beside IPv4.
    #[error("this node has not got all addresses that it needs")]
    Found(#[from] FoundError),
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
            NetworkError::Found(error) => error.advice(),
            NetworkError::Facts { .. } => "restart; /run must have room".to_owned(),
        }
    }
}

/// The node's address, and what came with it.
struct Addressed {
    configured: Configured,
    /// For the service that follows the links.
    kept: Kept,
    address: PerFamily<IpNet>,
    gateway: Option<PerFamily<IpAddr>>,
    /// NTP servers of the lease.
    time_servers: Vec<String>,
    /// Where the address is from, for the summary: nothing, or `, lent by …`.
    origin: String,
    /// What further links have got, for the summary.
    further: Vec<String>,
}

impl Addressed {
    /// Bytes, of its link; no link that is asked on has more.
    fn mtu(&self) -> u16 {
        u16::try_from(self.configured.mtu).unwrap_or(u16::MAX)
    }
}

/// Configures the links; all facts about the node are known then.
pub fn run(root: &Path, known: Known) -> Result<Done<NodeFacts>, NetworkError> {
    let Known { mut identity, machine, mut layer, os } = known;
    let mut problems = load_modules(root, &identity.links);
    take_plain_card(&mut identity);
    let (name, pod_cidr, provider_id) =
        (identity.name.clone(), identity.pod_cidr, identity.provider_id.clone());
    let seeded = identity.time_servers.clone();
    let missing = needed(&identity, &layer);
    let is_any = identity.address.is_none() && is_any_card(&identity.links);
    let addressed = match missing.as_slice() {
        [Family::V4] if is_any => lent::on_any_card(root, &identity, &layer)?,
        [_, ..] if is_any => found::configure(root, identity, &layer)?,
        missing => described::configure(root, identity, missing, &layer)?,
    };
    let Addressed { configured, kept, address, gateway, time_servers, origin, further } = addressed;
    layer.file.network.mtu = pods_mtu(layer.file.network.mtu, configured.mtu);
    let link = configured.link.clone();
    let time_servers = clock::servers(&layer.file, &layer.role, seeded, time_servers);
    // Only a machine that is admitted gets this far without.
    let admitted = pod_cidr.is_none() && is_node(&layer.role);
    let facts =
        NodeFacts { name, address, gateway, link, pod_cidr, admitted, provider_id, time_servers, layer, os };
    write_facts(root, &facts)?;
    write_links(root, &kept)?;
    let mut summary = summary(&facts, &configured, &origin);
    for lease in &further {
        summary += &format!("; {lease}");
    }
    problems.extend(configured.problems);
    problems.extend(metadata::report_ready(&machine).err().map(|error| problem(&error)));
    Ok(Done { value: facts, summary, problems })
}

/// Families of which somebody else is to give the address. A machine that is no node has the one that it needs.
fn needed(identity: &Identity, layer: &ClusterLayer) -> Vec<Family> {
    if is_node(&layer.role) { missing_families(identity.address.as_ref(), layer) } else { Vec::new() }
}

/// What the node's pods are made for, bytes, of the cluster file's and the link's: a lease, or a description in node.toml or of
/// a cloud, may say less than the cluster file, and packets of pods leave by that link.
fn pods_mtu(of_cluster: u16, of_link: u32) -> u16 {
    u16::try_from(of_link).map_or(of_cluster, |of_link| of_link.min(of_cluster))
}

/// The card of a description that knows of one alone, and nothing of its addresses.
fn plain_card(links: &[Link]) -> Option<&Link> {
    match links {
        [card] => Some(card).filter(|card| card.is_plain_card()),
        _ => None,
    }
}

/// Whether the node's address may be lent on any card: nobody describes more than that there is one.
fn is_any_card(links: &[Link]) -> bool {
    links.is_empty() || plain_card(links).is_some()
}

/// Such a card is the machine's card, as if it were not described, but for its MTU and the like. The name is what another
/// system calls it (`ens3`): the MAC address says which one it is, or that there is no other.
fn take_plain_card(identity: &mut Identity) {
    let Some(card) = plain_card(&identity.links) else { return };
    let mac = identity.mac.take().or_else(|| card.mac.clone());
    identity.links = vec![Link { name: String::new(), mac: mac.clone(), ..card.clone() }];
    identity.mac = mac;
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

/// The links, for the service that follows them.
fn write_links(root: &Path, kept: &Kept) -> Result<(), NetworkError> {
    kept.write(root).map_err(|source| NetworkError::Facts { path: under(root, layout::LINKS), source })
}

/// The node's own name, now that its address is known.
fn write_hosts(
    root: &Path,
    name: &str,
    address: PerFamily<IpNet>,
    layer: &ClusterLayer,
) -> Result<(), NetworkError> {
    let path = under(root, "/etc/hosts");
    let hosts = identity::hosts(name, Some(address), layer);
    crate::files::replace(&path, hosts.as_bytes(), 0o644)
        .map_err(|source| NetworkError::Facts { path, source })
}

/// The facts, for programs beside PID 1.
pub fn write_facts(root: &Path, facts: &NodeFacts) -> Result<(), NetworkError> {
    let path = under(root, layout::NODE_FACTS);
    let write = || {
        fs::create_dir_all(under(root, layout::RUN))?;
        if facts.admitted {
            fs::write(under(root, layout::ADMITTED), "")?;
        }
        crate::files::replace(&path, &serde_json::to_vec(facts)?, 0o600)
    };
    write().map_err(|source| NetworkError::Facts { path: path.clone(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(links: &str, mac: Option<&str>) -> Identity {
        #[derive(serde::Deserialize)]
        struct File {
            link: Vec<Link>,
        }
        let file: File = toml::from_str(links).unwrap();
        Identity {
            name: "w9".into(),
            address: None,
            gateway: None,
            mac: mac.map(str::to_owned),
            pod_cidr: None,
            provider_id: None,
            links: file.link,
            time_servers: None,
            sources: Vec::new(),
        }
    }

    #[test]
    fn a_plain_card_alone_is_the_machines_card_by_its_mac() {
        let text = "[[link]]\nname = 'ens3'\nmac = '52:54:00:00:00:01'\nmtu = 1450\ndhcp4 = true";
        for (known, mac) in [(None, "52:54:00:00:00:01"), (Some("52:54:00:00:00:02"), "52:54:00:00:00:02")] {
            let mut identity = identity(text, known);
            take_plain_card(&mut identity);
            assert_eq!(identity.mac.as_deref(), Some(mac));
            let card = &identity.links[0];
            assert_eq!((card.name.as_str(), card.mac.as_deref(), card.mtu), ("", Some(mac), Some(1450)));
        }
    }

    #[test]
    fn pods_have_the_least_of_link_and_cluster() {
        let mtus = [(1500, 1450), (1500, 9000), (1450, 1500), (1500, 65_536)];
        assert_eq!(mtus.map(|(of_cluster, of_link)| pods_mtu(of_cluster, of_link)), [1450, 1500, 1450, 1500]);
    }
}
