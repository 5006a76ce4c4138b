//! The node seed, `node.toml`: who this machine is.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// `node.toml` on the seed partition. Every field is optional: what is absent comes from the baked inventory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Seed {
    /// Node name: if it is one of the inventory, the rest comes from there.
    pub name: Option<String>,
    /// Address with prefix length.
    pub address: Option<IpNet>,
    /// Default gateway.
    pub gateway: Option<IpAddr>,
    /// Link that carries the address.
    pub mac: Option<String>,
    /// Pod CIDR of this node.
    pub pod_cidr: Option<IpNet>,
    /// How the cloud calls this machine.
    pub provider_id: Option<String>,
}
