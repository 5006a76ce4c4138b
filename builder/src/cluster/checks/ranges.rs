//! Pod, Service and node ranges: size, and that none overlaps another.

use bootwright_model::addresses::{capacity, dns_service_address, overlaps};
use bootwright_model::cluster::{ClusterFile, Node};
use bootwright_model::families::Family;
use bootwright_model::kubernetes::is_node;
use ipnet::IpNet;

use super::{cluster, each, node, of_family};
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
    for (place, range) in pods(file).chain(services(file)) {
        host_bits(place.clone(), range, findings);
        unusable(place, range, findings);
    }
    for (pods_place, pods) in pods(file) {
        for (place, services) in services(file).filter(|(_, services)| overlaps(&pods, services)) {
            findings.push(
                Finding::new("overlap", format!("pod range {pods} and Service range {services} overlap"))
                    .at_value(place, "Services")
                    .at_value(pods_place.clone(), "pods")
                    .help("choose two ranges that share no address, such as 10.10.0.0/16 and 10.96.0.0/16"),
            );
        }
        node_prefix(file, pods_place, pods, findings);
    }
    for (place, range) in services(file) {
        service_size(place, range, findings);
    }
    for (index, one) in file.nodes.iter().enumerate() {
        for (place, address) in each(&node(index, "address"), &one.address) {
            node_network(file, &place, address, findings);
        }
        for (place, range) in written_pod_cidrs(index, one) {
            explicit_pod_cidr(file, place, range, findings);
        }
    }
    overlapping_pod_cidrs(file, findings);
}

fn pods(file: &ClusterFile) -> impl Iterator<Item = (KeyPath, IpNet)> + use<> {
    each(&cluster("pod-cidr"), &file.cluster.pod_cidr)
}

fn services(file: &ClusterFile) -> impl Iterator<Item = (KeyPath, IpNet)> + use<> {
    each(&cluster("service-cidr"), &file.cluster.service_cidr)
}

fn written_pod_cidrs(index: usize, one: &Node) -> impl Iterator<Item = (KeyPath, IpNet)> + use<> {
    let key = node(index, "pod-cidr");
    one.pod_cidr.into_iter().flat_map(move |ranges| each(&key, &ranges))
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

fn service_size(place: KeyPath, range: IpNet, findings: &mut Vec<Finding>) {
    let shortest = limit(SHORTEST_SERVICE_PREFIX, &range);
    if range.prefix_len() < shortest {
        findings.push(
            Finding::new("service-range", format!("Service range {range} is too large"))
                .at_value(place.clone(), format!("larger than /{shortest}"))
                .help(format!(
                    "use a prefix length of {shortest} or more; the API server refuses larger ranges"
                )),
        );
    }
    if dns_service_address(range).is_err() {
        findings.push(
            Finding::new("service-range", format!("Service range {range} is too small"))
                .at_value(place, "no tenth address")
                .help("the API takes the first address and DNS the tenth: use a /28 (IPv4), /124 (IPv6) or larger"),
        );
    }
}

fn node_prefix(file: &ClusterFile, pods: KeyPath, range: IpNet, findings: &mut Vec<Finding>) {
    let written = file.cluster.node_cidr_bits;
    // With another count it is not known which is meant for which range.
    if written.is_some_and(|bits| bits.count() != file.cluster.pod_cidr.count()) {
        return;
    }
    let bits = file.cluster.node_prefix_length(Family::of(range.addr()));
    let longest = limit(LONGEST_NODE_PREFIX, &range);
    let key = cluster("node-cidr-bits");
    let place = file
        .cluster
        .pod_cidr
        .iter()
        .position(|one| one == range)
        .filter(|_| written.is_some_and(|bits| bits.count() > 1));
    let place = place.map_or(key.clone(), |index| key.index(index));
    let finding = |message: String| {
        Finding::new("node-cidr-bits", message)
            .at_value(place.clone(), format!("/{bits} per node"))
            .at_value(pods.clone(), "pods")
    };
    if bits > longest {
        let message = format!("a pod CIDR of /{bits} has no room for pods");
        findings.push(finding(message).help(format!("use {longest} or less")));
        return;
    }
    // Machines of etcd have no pods.
    let nodes = file.nodes.iter().filter(|one| is_node(&one.role)).count();
    match capacity(range, bits) {
        None => findings.push(
            finding(format!("a pod CIDR of /{bits} per node is larger than the pod range {range}")).help(
                format!("use at least {} for node-cidr-bits, or a larger pod-cidr", range.prefix_len()),
            ),
        ),
        Some(count) if count < nodes as u128 => {
            let needed = nodes.next_power_of_two().trailing_zeros();
            let prefix = u32::from(bits).saturating_sub(needed);
            findings.push(
                Finding::new(
                    "pod-range-too-small",
                    format!("pod range {range} has {count} ranges of /{bits}, and there are {nodes} nodes"),
                )
                .at_value(pods, format!("room for {count} nodes"))
                .at_value(place, format!("/{bits} per node"))
                .help(format!("use a pod-cidr of /{prefix} or larger, or larger node-cidr-bits")),
            );
        }
        Some(_) => {}
    }
}

/// The node's network against the cluster's ranges.
fn node_network(file: &ClusterFile, place: &KeyPath, address: IpNet, findings: &mut Vec<Finding>) {
    let network = address.trunc();
    let pods = pods(file).map(|(place, range)| (place, range, "pod", "pod-cidr"));
    let services = services(file).map(|(place, range)| (place, range, "Service", "service-cidr"));
    for (range_place, range, what, key) in pods.chain(services) {
        if overlaps(&network, &range) {
            findings.push(
                Finding::new(
                    "overlap",
                    format!("the nodes' network {network} and the {what} range {range} overlap"),
                )
                .at_value(place.clone(), "in this network")
                .at_value(range_place, format!("{what} range"))
                .help(format!("choose another {key}: addresses in both would be sent the wrong way")),
            );
        }
    }
}

fn explicit_pod_cidr(file: &ClusterFile, path: KeyPath, range: IpNet, findings: &mut Vec<Finding>) {
    host_bits(path.clone(), range, findings);
    let pods = &file.cluster.pod_cidr;
    let whole = of_family(&cluster("pod-cidr"), pods, Family::of(range.addr()));
    if !pods.iter().any(|whole| whole.contains(&range)) {
        let (place, whole) = match whole {
            Some((place, whole)) => (place, whole.to_string()),
            None => (cluster("pod-cidr"), format!("{pods:#}")),
        };
        findings.push(
            Finding::new("pod-cidr-outside", format!("pod CIDR {range} is outside the cluster's {whole}"))
                .at_value(path, "outside")
                .at_value(place, "the cluster's pods")
                .help("take a part of the cluster's range, or leave the key out: one is assigned"),
        );
    } else if range.prefix_len() > limit(LONGEST_NODE_PREFIX, &range) {
        findings.push(
            Finding::new("pod-cidr-too-small", format!("pod CIDR {range} has no room for pods"))
                .at_value(path, "too small")
                .help(format!("use a prefix length of {} or less", limit(LONGEST_NODE_PREFIX, &range))),
        );
    }
}

/// Sorted by first address, a range can only overlap one that began before it and is not yet over.
fn overlapping_pod_cidrs(file: &ClusterFile, findings: &mut Vec<Finding>) {
    let nodes = file.nodes.iter().enumerate();
    let written = nodes.flat_map(|(index, node)| written_pod_cidrs(index, node));
    let places: Vec<(KeyPath, IpNet)> = written.map(|(place, range)| (place, range.trunc())).collect();
    let mut ranges: Vec<(IpNet, usize)> =
        places.iter().enumerate().map(|(index, (_, range))| (*range, index)).collect();
    ranges.sort_by_key(|(range, index)| (range.network(), range.prefix_len(), *index));
    let mut widest: Option<(IpNet, usize)> = None;
    for (range, index) in ranges {
        match widest.filter(|(earlier, _)| earlier.contains(&range)) {
            Some((earlier, other)) => {
                let place = |index: usize| places[index].0.clone();
                let (first, second) = (index.min(other), index.max(other));
                findings.push(
                    Finding::new("overlap", format!("pod CIDRs {earlier} and {range} of two nodes overlap"))
                        .at_value(place(second), "overlaps")
                        .at_value(place(first), "with this")
                        .help(
                            "give each node a range of its own, or leave the keys out: ranges are assigned",
                        ),
                );
            }
            None => widest = Some((range, index)),
        }
    }
}

/// That of the range's family, of a limit for IPv4 and one for IPv6.
fn limit(values: [u8; 2], range: &IpNet) -> u8 {
    match range {
        IpNet::V4(_) => values[0],
        IpNet::V6(_) => values[1],
    }
}
