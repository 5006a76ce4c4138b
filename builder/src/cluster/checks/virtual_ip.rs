//! The virtual address: every control plane can have it, and nobody has it already.

use std::net::IpAddr;

use bootwright_model::cluster::{ClusterFile, Node};
use bootwright_model::families::Family;
use bootwright_model::host_address::reserved_in;

use super::{cluster, each, is_control_plane, node, of_family};
use crate::cluster::text::finding::Finding;

pub fn check(file: &ClusterFile, findings: &mut Vec<Finding>) {
    let Some(address) = file.cluster.virtual_ip else { return };
    for (index, one) in file.nodes.iter().enumerate() {
        taken(address, index, one, findings);
        if is_control_plane(one) {
            in_network(address, index, one, findings);
        }
    }
}

fn taken(address: IpAddr, index: usize, one: &Node, findings: &mut Vec<Finding>) {
    let key = |key: &str| node(index, key);
    let (of, place) = if let Some((place, _)) =
        each(&key("address"), &one.address).find(|(_, one)| one.addr() == address)
    {
        ("address", place)
    } else if let Some((place, _)) =
        one.gateway.and_then(|gateways| each(&key("gateway"), &gateways).find(|(_, one)| *one == address))
    {
        ("gateway", place)
    } else {
        return;
    };
    findings.push(
        Finding::new(
            "virtual-ip-taken",
            format!("the virtual address {address} is the {of} of {}", one.name),
        )
        .at_value(cluster("virtual-ip"), "has to be free")
        .at_value(place, "in use here")
        .help("choose an address of the same network that no machine has"),
    );
}

fn in_network(address: IpAddr, index: usize, one: &Node, findings: &mut Vec<Finding>) {
    let key = node(index, "address");
    let (place, network) =
        of_family(&key, &one.address, Family::of(address)).unwrap_or((key, one.address.primary()));
    let network = network.trunc();
    let why = if !network.contains(&address) {
        format!("is not in the network {network} of {}", one.name)
    } else if let Some(what) = reserved_in(network, address) {
        format!("is the {what} address of {network}")
    } else {
        return;
    };
    findings.push(
        Finding::new("virtual-ip", format!("the virtual address {address} {why}"))
            .at_value(cluster("virtual-ip"), "cannot be reached there")
            .at_value(place, "a control plane")
            .help(
                "control planes that share a virtual address are on one link: choose a free address of their network, \
                 or leave virtual-ip out",
            ),
    );
}
