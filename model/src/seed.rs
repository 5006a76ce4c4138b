//! The node seed, `node.toml`: who this machine is.
//!
//! It is what first boot reads from the seed partition and from what hypervisors and clouds hand over; docs/identity.md
//! lists the places.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::families::PerFamily;
use crate::links::Link;

/// `node.toml`. Every field is optional: what is absent comes from the baked inventory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Seed {
    /// Node name: if it is one of the inventory, the rest comes from there.
    pub name: Option<String>,
    /// Address with prefix length; a list with one of each family in a cluster of both.
    pub address: Option<PerFamily<IpNet>>,
    /// Default gateway, or one of each family.
    pub gateway: Option<PerFamily<IpAddr>>,
    /// Link that carries the address.
    pub mac: Option<String>,
    /// Pod CIDR of this node; a list with one of each family in a cluster of both.
    pub pod_cidr: Option<PerFamily<IpNet>>,
    /// How the cloud calls this machine.
    pub provider_id: Option<String>,
    /// The machine's links; all of them, if there are any here.
    #[serde(rename = "link", skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
    /// Where the time comes from.
    pub clock: SeedClock,
}

/// `[clock]` of the node seed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct SeedClock {
    /// NTP servers in the place of those of the cluster file; an empty list is none at all.
    pub servers: Option<Vec<String>>,
}
