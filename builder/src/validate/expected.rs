//! What a cluster file says that the cluster should be.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bootwright_model::cluster::ClusterFile;
use bootwright_model::families::PerFamily;
use bootwright_model::kubernetes::{etcd_members, has_etcd_machines, is_control_plane, is_node};
use ipnet::IpNet;

/// Of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedNode {
    /// Its address.
    pub address: PerFamily<IpAddr>,
    /// Its pods.
    pub pod_cidr: Option<PerFamily<IpNet>>,
}

/// Of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// By name.
    pub nodes: BTreeMap<String, ExpectedNode>,
    /// How many of them run a control plane.
    pub control_planes: usize,
    /// Names and addresses of etcd's machines; none if its members are on the control planes.
    pub etcd: Vec<(String, IpAddr)>,
    /// Components whose election the cluster file changes by flags of its own.
    pub other_elections: BTreeSet<String>,
    /// DNS domain.
    pub domain: String,
    /// Whether there is cluster DNS.
    pub dns: bool,
    /// The range that all nodes' pods are in, where machines may join that are not in the cluster file.
    pub admits_in: Option<PerFamily<IpNet>>,
}

impl Expected {
    /// Of a checked cluster file.
    pub fn of(file: &ClusterFile) -> Expected {
        let etcd = etcd_members(file).filter(|_| has_etcd_machines(file));
        let nodes = file.nodes.iter().filter(|node| is_node(&node.role)).map(|node| {
            let expected = ExpectedNode { address: node.address.addrs(), pod_cidr: node.pod_cidr };
            (node.name.clone(), expected)
        });
        Expected {
            nodes: nodes.collect(),
            control_planes: file.nodes.iter().filter(|node| is_control_plane(&node.role)).count(),
            etcd: etcd.map(|node| (node.name.clone(), node.address.addr())).collect(),
            other_elections: other_elections(file),
            domain: file.cluster.domain.clone(),
            dns: file.dns.is_some(),
            admits_in: Some(file.cluster.pod_cidr).filter(|_| file.cluster.admit_unknown_workers),
        }
    }
}

fn other_elections(file: &ClusterFile) -> BTreeSet<String> {
    let flags = file.kubernetes.flags.iter();
    let changed = flags.filter(|(_, flags)| flags.keys().any(|flag| flag.starts_with("leader-elect")));
    changed.map(|(component, _)| component.clone()).collect()
}
