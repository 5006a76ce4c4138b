//! Claims put together field by field.

use std::fmt::{self, Display};
use std::net::IpAddr;

use bootwright_model::baked::ClusterLayer;
use bootwright_model::families::{Family, PerFamily};
use bootwright_model::host_address::check_gateway;
use bootwright_model::kubernetes::{is_node, is_worker};
use bootwright_model::links::Link;
use bootwright_model::seed::Seed;
use ipnet::IpNet;

use super::source::SOURCES;
use super::{Claim, Identity, IdentityError, Recognised};

/// Of a machine that would be admitted. Without one it would be another node at each boot, or that of another machine.
const NO_NAME: &str =
    "; no name follows from that, as other machines have the same, or this one at the next boot another";

/// The value of each field is that of the first claim which has it. Two that disagree are an error: one of them is about
/// another machine, or out of date.
///
/// `admit`: a pod CIDR that nobody says is the cluster's to give.
pub fn merge(
    claims: &[Claim],
    layer: &ClusterLayer,
    by: &Recognised,
    admit: bool,
) -> Result<Identity, IdentityError> {
    let mut used = vec![Vec::new(); claims.len()];
    let name = field(claims, &mut used, "name", |says| says.name.clone())?;
    let address = field(claims, &mut used, "address", |says| says.address)?;
    let gateway = field(claims, &mut used, "gateway", |says| says.gateway)?;
    if let (Some(address), Some(gateway)) = (address, gateway) {
        check_gateways(claims, &used, address, gateway)?;
    }
    let mac = field(claims, &mut used, "mac", |says| says.mac.as_deref().map(str::to_lowercase))?;
    let pod_cidr = field(claims, &mut used, "pod-cidr", |says| says.pod_cidr)?;
    // Nobody asks for it without a cloud's controller manager, and then two spellings of it disturb nobody.
    let of_cloud = |says: &Seed| says.provider_id.clone().filter(|_| layer.file.cloud.is_external());
    let provider_id = field(claims, &mut used, "provider-id", of_cloud)?;
    let time_servers = field(claims, &mut used, "clock", |says| says.clock.servers.clone().map(Servers))?;
    let links = field(claims, &mut used, "link", |says| Described::of(&says.links))?;
    let links = links.map_or(Vec::new(), |described| described.0);
    let address = address.or_else(|| address_of(&links, layer));

    let missing = |field| IdentityError::Missing {
        field,
        looked: looked(claims, by) + if admit { NO_NAME } else { "" },
        admittable: is_worker(&layer.role) && !layer.admits_unknown(),
    };
    let sources = claims.iter().zip(used).filter(|(_, fields)| !fields.is_empty());
    let name = name.ok_or_else(|| missing("name"))?;
    if pod_cidr.is_none() && is_node(&layer.role) && !admit {
        return Err(missing("pod-cidr"));
    }
    Ok(Identity {
        name,
        address,
        gateway,
        mac,
        pod_cidr,
        provider_id,
        links,
        time_servers: time_servers.map(|Servers(servers)| servers),
        sources: sources
            .map(|(claim, fields)| format!("{} by {}", fields.join(", "), claim.source))
            .collect(),
    })
}

/// The node's address where links are described and nobody says which of their addresses it is: of each family the first
/// on the link that has the default route, else the first of all. A machine that is no Node needs the primary family
/// alone.
fn address_of(links: &[Link], layer: &ClusterLayer) -> Option<PerFamily<IpNet>> {
    let families = &layer.file.cluster.pod_cidr;
    let is_default = |link: &&Link| link.routes.iter().any(|route| route.to.prefix_len() == 0);
    let ordered: Vec<&Link> = links.iter().filter(is_default).chain(links).collect();
    let addresses: Vec<IpNet> = ordered.iter().flat_map(|link| link.addresses.iter().copied()).collect();
    let of_family = |family: IpNet| {
        let same = |address: &&IpNet| address.addr().is_ipv4() == family.addr().is_ipv4();
        addresses.iter().find(same).copied().ok_or(())
    };
    match families.try_map(of_family) {
        Err(()) if !is_node(&layer.role) => of_family(families.primary()).ok().map(PerFamily::one),
        Err(()) => half(&ordered, layer),
        addresses => addresses.ok(),
    }
}

/// In a cluster of both families: the address of one on a link that asks for the other.
fn half(links: &[&Link], layer: &ClusterLayer) -> Option<PerFamily<IpNet>> {
    let asks = |link: &Link, family: Family| match family {
        Family::V4 => link.dhcp4,
        Family::V6 => link.dhcp6 || link.accept_ra == Some(true),
    };
    if layer.file.cluster.pod_cidr.count() < 2 {
        return None;
    }
    let mut addresses =
        links.iter().flat_map(|link| link.addresses.iter().map(move |address| (link, *address)));
    let (_, address) = addresses.find(|(link, address)| {
        let mut others =
            layer.file.cluster.pod_cidr.families().filter(|family| *family != Family::of(address.addr()));
        others.all(|family| asks(link, family))
    })?;
    Some(PerFamily::one(address))
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
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_empty() { "no server" } else { "" })?;
        formatter.write_str(&self.0.join(", "))
    }
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

/// What there was to go by, for a person who has to provide what is missing.
pub fn looked(claims: &[Claim], by: &Recognised) -> String {
    let mut parts: Vec<String> = claims.iter().map(|claim| claim.source.clone()).collect();
    if claims.is_empty() {
        let names: Vec<&str> = SOURCES.iter().map(|source| source.name()).collect();
        parts.push(format!("nothing from {}; no node of the inventory fits", names.join(", ")));
    }
    let macs: Vec<&str> = by.cards.iter().map(|card| card.mac.as_str()).collect();
    parts.push(match macs.as_slice() {
        [] => "this machine has no network link".to_owned(),
        macs => format!("this machine's MAC addresses are {}", macs.join(", ")),
    });
    for (what, value) in [("UUID", &by.firmware.uuid), ("serial number", &by.firmware.serial)] {
        parts.extend(value.as_ref().map(|value| format!("its {what} is {value}")));
    }
    parts.join("; ")
}
