//! Which addresses nodes, pods and routers have: by the numbers of a network and of a node in it, in each family.

use std::net::IpAddr;

use bootwright_model::cluster::ClusterFile;
use bootwright_model::families::Family;
use network_namespaces::Namespace;
use serde_json::json;

/// An address of the network with this number.
pub fn address(family: Family, network: u8, number: u8) -> IpAddr {
    match family {
        Family::V4 => [10, network, 0, number].into(),
        Family::V6 => format!("fd00:{network}::{number}").parse().unwrap(),
    }
}

/// The pods' range of the node with this number.
pub fn range(family: Family, number: u8) -> String {
    match family {
        Family::V4 => format!("10.10.{number}.0/24"),
        Family::V6 => format!("fd00:10:0:{number}::/64"),
    }
}

/// The first quarter of that.
pub fn part(family: Family, number: u8) -> String {
    match family {
        Family::V4 => format!("10.10.{number}.0/26"),
        Family::V6 => format!("fd00:10:0:{number}::/66"),
    }
}

/// An address among the pods of the node with this number, and the length of their range: 1 is the node's own, 2 its
/// pod's.
pub fn pod(family: Family, number: u8, address: u8) -> (IpAddr, u8) {
    match family {
        Family::V4 => ([10, 10, number, address].into(), 24),
        Family::V6 => (format!("fd00:10:0:{number}::{address}").parse().unwrap(), 64),
    }
}

/// Prefix length of a link's network.
pub fn link_length(family: Family) -> u8 {
    if family == Family::V4 { 24 } else { 64 }
}

/// What `ip`'s option and BIRD's channel end with.
pub fn digit(family: Family) -> u8 {
    if family == Family::V4 { 4 } else { 6 }
}

/// What `ip address add` must be told, so that an address can be used at once.
pub fn nodad(family: Family) -> &'static str {
    if family == Family::V4 { "" } else { " nodad" }
}

/// Addresses of a link, the link-local one such that [`global`] knows it.
pub fn plug(families: &[Family], net: &Namespace, link: &str, network: u8, number: u8) {
    net.ip(&format!("link set {link} addrgenmode none"));
    net.ip(&format!("link set {link} up"));
    for family in families {
        let (address, length) = (address(*family, network, number), link_length(*family));
        net.ip(&format!("address add {address}/{length} dev {link}{}", nodad(*family)));
    }
    if families.contains(&Family::V6) {
        net.ip(&format!("address add fe80::{network}:{number}/64 dev {link} nodad"));
    }
}

/// The address of whoever has this one: neighbours of another system also tell their link-local address (RFC 2545),
/// and that is the gateway then.
pub fn global(address: &str) -> String {
    match address.strip_prefix("fe80::").and_then(|rest| rest.split_once(':')) {
        Some((network, number)) => format!("fd00:{network}::{number}"),
        None => address.to_owned(),
    }
}

/// A cluster file with a node for each pair of network and number, and these routers.
pub fn cluster_file(families: &[Family], nodes: &[(u8, u8)], routers: &[(IpAddr, u32)]) -> ClusterFile {
    let of_family = |v4: &'static str, v6: &'static str| {
        let of = |family: &Family| if *family == Family::V4 { v4 } else { v6 };
        families.iter().map(of).collect::<Vec<_>>()
    };
    let node = |(network, number): &(u8, u8)| {
        let addresses = families
            .iter()
            .map(|family| format!("{}/{}", address(*family, *network, *number), link_length(*family)));
        let ranges = families.iter().map(|family| range(*family, *number));
        json!({
            "name": format!("n{number}"), "role": "worker",
            "address": addresses.collect::<Vec<_>>(), "pod-cidr": ranges.collect::<Vec<_>>(),
        })
    };
    let router = |(address, asn): &(IpAddr, u32)| json!({ "address": address.to_string(), "as": asn });
    serde_json::from_value(json!({
        "cluster": {
            "name": "harbor", "endpoint": address(families[0], 20, 11).to_string(),
            "pod-cidr": of_family("10.10.0.0/16", "fd00:10::/48"),
            "service-cidr": of_family("10.96.0.0/16", "fd00:96::/112"),
        },
        "kubernetes": { "version": "1.20.2" },
        "network": { "mode": "bgp", "bgp": { "router": routers.iter().map(router).collect::<Vec<_>>() } },
        "node": nodes.iter().map(node).collect::<Vec<_>>(),
    }))
    .unwrap()
}
