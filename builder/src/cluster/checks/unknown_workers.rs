//! Machines that nobody described: whether the cluster can give them what they need.

use bootwright_model::addresses::{allocate_node_ranges, highest_free};
use bootwright_model::cluster::{ClusterFile, NetworkMode};
use bootwright_model::families::Family;
use ipnet::IpNet;

use super::{cluster, each};
use crate::cluster::text::finding::{Finding, KeyPath};

pub fn check(file: &ClusterFile, findings: &mut Vec<Finding>) {
    if file.cluster.admit_unknown_workers {
        mode(file.network.mode, findings);
        room(file, findings);
    }
}

fn mode(mode: NetworkMode, findings: &mut Vec<Finding>) {
    let why = match mode {
        NetworkMode::Vxlan | NetworkMode::Routes | NetworkMode::None => return,
        // BIRD's configuration of every node names its neighbours and the ranges that it takes of each.
        NetworkMode::Bgp => {
            "nodes and routers take the ways to pods of those alone that the cluster file names"
        }
        // The cloud controller manager sets routes only where it gives the ranges as well.
        NetworkMode::Cloud => "the cloud gives pod CIDRs to Nodes that have none, besides the control planes",
    };
    findings.push(
        Finding::new(
            "unknown-workers",
            format!("unknown workers cannot be admitted in mode \"{}\": {why}", mode.name()),
        )
        .at_value(cluster("admit-unknown-workers"), "does not work")
        .at_value(KeyPath::of("network").key("mode"), "in this mode")
        .help("write mode = \"vxlan\" or \"routes\", or describe every worker in a [[node]]"),
    );
}

/// One range at least, besides those of the nodes.
fn room(file: &ClusterFile, findings: &mut Vec<Finding>) {
    // What is wrong with the nodes' own ranges is said elsewhere.
    let Ok(ranges) = allocate_node_ranges(&file.cluster, &file.nodes) else { return };
    let taken: Vec<IpNet> = ranges.into_iter().flatten().flat_map(|ranges| ranges.iter()).collect();
    for (place, whole) in each(&cluster("pod-cidr"), &file.cluster.pod_cidr) {
        let bits = file.cluster.node_prefix_length(Family::of(whole.addr()));
        if highest_free(whole, bits, &taken).is_none() {
            findings.push(
                Finding::new(
                    "unknown-workers",
                    format!("{whole} has no /{bits} left for a worker that nobody described"),
                )
                .at_value(cluster("admit-unknown-workers"), "none can be admitted")
                .at_value(place, "all of it is the nodes'")
                .help("use a larger pod-cidr, or larger node-cidr-bits"),
            );
        }
    }
}
