//! Who this machine is: one folder per source, and what they say put together field by field.
//!
//! [`machine`] reads the signs that the machine shows, [`source`] asks the sources in their order, [`inventory`] adds
//! the cluster file's node, and [`merge`] puts the claims together; [`derived`] names a machine that nobody knows. A source
//! whose documents are known to others too has its formats beside it: [`document`], [`cloud_init`], [`network_config`]. What
//! is asked over the network goes through [`fetch`].

pub mod checks;
pub mod cloud_init;
pub mod config_drive;
pub mod derived;
pub mod document;
pub mod drives;
pub mod fetch;
pub mod fw_cfg;
pub mod inventory;
pub mod kernel_command_line;
pub mod machine;
mod merge;
pub mod metadata;
pub mod network_config;
pub mod nocloud;
pub mod seed;
pub mod smbios;
pub mod source;
pub mod vmware;

use std::net::IpAddr;

use bootwright_model::baked::ClusterLayer;
use bootwright_model::families::PerFamily;
use bootwright_model::host_address::GatewayFault;
use bootwright_model::kubernetes::is_node;
use bootwright_model::links::Link;
use bootwright_model::seed::Seed;
use ipnet::IpNet;

pub use merge::merge;
use smbios::Firmware;

use crate::network::links::Card;
use crate::stages::Advice;

/// What one source says. A source that knows nothing of a field leaves it to the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// For messages: `the seed (node.toml on /dev/vda4)`.
    pub source: String,
    /// The fields.
    pub says: Seed,
    /// What the cloud or hypervisor calls the machine: made by a program as often as by a person, so that it is the node's
    /// name only if nothing else tells which node this is.
    pub host_name: Option<String>,
}

/// What is read in one place, without where that is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// The fields.
    pub says: Seed,
    /// As in [`Claim`].
    pub host_name: Option<String>,
}

impl From<Seed> for Told {
    fn from(says: Seed) -> Told {
        Told { says, host_name: None }
    }
}

impl Claim {
    /// What `source` has told.
    pub fn new(source: impl Into<String>, told: impl Into<Told>) -> Claim {
        let Told { says, host_name } = told.into();
        Claim { source: source.into(), says, host_name }
    }

    /// With the families in the cluster's order, in which the inventory has them.
    fn in_order(&self, order: &PerFamily<IpNet>) -> Claim {
        let says = Seed {
            address: self.says.address.map(|addresses| addresses.ordered_as(order)),
            gateway: self.says.gateway.map(|gateways| gateways.ordered_as(order)),
            pod_cidr: self.says.pod_cidr.map(|ranges| ranges.ordered_as(order)),
            ..self.says.clone()
        };
        Claim { says, ..self.clone() }
    }
}

/// Who this machine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Node name.
    pub name: String,
    /// Address with prefix length, of each family of the cluster in its order; those that are missing a DHCP server or a router
    /// is to give.
    pub address: Option<PerFamily<IpNet>>,
    /// Default gateway, or one of each family.
    pub gateway: Option<PerFamily<IpAddr>>,
    /// MAC of the link that carries the address; any link if absent.
    pub mac: Option<String>,
    /// Pod CIDR, of each family; nothing on a machine that runs no pods, or that the cluster is to give one.
    pub pod_cidr: Option<PerFamily<IpNet>>,
    /// How the cloud calls the machine.
    pub provider_id: Option<String>,
    /// The machine's links, if somebody describes them.
    pub links: Vec<Link>,
    /// NTP servers in the place of those of the cluster file.
    pub time_servers: Option<Vec<String>>,
    /// Which source gave what, one phrase per source.
    pub sources: Vec<String>,
}

/// Why it is not known who this machine is.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Two sources disagree.
    #[error("{field} is {ours} by {our_source}, and {theirs} by {their_source}")]
    Conflict {
        /// Name of the field.
        field: &'static str,
        /// One value.
        ours: String,
        /// Who says so.
        our_source: String,
        /// The other value.
        theirs: String,
        /// Who says so.
        their_source: String,
    },
    /// Nobody says.
    #[error("no source gives this machine's {field}; looked at: {looked}")]
    Missing {
        /// Name of the field.
        field: &'static str,
        /// The sources, and what they had.
        looked: String,
        /// The cluster file could let a machine join that says none.
        admittable: bool,
    },
    /// Nobody says, and a DHCP server cannot.
    #[error("no source gives this machine's address, and DHCP cannot: {why}; looked at: {looked}")]
    NoAddress {
        /// Why not.
        why: &'static str,
        /// The sources, and what they had.
        looked: String,
    },
    /// The machine is another node of the cluster, for which there is another image.
    #[error(
        "{source_name} says that this machine is `{name}` with the role {role}; this image is for {ours}"
    )]
    Role {
        /// Who says so.
        source_name: String,
        /// Node name.
        name: String,
        /// Its role.
        role: String,
        /// Role of the image.
        ours: String,
    },
    /// Values of two sources that do not go together.
    #[error(
        "gateway {gateway} by {gateway_source} does not go with address {address:#} by {address_source}: the gateway {fault}"
    )]
    Gateway {
        /// The gateway.
        gateway: IpAddr,
        /// Who says so.
        gateway_source: String,
        /// The addresses; boxed, as they would make every result larger.
        address: Box<PerFamily<IpNet>>,
        /// Who says so.
        address_source: String,
        /// Why they do not.
        fault: GatewayFault,
    },
    /// A value that cannot be.
    #[error("{source_name}: {what}")]
    Invalid {
        /// Who says so.
        source_name: String,
        /// Which field, and why.
        what: String,
    },
    /// A mistake in what a source has.
    #[error(transparent)]
    Source(#[from] source::SourceError),
}

impl Advice for IdentityError {
    fn advice(&self) -> String {
        match self {
            IdentityError::Conflict { .. } | IdentityError::Gateway { .. } => {
                "correct one of the two (every field of a node.toml is optional), or the cluster file and build again"
            }
            IdentityError::Missing { admittable: true, .. } => {
                "hand over a node.toml with name = \"<a node of the cluster file>\", on the seed partition, say, or set the node's mac, uuid or serial in the cluster file and build again; or, if any machine with this image may join, admit-unknown-workers = true under [cluster] (docs/identity.md)"
            }
            IdentityError::Missing { .. } => {
                "hand over a node.toml with name = \"<a node of the cluster file>\", on the seed partition, say, or set the node's mac, uuid or serial in the cluster file and build again (docs/identity.md)"
            }
            IdentityError::NoAddress { .. } => {
                "write address into node.toml on the seed partition, or give the machine a node of the cluster file"
            }
            IdentityError::Role { .. } => "boot the image of that role",
            IdentityError::Invalid { .. } => "correct the value where that source has it",
            IdentityError::Source(error) => return error.advice(),
        }
        .to_owned()
    }
}

/// What the inventory recognises a machine by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recognised {
    /// Its network cards.
    pub cards: Vec<Card>,
    /// What its firmware says.
    pub firmware: Firmware,
}

/// Puts together what the sources and the baked inventory say of this machine.
pub fn resolve(said: &[Claim], layer: &ClusterLayer, by: &Recognised) -> Result<Identity, IdentityError> {
    put_together(said, layer, by, false)
}

/// The same, and where that is not enough the machine becomes a worker that nobody described, if the cluster file lets it.
/// Not before all cards are there that the inventory may know it by.
pub fn resolve_or_admit(
    said: &[Claim],
    layer: &ClusterLayer,
    by: &Recognised,
) -> Result<Identity, IdentityError> {
    match put_together(said, layer, by, false) {
        Err(IdentityError::Missing { .. }) if layer.admits_unknown() => put_together(said, layer, by, true),
        result => result,
    }
}

fn put_together(
    said: &[Claim],
    layer: &ClusterLayer,
    by: &Recognised,
    admit: bool,
) -> Result<Identity, IdentityError> {
    let families = &layer.file.cluster.pod_cidr;
    let mut claims: Vec<Claim> = said.iter().map(|claim| claim.in_order(families)).collect();
    for claim in &claims {
        checks::check(claim, &layer.role, families)?;
    }
    let of_inventory = inventory::claims(layer, &claims, by)?;
    if of_inventory.is_empty() && claims.iter().all(|claim| claim.says.name.is_none()) {
        // A node that the inventory does not know at all.
        if let Some(claim) = claims.iter_mut().find(|claim| claim.host_name.is_some()) {
            claim.says.name = claim.host_name.take();
            checks::check(claim, &layer.role, families)?;
        } else if admit {
            claims.extend(derived::claim(by));
        }
    }
    claims.extend(of_inventory);
    let identity = merge(&claims, layer, by, admit)?;
    let missing = checks::missing_families(identity.address.as_ref(), layer);
    // A machine that is no node needs no more than one.
    if identity.address.is_none() || is_node(&layer.role) && !missing.is_empty() {
        checks::lendable(&identity, layer, &missing)
            .map_err(|why| IdentityError::NoAddress { why, looked: merge::looked(&claims, by) })?;
    }
    Ok(identity)
}

#[cfg(test)]
mod tests;
