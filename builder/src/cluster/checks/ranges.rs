//! Pod, Service and node ranges: size, family, and that none overlaps another.

use bootwright_model::addresses::{capacity, dns_service_address, overlaps};
use bootwright_model::cluster::ClusterFile;
use ipnet::IpNet;

use super::{cluster, family, node, same_family};
use crate::cluster::text::finding::{Finding, KeyPath};

/// Longest prefix of a node's pod CIDR: room for the gateway and a few pods.
const LONGEST_NODE_PREFIX: [u8; 2] = [28, 124];
/// Shortest prefix of the Service range: the API server (1.20) refuses a larger range than 2^20 addresses.
const SHORTEST_SERVICE_PREFIX: [u8; 2] = [12, 108];
/// Ranges that no cluster can use: this host, loopback, link-local, multicast and reserved
/// (<https://www.iana.org/assignments/iana-ipv4-special-registry>, and the same for IPv6).
const UNUSABLE: [(&str, &str); 8] = [
    ("0.0.0.0/8", "this network"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("::1/128", "loopback"),
    ("fe80::/10", "link-local"),
    ("ff00::/8", "multicast"),
];

pub fn check(file: &ClusterFile, findings: &mut Vec<Finding>) {
    let (pods, services) = (file.cluster.pod_cidr, file.cluster.service_cidr);
    for (key, range) in [("pod-cidr", pods), ("service-cidr", services)] {
        host_bits(cluster(key), range, findings);
        unusable(cluster(key), range, findings);
    }
    if overlaps(&pods, &services) {
        findings.push(
            Finding::new("overlap", format!("pod range {pods} and Service range {services} overlap"))
                .at_value(cluster("service-cidr"), "Services")
                .at_value(cluster("pod-cidr"), "pods")
                .help("choose two ranges that share no address, such as 10.10.0.0/16 and 10.96.0.0/16"),
        );
    }
    if !same_family(&pods, &services) {
        findings.push(
            Finding::new(
                "family",
                format!("pods are {} and Services are {}", family(&pods), family(&services)),
            )
            .at_value(cluster("service-cidr"), family(&services))
            .at_value(cluster("pod-cidr"), family(&pods))
            .help("use one family for both"),
        );
    }
    service_size(services, findings);
    node_prefix(file, findings);
    for (index, one) in file.nodes.iter().enumerate() {
        node_network(file, index, one.address, findings);
        if let Some(pod_cidr) = one.pod_cidr {
            explicit_pod_cidr(file, index, pod_cidr, findings);
        }
    }
    overlapping_pod_cidrs(file, findings);
}

fn host_bits(path: KeyPath, range: IpNet, findings: &mut Vec<Finding>) {
    let network = range.trunc();
    if network != range {
        findings.push(
            Finding::new("host-bits", format!("{range} is an address in a range, not a range"))
                .at_value(path, format!("has bits beyond /{}", range.prefix_len()))
                .help(format!("write \"{network}\"")),
        );
    }
}

fn unusable(path: KeyPath, range: IpNet, findings: &mut Vec<Finding>) {
    let taken = UNUSABLE.iter().find(|(text, _)| {
        let special: IpNet = text.parse().expect("the constant is well formed");
        overlaps(&special, &range)
    });
    if let Some((special, name)) = taken {
        findings.push(
            Finding::new("unusable-range", format!("{range} overlaps {special} ({name})"))
                .at_value(path, "not usable in a cluster")
                .help("use private addresses: 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 or fd00::/8"),
        );
    }
}

fn service_size(range: IpNet, findings: &mut Vec<Finding>) {
    let shortest = of_family(SHORTEST_SERVICE_PREFIX, &range);
    if range.prefix_len() < shortest {
        findings.push(
            Finding::new("service-range", format!("Service range {range} is too large"))
                .at_value(cluster("service-cidr"), format!("larger than /{shortest}"))
                .help(format!(
                    "use a prefix length of {shortest} or more; the API server refuses larger ranges"
                )),
        );
    }
    if dns_service_address(range).is_err() {
        findings.push(
            Finding::new("service-range", format!("Service range {range} is too small"))
                .at_value(cluster("service-cidr"), "no tenth address")
                .help("the API takes the first address and DNS the tenth: use a /28 (IPv4), /124 (IPv6) or larger"),
        );
    }
}

fn node_prefix(file: &ClusterFile, findings: &mut Vec<Finding>) {
    let range = file.cluster.pod_cidr;
    let bits = file.cluster.node_prefix_length();
    let longest = of_family(LONGEST_NODE_PREFIX, &range);
    let finding = |message: String| {
        Finding::new("node-cidr-bits", message)
            .at_value(cluster("node-cidr-bits"), format!("/{bits} per node"))
            .at_value(cluster("pod-cidr"), "pods")
    };
    if bits > longest {
        let message = format!("a pod CIDR of /{bits} has no room for pods");
        findings.push(finding(message).help(format!("use {longest} or less")));
        return;
    }
    match capacity(range, bits) {
        None => findings.push(
            finding(format!("a pod CIDR of /{bits} per node is larger than the pod range {range}")).help(
                format!("use at least {} for node-cidr-bits, or a larger pod-cidr", range.prefix_len()),
            ),
        ),
        Some(count) if count < file.nodes.len() as u128 => {
            let needed = file.nodes.len().next_power_of_two().trailing_zeros();
            let prefix = u32::from(bits).saturating_sub(needed);
            findings.push(
                Finding::new(
                    "pod-range-too-small",
                    format!(
                        "pod range {range} has {count} ranges of /{bits}, and there are {} nodes",
                        file.nodes.len()
                    ),
                )
                .at_value(cluster("pod-cidr"), format!("room for {count} nodes"))
                .at_value(cluster("node-cidr-bits"), format!("/{bits} per node"))
                .help(format!("use a pod-cidr of /{prefix} or larger, or larger node-cidr-bits")),
            );
        }
        Some(_) => {}
    }
}

/// The node's network against the cluster's ranges.
fn node_network(file: &ClusterFile, index: usize, address: IpNet, findings: &mut Vec<Finding>) {
    let network = address.trunc();
    for (key, range, what) in
        [("pod-cidr", file.cluster.pod_cidr, "pod"), ("service-cidr", file.cluster.service_cidr, "Service")]
    {
        if overlaps(&network, &range) {
            findings.push(
                Finding::new(
                    "overlap",
                    format!("the nodes' network {network} and the {what} range {range} overlap"),
                )
                .at_value(node(index, "address"), "in this network")
                .at_value(cluster(key), format!("{what} range"))
                .help(format!("choose another {key}: addresses in both would be sent the wrong way")),
            );
        }
    }
    if !same_family(&address, &file.cluster.pod_cidr) {
        findings.push(
            Finding::new(
                "family",
                format!("the node is {} and pods are {}", family(&address), family(&file.cluster.pod_cidr)),
            )
            .at_value(node(index, "address"), family(&address))
            .at_value(cluster("pod-cidr"), family(&file.cluster.pod_cidr))
            .help("use one family for nodes, pods and Services"),
        );
    }
}

fn explicit_pod_cidr(file: &ClusterFile, index: usize, range: IpNet, findings: &mut Vec<Finding>) {
    let path = node(index, "pod-cidr");
    host_bits(path.clone(), range, findings);
    let whole = file.cluster.pod_cidr;
    if !whole.contains(&range) {
        findings.push(
            Finding::new("pod-cidr-outside", format!("pod CIDR {range} is outside the cluster's {whole}"))
                .at_value(path, "outside")
                .at_value(cluster("pod-cidr"), "the cluster's pods")
                .help("take a part of the cluster's range, or leave the key out: one is assigned"),
        );
    } else if range.prefix_len() > of_family(LONGEST_NODE_PREFIX, &range) {
        findings.push(
            Finding::new("pod-cidr-too-small", format!("pod CIDR {range} has no room for pods"))
                .at_value(path, "too small")
                .help(format!("use a prefix length of {} or less", of_family(LONGEST_NODE_PREFIX, &range))),
        );
    }
}

/// Sorted by first address, a range can only overlap one that began before it and is not yet over.
fn overlapping_pod_cidrs(file: &ClusterFile, findings: &mut Vec<Finding>) {
    let mut ranges: Vec<(IpNet, usize)> = file
        .nodes
        .iter()
        .enumerate()
        .filter_map(|(index, node)| Some((node.pod_cidr?.trunc(), index)))
        .collect();
    ranges.sort_by_key(|(range, index)| (range.network(), range.prefix_len(), *index));
    let mut widest: Option<(IpNet, usize)> = None;
    for (range, index) in ranges {
        match widest.filter(|(earlier, _)| earlier.contains(&range)) {
            Some((earlier, other)) => {
                let (first, second) = (index.min(other), index.max(other));
                findings.push(
                    Finding::new("overlap", format!("pod CIDRs {earlier} and {range} of two nodes overlap"))
                        .at_value(node(second, "pod-cidr"), "overlaps")
                        .at_value(node(first, "pod-cidr"), "with this")
                        .help(
                            "give each node a range of its own, or leave the keys out: ranges are assigned",
                        ),
                );
            }
            None => widest = Some((range, index)),
        }
    }
}

fn of_family(values: [u8; 2], range: &IpNet) -> u8 {
    match range {
        IpNet::V4(_) => values[0],
        IpNet::V6(_) => values[1],
    }
}
