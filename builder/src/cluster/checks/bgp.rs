//! `[network.bgp]`: numbers of autonomous systems, the routers' addresses, and profiles that run BIRD.

use std::net::IpAddr;

use bootwright_model::bgp::Bgp;
use bootwright_model::cluster::{ClusterFile, NetworkMode};
use bootwright_model::families::Family;
use bootwright_model::host_address::{reserved_in, unusable};
use bootwright_model::kubernetes::is_node;
use ipnet::IpNet;

use super::{Context, cluster, duplicates, each, node};
use crate::cluster::text::finding::{Finding, KeyPath};

/// Numbers that no autonomous system has, and what for.
const RESERVED: [(u32, &str); 4] = [
    (0, "means that there is none (RFC 7607)"),
    (23456, "stands for larger numbers in old routers (RFC 6793)"),
    (65535, "is reserved (RFC 7300)"),
    (u32::MAX, "is reserved (RFC 7300)"),
];

pub fn check(context: &Context<'_>, findings: &mut Vec<Finding>) {
    let file = context.file;
    let by_bgp = file.network.mode == NetworkMode::Bgp;
    if by_bgp {
        profiles(context, findings);
    }
    let Some(bgp) = &file.network.bgp else { return };
    if !by_bgp {
        findings.push(
            Finding::new("bgp", "`[network.bgp]` is for mode \"bgp\"")
                .at_key(KeyPath::of("network").key("bgp"), "does nothing")
                .at_value(KeyPath::of("network").key("mode"), "another mode")
                .help("leave the section out, or write mode = \"bgp\""),
        );
    }
    asn(KeyPath::of("network").key("bgp").key("as"), bgp.asn, findings);
    for (index, router) in bgp.routers.iter().enumerate() {
        asn(router_key(index, "as"), router.asn, findings);
        address(file, index, router.address, findings);
    }
    without_gateway(file, bgp, findings);
    without_router(file, bgp, findings);
    duplicates(bgp.routers.iter().map(|router| Some(router.address)), |first, second, address| {
        findings.push(
            Finding::new("duplicate", format!("two routers have the address {address}"))
                .at_value(router_key(second, "address"), "again")
                .at_value(router_key(first, "address"), "first here")
                .help("leave one of them out"),
        );
    });
}

/// A node whose routers are all in other networks reaches them through its gateway.
fn without_gateway(file: &ClusterFile, bgp: &Bgp, findings: &mut Vec<Finding>) {
    for (index, one) in file.nodes.iter().enumerate().filter(|(_, one)| is_node(&one.role)) {
        for address in one.address.iter() {
            let sessions = bgp.routers_of(address);
            let has_gateway =
                one.gateway.is_some_and(|gateway| gateway.of(Family::of(address.addr())).is_some());
            if has_gateway || sessions.iter().any(|session| session.on_link) {
                continue;
            }
            let Some(session) = sessions.first() else { continue };
            let router = bgp.routers.iter().position(|router| router == session.router).unwrap_or_default();
            findings.push(
                Finding::new(
                    "gateway",
                    format!(
                        "node \"{}\" has no way to its routers: none is in {}",
                        one.name,
                        address.trunc()
                    ),
                )
                .at_value(node(index, "address"), "no gateway")
                .at_value(router_key(router, "address"), "in another network")
                .help("give the node a gateway, or name a router of its network"),
            );
        }
    }
}

/// Nodes tell each other the ranges of a family that has no router.
fn without_router(file: &ClusterFile, bgp: &Bgp, findings: &mut Vec<Finding>) {
    for (place, range) in each(&cluster("pod-cidr"), &file.cluster.pod_cidr) {
        let family = Family::of(range.addr());
        if bgp.routers.is_empty() || bgp.routers.iter().any(|router| Family::of(router.address) == family) {
            continue;
        }
        findings.push(
            Finding::new("router-family", format!("no router of the fabric is told of {range}: none is {family}"))
                .warning()
                .at_value(place, "told among the nodes alone")
                .at_value(router_key(0, "address"), "another family")
                .help(format!(
                    "add a router with its {family} address, or give the fabric what `bootwright routes --format ip` prints"
                )),
        );
    }
}

/// `network.bgp.router[<index>].<key>`
fn router_key(index: usize, key: &str) -> KeyPath {
    KeyPath::of("network").key("bgp").key("router").index(index).key(key)
}

fn asn(path: KeyPath, number: u32, findings: &mut Vec<Finding>) {
    if let Some((_, why)) = RESERVED.iter().find(|(reserved, _)| *reserved == number) {
        findings.push(
            Finding::new("as-number", format!("no autonomous system has the number {number}: it {why}"))
                .at_value(path, "reserved")
                .help("write a number of your own; 64512 to 65534 are for private use"),
        );
    }
}

/// A router's address is one that nodes can open a connection to, and nobody else's.
fn address(file: &ClusterFile, index: usize, address: IpAddr, findings: &mut Vec<Finding>) {
    let path = router_key(index, "address");
    let finding =
        |message: String, label: &str| Finding::new("router-address", message).at_value(path.clone(), label);
    if let Some(why) = unusable(address) {
        let message = format!("{address} cannot be a router's address: it is {why}");
        findings.push(finding(message, why).help("write the address that nodes reach the router at"));
        return;
    }
    let ranges = [
        ("pod-cidr", file.cluster.pod_cidr, "pods"),
        ("service-cidr", file.cluster.service_cidr, "Services"),
    ];
    for (key, ranges, whose) in ranges {
        let Some(range) = ranges.iter().find(|range| range.contains(&address)) else { continue };
        findings.push(
            finding(format!("the router's address {address} is in {range}"), "a router is outside of these")
                .at_value(cluster(key), whose)
                .help("write the router's address in the network below the cluster"),
        );
    }
    if file.cluster.virtual_ip == Some(address) {
        findings.push(
            finding(
                format!("the router's address {address} is the cluster's virtual address"),
                "not a router",
            )
            .at_value(cluster("virtual-ip"), "the same")
            .help("write the router's own address"),
        );
    }
    for (other, one) in file.nodes.iter().enumerate() {
        let of_family = one.address.of(Family::of(address));
        let what = if one.address.addrs().iter().any(|other| other == address) {
            "the address of a node"
        } else if let Some(reserved) = of_family.and_then(|network| reserved_of(network, address)) {
            reserved
        } else {
            continue;
        };
        findings.push(
            finding(format!("the router's address {address} is {what}"), "not a router")
                .at_value(node(other, "address"), "here")
                .help("write the router's own address"),
        );
        return;
    }
    if !file.nodes.iter().any(|one| is_node(&one.role) && one.address.of(Family::of(address)).is_some()) {
        findings.push(
            Finding::new("family", format!("no node has an address of the family of router {address}"))
                .at_value(path.clone(), "nobody speaks to it")
                .at_value(node(0, "address"), "another family")
                .help("write the router's address of the nodes' family"),
        );
    }
}

/// What an address of a node's network is, if no machine can have it.
fn reserved_of(network: IpNet, address: IpAddr) -> Option<&'static str> {
    match reserved_in(network, address)? {
        "broadcast" => Some("the broadcast address of a node's network"),
        "network" => Some("the network address of a node's network"),
        _ => Some("the any-router address of a node's network"),
    }
}

/// BIRD comes with the part `bgp`, which a profile of one's own may not name.
fn profiles(context: &Context<'_>, findings: &mut Vec<Finding>) {
    for (role, profile) in context.profiles {
        let has_bird = profile.services.iter().any(|service| service.component.as_deref() == Some("bird"));
        if has_bird || !is_node(role) {
            continue;
        }
        let Some(index) = context.file.nodes.iter().position(|one| one.role == *role) else { continue };
        findings.push(
            Finding::new("bird", format!("profile {role} does not run BIRD, which mode \"bgp\" needs"))
                .at_value(KeyPath::of("network").key("mode"), "this mode")
                .at_value(node(index, "role"), "this profile")
                .help("name \"bgp\" in its `parts`, or take over what profiles/parts/bgp.toml has"),
        );
    }
}
