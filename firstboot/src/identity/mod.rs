//! Who this machine is: one folder per source, and what they say put together field by field.

pub mod inventory;
pub mod seed;
pub mod smbios;

use std::fmt::{self, Display};
use std::net::IpAddr;

use bootwright_model::baked::ClusterLayer;
use bootwright_model::clock::is_server;
use bootwright_model::cloud::is_provider_id;
use bootwright_model::families::{Family, PerFamily};
use bootwright_model::host_address::{GatewayFault, check_gateway, reserved_in, unusable};
use bootwright_model::kubernetes::{has_families, is_control_plane, is_node, runs_etcd};
use bootwright_model::links::Link;
use bootwright_model::seed::Seed;
use ipnet::IpNet;

use crate::stages::Advice;

/// What one source says. A source that knows nothing of a field leaves it to the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// For messages: `the seed (node.toml on /dev/vda4)`.
    pub source: String,
    /// The fields.
    pub says: Seed,
}

impl Claim {
    /// With the families in the cluster's order, in which the inventory has them.
    fn in_order(&self, order: &PerFamily<IpNet>) -> Claim {
        let says = Seed {
            address: self.says.address.map(|addresses| addresses.ordered_as(order)),
            gateway: self.says.gateway.map(|gateways| gateways.ordered_as(order)),
            pod_cidr: self.says.pod_cidr.map(|ranges| ranges.ordered_as(order)),
            ..self.says.clone()
        };
        Claim { source: self.source.clone(), says }
    }
}

/// Who this machine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Node name.
    pub name: String,
    /// Address with prefix length, of each family of the cluster in its order; none if a DHCP server is to lend it.
    pub address: Option<PerFamily<IpNet>>,
    /// Default gateway, or one of each family.
    pub gateway: Option<PerFamily<IpAddr>>,
    /// MAC of the link that carries the address; any link if absent.
    pub mac: Option<String>,
    /// Pod CIDR, of each family; nothing on a machine that runs no pods.
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
    /// The seed cannot be read.
    #[error(transparent)]
    Seed(#[from] seed::SeedError),
}

impl Advice for IdentityError {
    fn advice(&self) -> String {
        match self {
            IdentityError::Conflict { .. } | IdentityError::Gateway { .. } => {
                "correct node.toml on the seed partition (every field is optional there), or the cluster file and build again"
            }
            IdentityError::Missing { .. } => {
                "write name = \"<a node of the cluster file>\" into node.toml on the seed partition, or set the node's mac in the cluster file"
            }
            IdentityError::NoAddress { .. } => {
                "write address into node.toml on the seed partition, or give the machine a node of the cluster file"
            }
            IdentityError::Role { .. } => "boot the image of that role",
            IdentityError::Invalid { .. } => "correct the value in node.toml on the seed partition",
            IdentityError::Seed(error) => return error.advice(),
        }
        .to_owned()
    }
}

/// Puts together what the seed and the baked inventory say. `macs` are the addresses of this
/// machine's links.
pub fn resolve(
    seed: Option<&Claim>,
    layer: &ClusterLayer,
    macs: &[String],
) -> Result<Identity, IdentityError> {
    let families = &layer.file.cluster.pod_cidr;
    let seed = seed.map(|seed| seed.in_order(families));
    if let Some(seed) = &seed {
        check(seed, &layer.role, families)?;
    }
    let mut claims: Vec<Claim> = seed.iter().cloned().collect();
    let seeded = seed.as_ref().map(|claim| &claim.says);
    claims.extend(inventory::claims(layer, seeded, macs)?);
    let identity = merge(&claims, macs, &layer.role)?;
    if identity.address.is_none() {
        lendable(&identity, layer)
            .map_err(|why| IdentityError::NoAddress { why, looked: looked(&claims, macs) })?;
    }
    Ok(identity)
}

/// Whether a DHCP server may lend the address of this node.
fn lendable(identity: &Identity, layer: &ClusterLayer) -> Result<(), &'static str> {
    if is_control_plane(&layer.role) || runs_etcd(&layer.role, &layer.file) {
        // It stands in the certificates and flags of every machine.
        return Err("the address of a control plane or of etcd is a fixed one");
    }
    if layer.file.cluster.pod_cidr.families().any(|family| family != Family::V4) {
        return Err("DHCPv4 lends IPv4 addresses, and this cluster has IPv6");
    }
    if !identity.links.is_empty() {
        return Err("its links are described, and the address of a node with described links is a fixed one");
    }
    if identity.gateway.is_some() {
        return Err("there is a gateway without an address, and a lease has its own");
    }
    Ok(())
}

fn merge(claims: &[Claim], macs: &[String], role: &str) -> Result<Identity, IdentityError> {
    let mut used = vec![Vec::new(); claims.len()];
    let name = field(claims, &mut used, "name", |says| says.name.clone())?;
    let address = field(claims, &mut used, "address", |says| says.address)?;
    let gateway = field(claims, &mut used, "gateway", |says| says.gateway)?;
    if let (Some(address), Some(gateway)) = (address, gateway) {
        check_gateways(claims, &used, address, gateway)?;
    }
    let mac = field(claims, &mut used, "mac", |says| says.mac.as_deref().map(str::to_lowercase))?;
    let pod_cidr = field(claims, &mut used, "pod-cidr", |says| says.pod_cidr)?;
    let provider_id = field(claims, &mut used, "provider-id", |says| says.provider_id.clone())?;
    let time_servers = field(claims, &mut used, "clock", |says| says.clock.servers.clone().map(Servers))?;

    let links = field(claims, &mut used, "link", |says| Described::of(&says.links))?;

    let missing = |field| IdentityError::Missing { field, looked: looked(claims, macs) };
    let sources = claims.iter().zip(used).filter(|(_, fields)| !fields.is_empty());
    let name = name.ok_or_else(|| missing("name"))?;
    if pod_cidr.is_none() && is_node(role) {
        return Err(missing("pod-cidr"));
    }
    Ok(Identity {
        name,
        address,
        gateway,
        mac,
        pod_cidr,
        provider_id,
        links: links.map_or(Vec::new(), |described| described.0),
        time_servers: time_servers.map(|Servers(servers)| servers),
        sources: sources
            .map(|(claim, fields)| format!("{} by {}", fields.join(", "), claim.source))
            .collect(),
    })
}

/// All links that one source describes: a link of one and another of the other make no network.
#[derive(PartialEq)]
struct Described(Vec<Link>);

impl Described {
    fn of(links: &[Link]) -> Option<Described> {
        (!links.is_empty()).then(|| Described(links.to_vec()))
    }
}

impl Display for Described {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(|link| link.name.as_str()).collect();
        write!(out, "{}", names.join(", "))
    }
}

/// NTP servers, for [`field`].
#[derive(PartialEq)]
struct Servers(Vec<String>);

impl Display for Servers {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(if self.0.is_empty() { "no server" } else { "" })?;
        formatter.write_str(&self.0.join(", "))
    }
}

/// The value that the claims agree on; the first claim that has it is credited.
fn field<T: PartialEq + Display>(
    claims: &[Claim],
    used: &mut [Vec<&'static str>],
    name: &'static str,
    get: impl Fn(&Seed) -> Option<T>,
) -> Result<Option<T>, IdentityError> {
    let mut agreed: Option<(usize, T)> = None;
    for (place, claim) in claims.iter().enumerate() {
        match (get(&claim.says), &agreed) {
            (Some(value), None) => agreed = Some((place, value)),
            (Some(theirs), Some((first, ours))) if theirs != *ours => {
                return Err(IdentityError::Conflict {
                    field: name,
                    ours: format!("{ours:#}"),
                    our_source: claims[*first].source.clone(),
                    theirs: format!("{theirs:#}"),
                    their_source: claim.source.clone(),
                });
            }
            _ => {}
        }
    }
    Ok(agreed.map(|(place, value)| {
        used[place].push(name);
        value
    }))
}

fn looked(claims: &[Claim], macs: &[String]) -> String {
    let mut parts: Vec<String> = claims.iter().map(|claim| claim.source.clone()).collect();
    if claims.is_empty() {
        parts.push("no seed; no node of the inventory fits".to_owned());
    }
    parts.push(match macs {
        [] => "this machine has no network link".to_owned(),
        macs => format!("this machine's MAC addresses are {}", macs.join(", ")),
    });
    parts.join("; ")
}

/// What a person wrote is checked here, as far as it can be by itself; the inventory was checked by the builder.
/// `families` are the cluster's.
fn check(claim: &Claim, role: &str, families: &PerFamily<IpNet>) -> Result<(), IdentityError> {
    let invalid = |what: String| Err(IdentityError::Invalid { source_name: claim.source.clone(), what });
    let says = &claim.says;
    if let Some(name) = &says.name
        && !is_label(name)
    {
        return invalid(format!(
            "name `{name}`: a name has lower-case letters, digits and inner dashes, at most 63"
        ));
    }
    if let Some(mac) = &says.mac
        && !is_mac(mac)
    {
        return invalid(format!("mac `{mac}`: six pairs of hexadecimal digits with colons are expected"));
    }
    if let Some(id) = &says.provider_id
        && !is_provider_id(id)
    {
        return invalid(format!("provider-id `{id}`: a cloud's scheme is expected, as in hcloud://42"));
    }
    if let Some(ranges) = says.pod_cidr.filter(|_| !is_node(role)) {
        return invalid(format!("pod-cidr {ranges:#}: a machine of the role {role} runs no pods"));
    }
    if let Some(server) = says.clock.servers.iter().flatten().find(|server| !is_server(server)) {
        return invalid(format!(
            "time server `{server}`: a host name in lower case or an address is expected, without scheme or port"
        ));
    }
    for (key, values) in [("address", says.address), ("pod-cidr", says.pod_cidr)] {
        if let Some(values) = values.filter(|values| !has_families(role, values, families)) {
            let wanted: Vec<String> = families.families().map(|family| family.to_string()).collect();
            let wanted = if is_node(role) {
                format!("a node has one {} value", wanted.join(" and one "))
            } else {
                format!("a machine of the role {role} has one {} value", wanted[0])
            };
            return invalid(format!("{key} {values:#}: in this cluster {wanted}"));
        }
    }
    for address in says.address.iter().flat_map(PerFamily::iter) {
        if let Some(why) = unusable(address.addr()) {
            return invalid(format!("address {address} is {why}, and not a machine's"));
        }
        if let Some(name) = reserved_in(address, address.addr()) {
            return invalid(format!(
                "address {address} is the {name} address of its network, and not a machine's"
            ));
        }
    }
    Ok(())
}

/// Gateways against addresses, whoever said either.
fn check_gateways(
    claims: &[Claim],
    used: &[Vec<&'static str>],
    address: PerFamily<IpNet>,
    gateways: PerFamily<IpAddr>,
) -> Result<(), IdentityError> {
    let Some((gateway, fault)) =
        gateways.iter().find_map(|gateway| Some((gateway, check_gateway(&address, gateway).err()?)))
    else {
        return Ok(());
    };
    let by = |field| {
        let mut sources = claims.iter().zip(used).filter(|(_, fields)| fields.contains(&field));
        sources.next().map(|(claim, _)| claim.source.clone()).unwrap_or_default()
    };
    let (gateway_source, address_source) = (by("gateway"), by("address"));
    if gateway_source == address_source {
        let what = format!("gateway {gateway} does not go with address {address:#}: the gateway {fault}");
        return Err(IdentityError::Invalid { source_name: gateway_source, what });
    }
    Err(IdentityError::Gateway { gateway, gateway_source, address: Box::new(address), address_source, fault })
}

/// A label of RFC 1123.
fn is_label(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn is_mac(text: &str) -> bool {
    let pairs: Vec<&str> = text.split(':').collect();
    pairs.len() == 6
        && pairs.iter().all(|pair| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests;
