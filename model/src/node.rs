//! This machine, once first boot knows it: the facts that flags, certificates and network are made from.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::baked::{ClusterLayer, OsRelease};
use crate::cluster::Node;
use crate::families::{Family, PerFamily};
use crate::kubernetes::KubernetesError;

/// Everything about one node that is needed to configure its services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NodeFacts {
    /// Node name and host name.
    pub name: String,
    /// Address with prefix length, on `link`: of each family of the cluster, in its order.
    pub address: PerFamily<IpNet>,
    /// Default gateway, or one of each family.
    pub gateway: Option<PerFamily<IpAddr>>,
    /// Name of the link that carries the address, `eth0`.
    pub link: String,
    /// This node's share of the cluster's pod CIDR, of each family and in their order. Nothing on a machine that runs no
    /// pods ([`is_node`](crate::kubernetes::is_node)), or that is yet to be given one ([`admitted`](Self::admitted)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_cidr: Option<PerFamily<IpNet>>,
    /// Nobody described this machine: it asks the cluster for its pod CIDR when it joins, and has none until it was given
    /// one for the first time (`cluster.admit-unknown-workers`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub admitted: bool,
    /// How the cloud calls this machine; nothing without one, or if its cloud controller manager finds out by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<String>,
    /// NTP servers, names or addresses, of the first that names any: see [`crate::clock::servers`].
    #[serde(default)]
    pub time_servers: Vec<String>,
    /// What was baked for the cluster.
    pub layer: ClusterLayer,
    /// What the OS layer is made of.
    pub os: OsRelease,
}

impl NodeFacts {
    /// What the cluster file says of this machine; nothing of one that it does not describe.
    pub fn described(&self) -> Option<&Node> {
        self.layer.file.nodes.iter().find(|node| node.name == self.name)
    }

    /// The pods' ranges of every family that there are any of.
    pub fn pod_cidrs(&self) -> impl Iterator<Item = IpNet> + use<> {
        self.pod_cidr.into_iter().flat_map(|ranges| ranges.iter())
    }

    /// A range of the size of this machine's, for what depends on the size alone.
    pub(crate) fn share_of_pods(&self) -> Result<PerFamily<IpNet>, KubernetesError> {
        if self.admitted && self.pod_cidr.is_none() {
            let cluster = &self.layer.file.cluster;
            let bits = |whole: IpNet| cluster.node_prefix_length(Family::of(whole.addr()));
            // The builder refuses a length that the family does not have.
            let share = |whole: IpNet| IpNet::new(whole.network(), bits(whole)).unwrap_or(whole);
            return Ok(cluster.pod_cidr.map(share));
        }
        self.pods()
    }

    /// The pods' range, for what makes no sense without.
    pub(crate) fn pods(&self) -> Result<PerFamily<IpNet>, KubernetesError> {
        let missing = || KubernetesError::NoPods { node: self.name.clone(), role: self.layer.role.clone() };
        self.pod_cidr.ok_or_else(missing)
    }
}
