//! An IPv6 address that was found, and what is looked for.

use std::net::Ipv6Addr;

use bootwright_model::baked::ClusterLayer;
use bootwright_model::families::Family;
use bootwright_model::links::Link;
use ipnet::{IpNet, Ipv6Net};

use super::held::Held;
use super::lease::{Lease, Told};
use super::{apply, autoconf};
use crate::network::dhcp::acquire::Card;

/// What a node would have of an address: where the cluster's nodes are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Networks of the nodes in the cluster file.
    pub networks: Vec<Ipv6Net>,
    /// Ask a DHCPv6 server for an address whatever the router says.
    pub dhcp6: bool,
    /// It may be of a router that is no default router: the node has its way to the others elsewhere.
    pub without_way: bool,
    /// Of the default route.
    pub metric: Option<u32>,
}

impl Wanted {
    /// Of a cluster, on a link as it is described; `own`: for the node's own address.
    pub fn of(layer: &ClusterLayer, described: &Link, own: bool) -> Wanted {
        let addresses = layer.file.nodes.iter().filter_map(|node| node.address.of(Family::V6));
        let networks = addresses.filter_map(|address| match address.trunc() {
            IpNet::V6(network) => Some(network),
            IpNet::V4(_) => None,
        });
        Wanted {
            networks: networks.collect(),
            dhcp6: described.dhcp6,
            without_way: !own,
            metric: described.metric,
        }
    }

    /// Of several addresses the one with the greatest value is the node's: one where the other nodes are, else a global one,
    /// else a unique local one (RFC 4193), else what is left.
    pub fn rank(&self, address: Ipv6Addr) -> u8 {
        let is_global = address.segments()[0] & 0xe000 == 0x2000;
        match address {
            _ if self.networks.iter().any(|network| network.contains(&address)) => 3,
            _ if is_global => 2,
            _ if address.is_unique_local() => 1,
            _ => 0,
        }
    }
}

/// An address on a card; it is set and used by no other machine.
#[derive(Debug)]
pub struct Found {
    /// Where.
    pub card: Card,
    /// With the prefix length of its network.
    pub address: Ipv6Net,
    /// Who advertised the network, and is the default route.
    pub router: Ipv6Addr,
    /// Of the link, bytes.
    pub mtu: Option<u32>,
    /// If a server lent it.
    pub lease: Option<Lease>,
    /// Just before the request for the lease. Milliseconds since the kernel's start.
    pub since_ms: u64,
    /// What router and server said beside.
    pub told: Told,
    /// What was promised and not had, for the report.
    pub missing: Option<String>,
    /// How the card was before.
    pub before: autoconf::Before,
}

impl Found {
    /// To be written down.
    pub fn held(&self) -> Held {
        Held {
            address: self.address,
            router: self.router,
            since_ms: self.since_ms,
            lease: self.lease.clone(),
            told: self.told.clone(),
        }
    }

    /// Leaves the card as it was: another was chosen.
    pub fn give_up(&self) {
        if self.lease.is_some() {
            let _ = apply::withdraw(self.card.index, self.address);
        }
        self.before.restore();
    }

    /// `lent by fe80::1 for 600 s`, `made of what fe80::1 advertises`
    pub fn origin(&self) -> String {
        match &self.lease {
            Some(lease) => format!("lent by {} {}", lease.from, lease.time()),
            None => format!("made of what {} advertises", self.router),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clusters_network_comes_before_global_and_unique_addresses() {
        let networks = vec!["fd00:20::/64".parse().unwrap()];
        let wanted = Wanted { networks, ..Wanted::default() };
        let ranks = ["fd00:20::9", "2001:db8::9", "fd00:21::9", "fec0::9"]
            .map(|address| wanted.rank(address.parse().unwrap()));
        assert_eq!(ranks, [3, 2, 1, 0]);
    }
}
