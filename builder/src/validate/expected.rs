//! What a cluster file says that the cluster should be.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bootwright_model::cluster::ClusterFile;
use bootwright_model::kubernetes::is_control_plane;
use ipnet::IpNet;

/// Of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedNode {
    /// Its address.
    pub address: IpAddr,
    /// Its pods.
    pub pod_cidr: Option<IpNet>,
}

/// Of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// By name.
    pub nodes: BTreeMap<String, ExpectedNode>,
    /// How many of them run a control plane.
    pub control_planes: usize,
    /// DNS domain.
    pub domain: String,
    /// Whether there is cluster DNS.
    pub dns: bool,
}

impl Expected {
    /// Of a checked cluster file.
    pub fn of(file: &ClusterFile) -> Expected {
        let nodes = file.nodes.iter().map(|node| {
            let expected = ExpectedNode { address: node.address.addr(), pod_cidr: node.pod_cidr };
            (node.name.clone(), expected)
        });
        Expected {
            nodes: nodes.collect(),
            control_planes: file.nodes.iter().filter(|node| is_control_plane(&node.role)).count(),
            domain: file.cluster.domain.clone(),
            dns: file.dns.is_some(),
        }
    }
}
