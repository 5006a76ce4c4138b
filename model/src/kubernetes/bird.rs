//! BIRD 2: `bird.conf`, <https://bird.network.cz/doc/bird-2.html>.
//!
//! Each node announces its own pods' range, and takes the ranges of others from whom it has a session with: all other
//! nodes of its network, or the routers of the fabric ([`crate::bgp`]). What it takes goes into the kernel's main table;
//! routes there that others have made are neither read nor changed.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Component, ConfigFile, KubernetesError, NodeContext, is_node};
use crate::bgp::{Bgp, BgpRouter, RouterSession};
use crate::cluster::{ClusterFile, Node};
use crate::families::Family;
use crate::node::NodeFacts;

/// A folder of its own, which the control socket goes into as well: BIRD makes none.
const CONFIGURATION: &str = "/run/bird/bird.conf";
/// Where `birdcl` looks for it.
pub const CONTROL_SOCKET: &str = "/run/bird/bird.ctl";
/// Option of a BIRD that takes up what one that crashed left: the neighbours have kept its routes (RFC 4724), and the
/// kernel has those to them.
pub const RECOVER: &str = "-R";

/// Seconds. A neighbour that says nothing for so long is gone, and packets take the other router's way; the default, 240,
/// is for links that are not watched. The smaller one of both sides counts.
const HOLD_SECONDS: u32 = 30;
/// Seconds that a BIRD that was started again waits for all of its neighbours. Only then it removes from the kernel what
/// none of them announces any more, and tells it what is new.
const RECOVERY_SECONDS: u32 = 15;
/// Preference of what any node announces, whatever it says itself (RFC 4271, section 5.1.5): what BIRD takes if nothing
/// is said.
const PREFERENCE: u32 = 100;
/// Kernel metric of routes to pods: BIRD's default. Routes of others with another metric do not clash with them.
const METRIC: u32 = 32;
/// Kernel metric of the route that refuses what is for none of this node's pods. Behind the bridge's route, which has
/// 0 with IPv4 and 256 with IPv6.
const REFUSING_METRIC: u32 = 4096;

/// This node in one address family.
struct Own {
    /// With the prefix length of its network.
    address: IpNet,
    gateway: Option<IpAddr>,
    pod_cidr: IpNet,
}

pub(super) fn render(node: &NodeContext) -> Result<Component, KubernetesError> {
    let path = node.path(CONFIGURATION);
    let arguments = ["-f", "-c", &path, "-s", &node.path(CONTROL_SOCKET)].map(str::to_owned).to_vec();
    let contents = configuration(node.facts);
    Ok(Component { arguments, files: vec![ConfigFile { path, contents, mode: 0o644 }] })
}

fn configuration(facts: &NodeFacts) -> String {
    let file = &facts.layer.file;
    let families = families(facts);
    let bgp = file.network.bgp.clone().unwrap_or_default();
    let mut out = format!(
        "# Pods of cluster {cluster} by BGP, for node {node}. Made at boot from the cluster file.\n\
         log stderr all;\n\
         router id {id};\n\
         graceful restart wait {RECOVERY_SECONDS};\n\
         \n\
         protocol device {{ }}\n",
        cluster = file.cluster.name,
        node = facts.name,
        id = router_id(&families),
    );
    for own in &families {
        out += &family(facts, &bgp, own);
    }
    out
}

/// Each family in which the node has an address and pods.
fn families(facts: &NodeFacts) -> Vec<Own> {
    let own = |address: IpNet| {
        let family = Family::of(address.addr());
        let gateway = facts.gateway.and_then(|gateway| gateway.of(family));
        Some(Own { address, gateway, pod_cidr: facts.pod_cidr?.of(family)?.trunc() })
    };
    facts.address.iter().filter_map(own).collect()
}

/// Four bytes that no other speaker should have (RFC 6286): the IPv4 address, or a hash of the IPv6 address where there is
/// no other (FNV-1a, <http://www.isthe.com/chongo/tech/comp/fnv/>).
fn router_id(families: &[Own]) -> std::net::Ipv4Addr {
    let mut hash = 0x811c_9dc5_u32;
    for own in families {
        match own.address.addr() {
            IpAddr::V4(address) => return address,
            IpAddr::V6(address) => {
                for byte in address.octets() {
                    hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
                }
            }
        }
    }
    // Older speakers take only what could be the address of a machine: neither 0 nor above 223.
    (hash & 0x7fff_ffff | 0x0100_0000).into()
}

/// Everything of one family.
fn family(facts: &NodeFacts, bgp: &Bgp, own: &Own) -> String {
    let file = &facts.layer.file;
    let routers = bgp.routers_of(own.address);
    let number = if own.address.addr().is_ipv4() { 4 } else { 6 };
    let (address, pod_cidr) = (own.address.addr(), own.pod_cidr);
    let asn = bgp.asn;
    let taken = taken(file, pod_cidr, !routers.is_empty());
    let mut out = format!(
        "
# IPv{number}
define taken{number} = [ {taken} ];
define own{number} = [ {pod_cidr}+ ];

# What is for this node and for none of its pods is refused here: the fabric would send it back.
protocol static pods{number} {{
    ipv{number};
    route {pod_cidr} unreachable;
}}

protocol kernel kernel{number} {{
    metric 0; # by route
    merge paths on;
    persist;
    graceful restart on;
    scan time 10;
    ipv{number} {{
        import none;
        export filter {{
            if proto = \"pods{number}\" then {{ krt_metric = {REFUSING_METRIC}; accept; }}
            if source != RTS_BGP then reject;
            krt_metric = {METRIC};
            krt_prefsrc = {address};
            accept;
        }};
    }};
}}

template bgp speaker{number} {{
    local {address} as {asn};
    strict bind on;
    free bind on;
    graceful restart on;
    hold time {HOLD_SECONDS};
    connect delay time 1;
    connect retry time 5;
    error wait time 2, 30;
    ipv{number} {{
        export where proto = \"pods{number}\";
        next hop self;
    }};
}}
"
    );
    if routers.is_empty() {
        out += &meshes(facts, asn, own, number);
        return out;
    }
    out += &ways(number, own.gateway, &facts.link);
    for session in &routers {
        out += &router(session, number);
    }
    out
}

/// Ranges that may be those of other nodes. Routers may put several together, up to the cluster's whole range.
fn taken(file: &ClusterFile, of_family: IpNet, with_aggregates: bool) -> String {
    let family = Family::of(of_family.addr());
    let whole = file.cluster.pod_cidr.of(family).unwrap_or(of_family).trunc();
    let ranges = file.nodes.iter().filter_map(|node| node.pod_cidr?.of(family));
    let mut lengths: BTreeSet<u8> = ranges.map(|range| range.prefix_len()).collect();
    lengths.insert(of_family.prefix_len());
    lengths.insert(file.cluster.node_prefix_length(family));
    if with_aggregates {
        let longest = lengths.last().copied().unwrap_or(whole.max_prefix_len());
        return format!("{whole}{{{},{longest}}}", whole.prefix_len());
    }
    let patterns = lengths.iter().map(|length| format!("{whole}{{{length},{length}}}"));
    patterns.collect::<Vec<_>>().join(", ")
}

/// Sessions with all other nodes: they are on one link, and each says how to reach its own pods alone.
///
/// A range that the cluster file gives to a node is that node's, whether or not it is up: nothing that overlaps it is
/// taken from another, neither a part of it, which would win over the whole, nor what it is a part of, which would
/// have its packets while the node is down.
fn meshes(facts: &NodeFacts, asn: u32, own: &Own, number: u8) -> String {
    let (family, network) = (Family::of(own.address.addr()), own.address.trunc());
    let nodes = || facts.layer.file.nodes.iter().filter(|node| is_node(&node.role));
    let expected = |node: &Node| Some(node.pod_cidr?.of(family)?.trunc());
    let mut ranges: Vec<IpNet> = nodes().filter_map(expected).collect();
    if !ranges.contains(&own.pod_cidr) {
        ranges.push(own.pod_cidr);
    }
    let overlapping: Vec<String> =
        ranges.iter().map(|range| format!("{range}{{0,{}}}", range.max_prefix_len())).collect();
    let mut out = format!(
        "
# What overlaps ranges that the cluster file gives to nodes, or this node's.
define nodes{number} = [ {} ];
",
        overlapping.join(", ")
    );
    let others = nodes().filter(|node| node.name != facts.name);
    for (node, other) in others.filter_map(|node| Some((node, node.address.of(family)?.addr()))) {
        let name = format!("mesh{number}-{other}");
        let neighbour = format!("description \"{}\";\n    neighbor {other} as {asn};", node.name);
        out += &mesh(&name, number, &neighbour, expected(node));
    }
    let neighbour = format!(
        "description \"nodes that were added later\";\n    neighbor range {network} as {asn};\n    dynamic name \"joined{number}_\";"
    );
    out += "\n# A node that is not in this cluster file yet calls by itself.";
    out + &mesh(&format!("joined{number}"), number, &neighbour, None)
}

/// A session between nodes; `expected` is the range that the cluster file gives the other one.
fn mesh(name: &str, number: u8, neighbour: &str, expected: Option<IpNet>) -> String {
    let but_its_own = expected.map(|range| format!(" && net !~ [ {range}+ ]")).unwrap_or_default();
    format!(
        "
protocol bgp '{name}' from speaker{number} {{
    {neighbour}
    direct;
    ipv{number} {{
        import filter {{
            if net !~ taken{number} || net ~ own{number} then reject;
            if net ~ nodes{number}{but_its_own} then reject;
            bgp_local_pref = {PREFERENCE};
            accept;
        }};
    }};
}}
"
    )
}

/// What addresses of next hops are looked up in: a router may name one that is not on the node's link.
fn ways(number: u8, gateway: Option<IpAddr>, link: &str) -> String {
    let mut out = format!(
        "
protocol direct link{number} {{
    ipv{number};
    interface \"{link}\";
}}
"
    );
    if let Some(gateway) = gateway {
        let everywhere = if number == 4 { "0.0.0.0/0" } else { "::/0" };
        let scope = match gateway {
            IpAddr::V6(address) if address.is_unicast_link_local() => format!("%'{link}'"),
            _ => String::new(),
        };
        write!(
            out,
            "
protocol static gateway{number} {{
    ipv{number};
    route {everywhere} via {gateway}{scope};
}}
"
        )
        .expect("a String takes everything");
    }
    out
}

/// A session with a router. Nodes share one number, so that what one of them announced comes back to the others with
/// it in its path (RFC 4271, section 9.1.2): no loop, as no node passes on what it was told.
fn router(session: &RouterSession<'_>, number: u8) -> String {
    let BgpRouter { address, asn } = session.router;
    let hops = if session.on_link { "direct" } else { "multihop" };
    format!(
        "
protocol bgp 'router{number}-{address}' from speaker{number} {{
    neighbor {address} as {asn};
    {hops};
    allow local as 1;
    ipv{number} {{
        gateway recursive;
        import filter {{
            if net !~ taken{number} || net ~ own{number} then reject;
            accept;
        }};
    }};
}}
"
    )
}

#[cfg(test)]
mod tests;
