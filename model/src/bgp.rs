//! Who speaks BGP (RFC 4271) with whom: the nodes with one another, or each with the routers of the fabric.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// `[network.bgp]`: the nodes' autonomous system, and the routers that they speak to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Bgp {
    /// Number of the nodes' autonomous system, the same for all.
    #[serde(rename = "as")]
    pub asn: u32,
    /// A router of the fabric. Without any the nodes have sessions with one another.
    #[serde(rename = "router", skip_serializing_if = "Vec::is_empty")]
    pub routers: Vec<BgpRouter>,
}

/// The first number for private use (RFC 6996), and what others take if nothing is said.
const DEFAULT_ASN: u32 = 64512;

impl Default for Bgp {
    fn default() -> Self {
        Bgp { asn: DEFAULT_ASN, routers: Vec::new() }
    }
}

/// `[[network.bgp.router]]`: a router of the fabric that nodes have sessions with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BgpRouter {
    /// Its address. A node speaks to the routers of its own network; where there are none, to all of them.
    pub address: IpAddr,
    /// Number of its autonomous system; that of the nodes makes it a route reflector of theirs (iBGP).
    #[serde(rename = "as")]
    pub asn: u32,
}

/// A router that a node has a session with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouterSession<'a> {
    /// The router.
    pub router: &'a BgpRouter,
    /// Whether it is in the node's network, and not behind others.
    pub on_link: bool,
}

impl Bgp {
    /// The routers that a node with this address has sessions with, in the order of the cluster file: those of its own
    /// network, the top-of-rack switches; where there are none, all of its family. Nodes without any have sessions with
    /// one another.
    pub fn routers_of(&self, address: IpNet) -> Vec<RouterSession<'_>> {
        let of_family =
            self.routers.iter().filter(|router| router.address.is_ipv4() == address.addr().is_ipv4());
        let mut sessions: Vec<RouterSession<'_>> = of_family
            .map(|router| RouterSession { router, on_link: address.contains(&router.address) })
            .collect();
        if sessions.iter().any(|session| session.on_link) {
            sessions.retain(|session| session.on_link);
        }
        sessions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routers_of(address: &str, routers: &[&str]) -> Vec<(String, bool)> {
        let router = |text: &&str| BgpRouter { address: text.parse().unwrap(), asn: 64601 };
        let bgp = Bgp { routers: routers.iter().map(router).collect(), ..Bgp::default() };
        let sessions = bgp.routers_of(address.parse().unwrap());
        sessions.iter().map(|session| (session.router.address.to_string(), session.on_link)).collect()
    }

    #[test]
    fn a_node_speaks_to_the_routers_of_its_network_or_to_all() {
        let two_racks = ["10.20.0.1", "10.20.0.2", "10.30.0.1"];
        let expected = [("10.20.0.1".to_owned(), true), ("10.20.0.2".to_owned(), true)];
        assert_eq!(routers_of("10.20.0.11/24", &two_racks), expected);
        assert_eq!(routers_of("10.30.0.11/24", &two_racks), [("10.30.0.1".to_owned(), true)]);
        let behind = routers_of("10.40.0.11/24", &two_racks);
        assert!(behind.len() == 3 && behind.iter().all(|(_, on_link)| !on_link), "{behind:?}");
    }

    #[test]
    fn routers_of_the_other_family_do_not_count() {
        assert_eq!(routers_of("fd00:20::11/64", &["10.20.0.1"]), []);
        assert_eq!(
            routers_of("fd00:20::11/64", &["10.20.0.1", "fd00:20::1"]),
            [("fd00:20::1".to_owned(), true)]
        );
    }
}
