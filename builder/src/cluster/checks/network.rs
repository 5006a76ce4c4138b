//! The network between nodes: mode and fallback, VXLAN's identifier and port, MTU, resolvers.

use bootwright_model::cluster::{ClusterFile, NetworkMode};
use bootwright_model::families::Family;
use bootwright_model::vxlan::overhead_bytes;

use super::duplicates;
use super::settings::NODE_PORTS;
use crate::cluster::text::finding::{Finding, KeyPath};

/// Smallest MTU that IPv6 runs on (RFC 8200, section 5), and little enough for any IPv4 link.
pub(super) const LEAST_MTU: u16 = 1280;
/// Largest MTU of common Ethernet adapters.
pub(super) const MOST_MTU: u16 = 9216;
/// What VXLAN takes, where it does so of packets that need [`LEAST_MTU`].
const OVER_IPV6_BYTES: u16 = overhead_bytes(Family::V6);
/// Largest VXLAN network identifier, 24 bits (RFC 7348, section 5). 0 is left out: some switches drop it.
const MOST_VNI: u32 = 0xff_ffff;
/// UDP ports that other programs of a node listen at.
const TAKEN_UDP_PORTS: [(u16, &str); 3] = [(53, "DNS's"), (123, "NTP's"), (323, "chrony's")];

pub fn check(file: &ClusterFile, findings: &mut Vec<Finding>) {
    fallback(file, findings);
    vni(file.network.vni, findings);
    port(file.network.port, findings);
    mtu(file, findings);
    resolvers(file, findings);
}

/// `network.<key>`
fn network(key: &str) -> KeyPath {
    KeyPath::of("network").key(key)
}

fn fallback(file: &ClusterFile, findings: &mut Vec<Finding>) {
    if file.network.fallback.is_none() || file.network.mode == NetworkMode::Routes {
        return;
    }
    let why = match file.network.mode {
        NetworkMode::Vxlan => "already reaches every node through VXLAN",
        NetworkMode::Bgp => "has routes to every node by BGP",
        NetworkMode::Cloud => "leaves all routes to the cloud",
        _ => "leaves the pod network to a plugin",
    };
    findings.push(
        Finding::new("fallback", format!("`fallback` is for mode \"routes\": this mode {why}"))
            .at_value(network("fallback"), "does nothing")
            .at_value(network("mode"), "another mode")
            .help("leave `fallback` out, or write mode = \"routes\""),
    );
}

fn vni(vni: u32, findings: &mut Vec<Finding>) {
    if !(1..=MOST_VNI).contains(&vni) {
        findings.push(
            Finding::new("vni", format!("{vni} is not a VXLAN network identifier"))
                .at_value(network("vni"), "out of range")
                .help(format!("write a number between 1 and {MOST_VNI}; 4096 if nothing speaks against it")),
        );
    }
}

fn port(port: u16, findings: &mut Vec<Finding>) {
    let taken = TAKEN_UDP_PORTS.iter().find(|(taken, _)| *taken == port).map(|(_, whose)| *whose);
    let why = match taken {
        Some(whose) => format!("is {whose}"),
        None if NODE_PORTS.contains(&port) => "is in the range of NodePorts, 30000 to 32767".to_owned(),
        None if port == 0 => "is none".to_owned(),
        None => return,
    };
    findings.push(
        Finding::new("vxlan-port", format!("VXLAN cannot use UDP port {port}: it {why}"))
            .at_value(network("port"), "not usable")
            .help("use 4789, or 8472 where the network below keeps 4789 to itself"),
    );
}

fn mtu(file: &ClusterFile, findings: &mut Vec<Finding>) {
    let mtu = file.network.mtu;
    let over_ipv6 =
        file.network.has_overlay() && file.nodes.iter().any(|one| one.address.of(Family::V6).is_some());
    let least = if over_ipv6 { LEAST_MTU + OVER_IPV6_BYTES } else { LEAST_MTU };
    if (least..=MOST_MTU).contains(&mtu) {
        return;
    }
    let why = format!(" ({LEAST_MTU} for pods, {OVER_IPV6_BYTES} for VXLAN over IPv6)");
    let why = if over_ipv6 { why.as_str() } else { "" };
    findings.push(
        Finding::new("mtu", format!("{mtu} is not a possible MTU"))
            .at_value(network("mtu"), "out of range")
            .help(format!("write a number of bytes between {least}{why} and {MOST_MTU}; 1500 is usual")),
    );
}

fn resolvers(file: &ClusterFile, findings: &mut Vec<Finding>) {
    let path = |index| network("resolvers").index(index);
    for (index, resolver) in file.network.resolvers.iter().enumerate() {
        if resolver.is_unspecified() || resolver.is_multicast() {
            findings.push(
                Finding::new("resolver", format!("{resolver} is not the address of a resolver"))
                    .at_value(path(index), "not a machine")
                    .help("write the address of a DNS server, or leave the list empty"),
            );
        }
    }
    duplicates(file.network.resolvers.iter().map(Some), |first, second, resolver| {
        findings.push(
            Finding::new("resolver", format!("resolver {resolver} is written twice"))
                .at_value(path(second), "again")
                .at_value(path(first), "first here")
                .help("leave one of them out"),
        );
    });
}
