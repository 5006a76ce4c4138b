//! Who the other nodes are, who this one is, and how they reach each other.

use std::net::IpAddr;

use bootwright_model::cluster::{Fallback, Network, NetworkMode};
use bootwright_model::kubernetes::is_node;
use bootwright_model::node::NodeFacts;
use ipnet::IpNet;

use super::Family;

/// Another node. In the order of who has what two of them claim.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// When it joined, seconds since the Unix epoch: a newcomer takes nothing from who was there before, whenever either
    /// got what both claim. [`Peer::EXPECTED`] if it has not joined.
    pub since: u64,
    /// Its node name, which the MAC of its VXLAN device follows from.
    pub name: String,
    /// Addresses of the node, the first of a family counts.
    pub addresses: Vec<IpAddr>,
    /// Its pods' ranges, of either family or both.
    pub pod_cidrs: Vec<IpNet>,
}

impl Peer {
    /// `since` of a peer that is known of and has not joined: whoever has joined comes before it.
    pub const EXPECTED: u64 = u64::MAX;
}

/// This node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// Its node name.
    pub name: String,
    /// Addresses with the prefix of the link that they are on, the first of a family counts.
    pub addresses: Vec<IpNet>,
    /// Its pods' ranges, the first of a family counts.
    pub pod_cidrs: Vec<IpNet>,
    /// What all nodes' pods are in. A Node says itself which range it has: one elsewhere would have it be sent what is
    /// meant for others. Of a family that is not here any range is taken.
    pub cluster_cidrs: Vec<IpNet>,
}

impl Own {
    /// As first boot knows it.
    pub fn from_facts(facts: &NodeFacts) -> Own {
        Own {
            name: facts.name.clone(),
            addresses: facts.address.iter().collect(),
            pod_cidrs: facts.pod_cidrs().collect(),
            cluster_cidrs: facts.layer.file.cluster.pod_cidr.iter().collect(),
        }
    }

    /// Address and pod CIDR of a family.
    pub(super) fn of(&self, family: Family) -> (Option<IpNet>, Option<IpNet>) {
        let first = |ranges: &[IpNet]| ranges.iter().copied().find(|one| Family::of(one.addr()) == family);
        (first(&self.addresses), first(&self.pod_cidrs))
    }
}

/// How pods reach those of other nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Not by us; what there was of ours is removed.
    None,
    /// By routes to peers on the same link.
    Routes {
        /// To the others through VXLAN. Without it they are refused and reported.
        fallback_vxlan: bool,
    },
    /// Through VXLAN.
    Vxlan,
}

/// Of VXLAN (RFC 7348).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlay {
    /// Network identifier, 24 bits.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
}

/// What all nodes have to agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How pods reach those of other nodes.
    pub mode: Mode,
    /// What VXLAN devices are made with.
    pub overlay: Overlay,
}

impl From<&Network> for Settings {
    fn from(network: &Network) -> Settings {
        let mode = match network.mode {
            // Nothing is programmed; what an image with another mode left behind goes.
            NetworkMode::Bgp | NetworkMode::Cloud | NetworkMode::None => Mode::None,
            NetworkMode::Routes => Mode::Routes { fallback_vxlan: network.fallback == Some(Fallback::Vxlan) },
            NetworkMode::Vxlan => Mode::Vxlan,
        };
        Settings { mode, overlay: Overlay { vni: network.vni, port: network.port } }
    }
}

/// The other nodes of the baked inventory that run pods.
pub fn baked_peers(facts: &NodeFacts) -> Vec<Peer> {
    let nodes = facts.layer.file.nodes.iter().filter(|node| is_node(&node.role));
    let others = nodes.filter(|node| node.name != facts.name);
    others
        .map(|node| Peer {
            since: Peer::EXPECTED,
            name: node.name.clone(),
            addresses: node.address.addrs().iter().collect(),
            pod_cidrs: node.pod_cidr.into_iter().flat_map(|ranges| ranges.iter()).collect(),
        })
        .collect()
}
