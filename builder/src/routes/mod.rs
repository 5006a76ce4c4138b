//! What routers and hosts outside a cluster must know to reach its pods: each node's pod CIDR, by way of the
//! node's address. A function of the cluster file alone.

mod sessions;
#[cfg(test)]
mod tests;
mod text;

use std::net::IpAddr;

use bootwright_model::cluster::{ClusterFile, Network, NetworkMode};
use bootwright_model::families::Family;
use bootwright_model::kubernetes::is_node;
use ipnet::IpNet;
use serde::Serialize;

pub use self::sessions::{Neighbour, RouterSessions};
pub use self::text::Format;

/// The routes of a cluster's pods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PodRoutes {
    /// Name of the cluster.
    pub cluster: String,
    /// How pods on different nodes reach each other.
    pub network: NetworkMode,
    /// What the fabric is needed for in this mode, in a sentence or two.
    pub purpose: &'static str,
    /// Nodes in the order of the cluster file; of one with both families the primary one first.
    pub routes: Vec<PodRoute>,
    /// The routers' sessions with the nodes, by which they learn the routes; with mode `bgp` and routers only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sessions: Vec<RouterSessions>,
}

/// The route to one node's pods of a family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PodRoute {
    /// Name of the node.
    pub node: String,
    /// Its pods.
    pub pod_cidr: IpNet,
    /// Its address.
    pub via: IpAddr,
}

impl PodRoutes {
    /// Of a checked cluster file, in which every node has its pod CIDRs. Machines that run no pods are left out. Pods of a
    /// family that their node has no address of have no route: another address is no next hop for them.
    pub fn of(file: &ClusterFile) -> PodRoutes {
        let nodes = file.nodes.iter().filter(|node| is_node(&node.role));
        let routes = nodes.flat_map(|node| {
            let ranges = node.pod_cidr.into_iter().flat_map(|ranges| ranges.trunc().iter());
            ranges.filter_map(move |pod_cidr| {
                let via = node.address.of(Family::of(pod_cidr.addr()))?.addr();
                Some(PodRoute { node: node.name.clone(), pod_cidr, via })
            })
        });
        PodRoutes {
            cluster: file.cluster.name.clone(),
            network: file.network.mode,
            purpose: purpose(&file.network),
            routes: routes.collect(),
            sessions: sessions::of(file),
        }
    }

    /// Leaves out the sessions of other routers than this one; false if it has none.
    pub fn keep_router(&mut self, router: IpAddr) -> bool {
        self.sessions.retain(|sessions| sessions.router == router);
        !self.sessions.is_empty()
    }
}

fn purpose(network: &Network) -> &'static str {
    match network.mode {
        NetworkMode::Vxlan => {
            "Nodes carry their pods' packets to each other in VXLAN: the fabric needs these only for what reaches pods \
             from outside the cluster."
        }
        NetworkMode::Routes if network.has_overlay() => {
            "Nodes have these routes to nodes on their own link, and VXLAN to the others: the fabric needs them only for \
             what reaches pods from outside the cluster."
        }
        NetworkMode::Routes => {
            "Nodes have these routes to each other: the fabric needs them for what reaches pods from outside the \
             cluster."
        }
        NetworkMode::Bgp if network.bgp.as_ref().is_some_and(|bgp| !bgp.routers.is_empty()) => {
            "The routers of the cluster file learn the routes to pods from the nodes by BGP, and nodes those of others from \
             them."
        }
        NetworkMode::Bgp => {
            "Nodes tell each other these routes by BGP, and the fabric nothing, as the cluster file names no router: the \
             fabric needs them for what reaches pods from outside the cluster."
        }
        NetworkMode::Cloud => {
            "The cloud has these routes, from its own controller; the cluster file says so (mode \"cloud\")."
        }
        NetworkMode::None => {
            "The cluster file leaves the pod network to a plugin or to the fabric (mode \"none\"): these routes are right \
             only where pods have addresses of their Node's pod CIDR."
        }
    }
}
