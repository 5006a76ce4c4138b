//! The virtual address: every control plane can have it, and nobody has it already.

use std::net::IpAddr;

use bootwright_model::cluster::{ClusterFile, Node};

use super::nodes::reserved_in;
use super::{cluster, is_control_plane, node};
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
    let of = if one.address.addr() == address {
        "address"
    } else if one.gateway == Some(address) {
        "gateway"
    } else {
        return;
    };
    findings.push(
        Finding::new(
            "virtual-ip-taken",
            format!("the virtual address {address} is the {of} of {}", one.name),
        )
        .at_value(cluster("virtual-ip"), "has to be free")
        .at_value(node(index, of), "in use here")
        .help("choose an address of the same network that no machine has"),
    );
}

fn in_network(address: IpAddr, index: usize, one: &Node, findings: &mut Vec<Finding>) {
    let network = one.address.trunc();
    let why = if !network.contains(&address) {
        format!("is not in the network {network} of {}", one.name)
    } else if let Some(what) = reserved_in(one.address, address) {
        format!("is the {what} address of {network}")
    } else {
        return;
    };
    findings.push(
        Finding::new("virtual-ip", format!("the virtual address {address} {why}"))
            .at_value(cluster("virtual-ip"), "cannot be reached there")
            .at_value(node(index, "address"), "a control plane")
            .help(
                "control planes that share a virtual address are on one link: choose a free address of their network, \
                 or leave virtual-ip out",
            ),
    );
}
