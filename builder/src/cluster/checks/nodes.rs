//! Nodes: roles, addresses, gateways, MAC addresses, and the endpoint among them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use bootwright_model::cluster::{ClusterFile, NetworkMode, Node};
use bootwright_model::families::Family;
use bootwright_model::host_address::{GatewayFault, check_gateway, reserved_in, unusable};
use bootwright_model::kubernetes::{CONTROL_PLANE_ROLES, has_etcd_machines, is_node, runs_etcd};
use ipnet::IpNet;

use super::{Context, cluster, duplicates, each, is_control_plane, node, of_family, recognition};
use crate::cluster::text::finding::{Finding, KeyPath};
use crate::cluster::text::similar;

pub fn check(context: &Context<'_>, findings: &mut Vec<Finding>) {
    let file = context.file;
    if file.nodes.is_empty() {
        findings.push(
            Finding::new("no-node", "there is no node")
                .at_value(KeyPath::of("node"), "in this file")
                .help("add a [[node]] with name, role and address; `bootwright init` writes one"),
        );
        return;
    }
    for (index, one) in file.nodes.iter().enumerate() {
        role(context, index, one, findings);
        for (path, network) in each(&node(index, "address"), &one.address) {
            address(path, network, findings);
        }
        if let Some(gateways) = &one.gateway {
            for (path, address) in each(&node(index, "gateway"), gateways) {
                gateway(index, one, path, address, findings);
            }
        }
        recognition::check(index, one, findings);
        no_node(index, one, findings);
    }
    same_values(file, findings);
    majority(file, findings);
    endpoint(file, findings);
    one_link(file, findings);
}

fn role(context: &Context<'_>, index: usize, one: &Node, findings: &mut Vec<Finding>) {
    if context.roles.contains(&one.role) {
        return;
    }
    let known = context.roles.join(", ");
    let help = match similar(&one.role, context.roles.iter().map(String::as_str)) {
        Some(role) => format!("did you mean \"{role}\"? Roles with a profile: {known}"),
        None => {
            format!("roles with a profile: {known}; a file profiles/<role>.toml beside this one adds another")
        }
    };
    findings.push(
        Finding::new("role", format!("there is no profile for role \"{}\"", one.role))
            .at_value(node(index, "role"), "no such role")
            .help(help),
    );
}

fn address(path: KeyPath, network: IpNet, findings: &mut Vec<Finding>) {
    let address = network.addr();
    if let Some(why) = unusable(address) {
        findings.push(
            Finding::new("node-address", format!("{address} cannot be a node's address: it is {why}"))
                .at_value(path, why)
                .help("write the address that other machines reach this one at"),
        );
    } else if let Some(why) = reserved_in(network, address) {
        findings.push(
            Finding::new("node-address", format!("{address} is the {why} address of {}", network.trunc()))
                .at_value(path, format!("the {why} address"))
                .help("write the node's own address, or check the prefix length"),
        );
    }
}

fn gateway(index: usize, one: &Node, path: KeyPath, gateway: IpAddr, findings: &mut Vec<Finding>) {
    let Err(fault) = check_gateway(&one.address, gateway) else { return };
    let key = node(index, "address");
    let of_family = of_family(&key, &one.address, Family::of(gateway));
    let (place, address) = of_family.unwrap_or((key, one.address.primary()));
    let network = address.trunc();
    let (rule, message, label, help) = match fault {
        GatewayFault::Family(_) => (
            "family",
            format!("gateway {gateway} and address {address} are of different families"),
            "another family",
            "write a gateway of the address's family",
        ),
        GatewayFault::Outside(_) => (
            "gateway",
            format!("gateway {gateway} is outside the node's network {network}"),
            "outside",
            "write a gateway in that network, or check the prefix length of the address",
        ),
        GatewayFault::Itself => (
            "gateway",
            format!("gateway {gateway} is the node's own address"),
            "the node itself",
            "write the router's address, or leave the key out if there is none",
        ),
        GatewayFault::Reserved { name, .. } => (
            "gateway",
            format!("gateway {gateway} is the {name} address of {network}"),
            "not a machine",
            "write the router's address",
        ),
    };
    findings.push(
        Finding::new(rule, message)
            .at_value(path, label)
            .at_value(place, format!("network {network}"))
            .help(help),
    );
}

/// A machine that is no Node has none of what Nodes have.
fn no_node(index: usize, one: &Node, findings: &mut Vec<Finding>) {
    if is_node(&one.role) {
        return;
    }
    let written = [
        ("pod-cidr", one.pod_cidr.is_some(), "runs no pods"),
        ("labels", !one.labels.is_empty(), "has no Node"),
        ("provider-id", one.provider_id.is_some(), "has no Node"),
    ];
    for (key, _, why) in written.into_iter().filter(|(_, written, _)| *written) {
        findings.push(
            Finding::new("etcd-machine", format!("{} {why}: it runs etcd and nothing else", one.name))
                .at_value(node(index, key), "of no use")
                .at_value(node(index, "role"), "a machine of etcd")
                .help("leave it out, or give the machine another role"),
        );
    }
}

fn same_values(file: &ClusterFile, findings: &mut Vec<Finding>) {
    let mut report = |what: &str, first: KeyPath, second: KeyPath, value: &dyn std::fmt::Display| {
        findings.push(
            Finding::new("duplicate", format!("two nodes have the {what} {value}"))
                .at_value(second, "again")
                .at_value(first, "first here")
                .help("a node has its own: correct one of the two"),
        );
    };
    let nodes = &file.nodes;
    duplicates(nodes.iter().map(|one| Some(&one.name)), |a, b, v| {
        report("name", node(a, "name"), node(b, "name"), v);
    });
    let addresses: Vec<(KeyPath, IpNet)> = nodes
        .iter()
        .enumerate()
        .flat_map(|(index, one)| each(&node(index, "address"), &one.address))
        .collect();
    duplicates(addresses.iter().map(|(_, address)| Some(address.addr())), |a, b, v| {
        report("address", addresses[a].0.clone(), addresses[b].0.clone(), v);
    });
    let macs = nodes.iter().map(|one| Some(one.mac.as_ref()?.to_ascii_lowercase()));
    duplicates(macs, |a, b, v| report("MAC address", node(a, "mac"), node(b, "mac"), v));
    let uuids = nodes.iter().map(|one| Some(one.uuid.as_ref()?.to_ascii_lowercase()));
    duplicates(uuids, |a, b, v| report("UUID", node(a, "uuid"), node(b, "uuid"), v));
    let serials = nodes.iter().map(|one| Some(one.serial.as_ref()?.to_ascii_lowercase()));
    duplicates(serials, |a, b, v| report("serial number", node(a, "serial"), node(b, "serial"), v));
}

/// etcd works while a majority of its members does. With one more than an odd number no more of them can be missed, and
/// there is one more that can fail.
fn majority(file: &ClusterFile, findings: &mut Vec<Finding>) {
    let members: Vec<usize> =
        (0..file.nodes.len()).filter(|index| runs_etcd(&file.nodes[*index].role, file)).collect();
    let count = members.len();
    let Some(last) = members.last().filter(|_| count.is_multiple_of(2)) else { return };
    let (rule, what) = match has_etcd_machines(file) {
        true => ("even-etcd", "machines of etcd"),
        false => ("even-control-planes", "control planes"),
    };
    findings.push(
        Finding::new(rule, format!("{count} {what} survive no more failures than {} would", count - 1))
            .warning()
            .at_value(node(*last, "role"), "one more that can fail")
            .help(format!(
                "make them {} or {}: etcd needs more than half of its members",
                count - 1,
                count + 1
            )),
    );
}

fn endpoint(file: &ClusterFile, findings: &mut Vec<Finding>) {
    let endpoint = file.cluster.endpoint;
    let planes: Vec<(usize, &Node)> =
        file.nodes.iter().enumerate().filter(|(_, one)| is_control_plane(one)).collect();
    if planes.is_empty() {
        // A misspelt role has been said already.
        let misspelt = file
            .nodes
            .iter()
            .any(|one| !one.role.is_empty() && similar(&one.role, CONTROL_PLANE_ROLES.into_iter()).is_some());
        if !misspelt {
            findings.push(
                Finding::new("no-control-plane", "no node runs the control plane")
                    .at_value(node(0, "role"), "no control plane")
                    .help(format!("give a node one of the roles {}", CONTROL_PLANE_ROLES.join(", "))),
            );
        }
        return;
    }
    let virtual_ip = file.cluster.virtual_ip;
    if Some(endpoint) != virtual_ip && planes.iter().all(|(_, one)| !one.address.addrs().contains(&endpoint))
    {
        let addresses = planes.iter().flat_map(|(_, one)| one.address.addrs().iter()).chain(virtual_ip);
        let addresses: Vec<String> = addresses.map(|address| address.to_string()).collect();
        let finding =
            Finding::new("endpoint", format!("endpoint {endpoint} is the address of no control plane"))
                .at_value(cluster("endpoint"), "no node has this address")
                .help(format!("write one of {}", addresses.join(", ")));
        let finding = planes.iter().fold(finding, |finding, (index, _)| {
            finding.at_value(node(*index, "address"), "a control plane")
        });
        findings.push(finding);
    }
}

/// Routes lead to a neighbour: without VXLAN, or routers that speak BGP, all nodes must be on one link.
fn one_link(file: &ClusterFile, findings: &mut Vec<Finding>) {
    let routers = file.network.bgp.as_ref().map_or(&[][..], |bgp| &bgp.routers);
    let (mode, help) = match file.network.mode {
        NetworkMode::Routes if !file.network.has_overlay() => {
            ("routes", "put all nodes into one network, add fallback = \"vxlan\", or use mode \"vxlan\"")
        }
        NetworkMode::Bgp => (
            "bgp",
            "put all nodes into one network, or name the routers of the fabric: [[network.bgp.router]]",
        ),
        _ => return,
    };
    // Machines of etcd have no pods to be reached.
    let mut nodes = file.nodes.iter().enumerate().filter(|(_, one)| is_node(&one.role));
    let Some((first, reference)) = nodes.next() else { return };
    let mut seen: BTreeSet<IpNet> = reference.address.trunc().iter().collect();
    for (place, address) in nodes.flat_map(|(index, one)| each(&node(index, "address"), &one.address)) {
        let network = address.trunc();
        // Of this family the routers are told.
        let has_router = routers.iter().any(|router| router.address.is_ipv4() == network.addr().is_ipv4());
        if !has_router && seen.insert(network) {
            let other = of_family(&node(first, "address"), &reference.address, Family::of(network.addr()));
            findings.push(
                Finding::new(
                    "routes",
                    format!("mode \"{mode}\" cannot reach {network}: it is another network"),
                )
                .at_value(place, "behind a gateway")
                .at_value(other.map_or(node(first, "address"), |(place, _)| place), "the other network")
                .at_value(KeyPath::of("network").key("mode"), "needs one link")
                .help(help),
            );
        }
    }
}
