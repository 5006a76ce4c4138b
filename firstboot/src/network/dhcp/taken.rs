//! Leases that a node of a cluster cannot use, or that a link of it cannot, whoever lends them.

use std::net::Ipv4Addr;

use bootwright_model::baked::ClusterLayer;
use ipnet::{IpNet, Ipv4Net};

use super::lease::Lease;
use crate::network::netlink::Netlink;
use crate::stages::Advice;

/// The address is somebody else's in the cluster file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{server} lent {address}, which {owner}")]
pub struct Taken {
    /// Who lent it.
    pub server: Ipv4Addr,
    /// What.
    pub address: Ipv4Net,
    /// Whose it is: `is the address of cp1 in the cluster file`.
    pub owner: String,
    /// What to do.
    pub next: &'static str,
}

const OF_CLUSTER: &str = "take the cluster's addresses out of the range that the DHCP server lends from";
const OF_MACHINE: &str =
    "reserve an address for each of the machine's links at the DHCP server, by their MAC addresses";

impl Advice for Taken {
    fn advice(&self) -> String {
        self.next.to_owned()
    }
}

/// An address that is another's in this cluster would take that one's traffic once it is switched on.
pub fn check(lease: &Lease, layer: &ClusterLayer) -> Result<(), Taken> {
    match owner(lease.address.into(), layer) {
        Some(owner) => Err(Taken { server: lease.server, address: lease.address, owner, next: OF_CLUSTER }),
        None => Ok(()),
    }
}

/// Whose an address is in the cluster file: `is the address of cp1 in the cluster file`.
pub fn owner(lent: IpNet, layer: &ClusterLayer) -> Option<String> {
    let (address, network) = (lent.addr(), lent.trunc());
    let cluster = &layer.file.cluster;
    if let Some(node) = layer.file.nodes.iter().find(|node| node.address.addrs().contains(&address)) {
        return Some(format!("is the address of {} in the cluster file", node.name));
    }
    if Some(address) == cluster.virtual_ip {
        return Some("is the cluster's virtual IP".to_owned());
    }
    for (what, ranges) in [("pods", cluster.pod_cidr), ("Services", cluster.service_cidr)] {
        if let Some(range) = ranges.iter().find(|range| range.contains(&network) || network.contains(range)) {
            return Some(format!("lies in a network of the range {range} of {what}"));
        }
    }
    None
}

/// An address that another link of this machine has. Nobody answers a probe for it, as links of one machine do not answer one
/// another, and the kernel would take it twice.
pub fn check_links(lease: &Lease, index: u32) -> Result<(), Taken> {
    match other_link(lease.address.into(), index) {
        Some(owner) => Err(Taken { server: lease.server, address: lease.address, owner, next: OF_MACHINE }),
        None => Ok(()),
    }
}

/// Which other link has an address of the link with an index: `this machine has already, on eth1`.
///
/// Without an answer of the kernel it is not known to be so.
pub fn other_link(address: IpNet, index: u32) -> Option<String> {
    let known = Netlink::open().and_then(|mut netlink| Ok((netlink.addresses()?, netlink.links()?)));
    let (addresses, links) = known.ok()?;
    let has = |(other, one): &&(u32, IpNet)| *other != index && one.addr() == address.addr();
    let (other, _) = addresses.iter().find(has)?;
    let name = links.iter().find(|link| link.index == *other).map_or("another link", |link| &link.name);
    Some(format!("this machine has already, on {name}"))
}

/// Whether an address that was found can be that of the link with an index: of the cluster's where a layer is given, and of this
/// machine's. A phrase if not.
pub fn usable(address: IpNet, index: u32, layer: Option<&ClusterLayer>) -> Result<(), String> {
    let owner = layer.and_then(|layer| owner(address, layer)).or_else(|| other_link(address, index));
    owner.map_or(Ok(()), |owner| Err(format!("{address} was given, which {owner}")))
}

#[cfg(test)]
mod tests {
    use super::super::lease::tests::lease;
    use super::*;

    #[test]
    fn an_address_of_the_cluster_is_refused() {
        let mut layer = crate::network::tests::facts("10.10.3.0/24", "vxlan").layer;
        layer.file.cluster.virtual_ip = "10.20.0.9".parse().ok();
        let refused = |address: &str| {
            let lease = Lease { address: address.parse().unwrap(), ..lease() };
            check(&lease, &layer).err().map(|error| error.to_string())
        };
        assert_eq!(refused("10.20.0.50/24"), None);
        insta::assert_snapshot!(
            refused("10.20.0.11/24").unwrap(),
            @"10.9.0.1 lent 10.20.0.11/24, which is the address of w1 in the cluster file"
        );
        insta::assert_snapshot!(
            refused("10.20.0.9/24").unwrap(),
            @"10.9.0.1 lent 10.20.0.9/24, which is the cluster's virtual IP"
        );
        insta::assert_snapshot!(
            refused("10.10.7.5/24").unwrap(),
            @"10.9.0.1 lent 10.10.7.5/24, which lies in a network of the range 10.10.0.0/16 of pods"
        );
        assert!(refused("10.96.1.1/8").is_some());
    }
}
