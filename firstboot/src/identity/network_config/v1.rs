//! Version 1 of network-config: a list of links, and of what belongs to all of them
//! (<https://cloudinit.readthedocs.io/en/latest/reference/network-config-format-v1.html>).

use std::collections::BTreeMap;

use bootwright_model::links::{Bridge, Link, Route, Vlan};
use serde::Deserialize;

use super::Unclear;
use super::values::{self, Scalar, Several};

/// The document.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Body {
    #[serde(deserialize_with = "values::or_default")]
    config: Vec<Entry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    mac_address: Option<String>,
    mtu: Option<Scalar>,
    #[serde(rename = "accept-ra")]
    accept_ra: Option<Scalar>,
    #[serde(deserialize_with = "values::or_default")]
    subnets: Vec<Subnet>,
    vlan_link: Option<String>,
    vlan_id: Option<Scalar>,
    #[serde(deserialize_with = "values::or_default")]
    bond_interfaces: Vec<String>,
    #[serde(deserialize_with = "values::or_default")]
    bridge_interfaces: Vec<String>,
    #[serde(deserialize_with = "values::or_default")]
    params: BTreeMap<String, Scalar>,
    /// Of `nameserver`.
    address: Several,
    search: Several,
    interface: Option<String>,
    /// Of `route`, as of a subnet's.
    destination: Option<String>,
    netmask: Option<Scalar>,
    gateway: Option<String>,
    metric: Option<Scalar>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Subnet {
    #[serde(rename = "type")]
    kind: String,
    address: Option<String>,
    netmask: Option<Scalar>,
    gateway: Option<String>,
    metric: Option<Scalar>,
    dns_nameservers: Several,
    dns_search: Several,
    #[serde(deserialize_with = "values::or_default")]
    routes: Vec<RouteEntry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RouteEntry {
    destination: Option<String>,
    /// Another name for it.
    network: Option<String>,
    netmask: Option<Scalar>,
    gateway: Option<String>,
    metric: Option<Scalar>,
}

pub fn links(body: Body) -> Result<Vec<Link>, Unclear> {
    let mut links = Vec::new();
    for entry in &body.config {
        let name = entry.name.clone().unwrap_or_default();
        match entry.kind.as_str() {
            "physical" | "vlan" | "bond" | "bridge" => {
                links.push(link(entry, name.clone()).map_err(Unclear::of(&name))?);
            }
            // What holds for all links is looked at once they are known; the kernel makes the loopback.
            "nameserver" | "route" | "loopback" => {}
            other => return Err(Unclear(format!("{name}: links of type `{other}` cannot be made"))),
        }
    }
    for entry in &body.config {
        match entry.kind.as_str() {
            "nameserver" => nameserver(entry, &mut links)?,
            "route" => {
                let written = RouteEntry {
                    destination: entry.destination.clone(),
                    network: None,
                    netmask: entry.netmask.clone(),
                    gateway: entry.gateway.clone(),
                    metric: entry.metric.clone(),
                };
                route_of_all(&written, &mut links)?;
            }
            _ => {}
        }
    }
    Ok(links)
}

fn link(entry: &Entry, name: String) -> Result<Link, Unclear> {
    let mut link = Link {
        name,
        mac: entry.mac_address.as_ref().map(|mac| mac.to_ascii_lowercase()),
        mtu: entry.mtu.as_ref().map(Scalar::number).transpose()?,
        accept_ra: entry.accept_ra.as_ref().map(Scalar::is_on),
        ..Link::default()
    };
    match entry.kind.as_str() {
        "vlan" => {
            let id = entry.vlan_id.as_ref().ok_or_else(|| Unclear::new("vlan_id is missing"))?.number()?;
            let below = entry.vlan_link.clone().ok_or_else(|| Unclear::new("vlan_link is missing"))?;
            link.vlan = Some(Vlan { id, link: below });
        }
        "bond" => link.bond = Some(bond(entry)?),
        "bridge" => {
            let param = |key: &str| param(&entry.params, "bridge", key);
            link.bridge = Some(Bridge {
                members: entry.bridge_interfaces.clone(),
                stp: param("stp").is_some_and(Scalar::is_on),
                forward_delay: param("fd").map(Scalar::number).transpose()?,
            });
        }
        _ => {}
    }
    for subnet in &entry.subnets {
        add(subnet, &mut link)?;
    }
    Ok(link)
}

fn add(subnet: &Subnet, link: &mut Link) -> Result<(), Unclear> {
    let metric = subnet.metric.as_ref().map(Scalar::number).transpose()?;
    match subnet.kind.as_str() {
        "dhcp" | "dhcp4" => link.dhcp4 = true,
        "dhcp6" | "ipv6_dhcpv6-stateful" => link.dhcp6 = true,
        "ipv6_slaac" => link.accept_ra = Some(true),
        "ipv6_dhcpv6-stateless" => (link.accept_ra, link.dhcp6) = (Some(true), true),
        "static" | "static4" | "static6" => {
            let address =
                subnet.address.as_deref().ok_or_else(|| Unclear::new("a static subnet has no address"))?;
            link.addresses
                .push(values::network(address, subnet.netmask.as_ref().map(|mask| mask.0.as_str()))?);
        }
        "manual" => {}
        other => return Err(Unclear(format!("subnets of type `{other}` are not known"))),
    }
    if link.dhcp4 && metric.is_some() {
        link.metric = metric;
    }
    if let Some(gateway) = &subnet.gateway {
        link.routes.push(values::default_route(values::address(gateway)?, metric));
    }
    for entry in &subnet.routes {
        link.routes.push(route(entry)?);
    }
    link.resolvers.extend(subnet.dns_nameservers.addresses()?);
    link.search.extend(subnet.dns_search.words().into_iter().map(str::to_owned));
    Ok(())
}

fn route(entry: &RouteEntry) -> Result<Route, Unclear> {
    let to = entry.destination.as_ref().or(entry.network.as_ref());
    let to = to.ok_or_else(|| Unclear::new("a route has no destination"))?;
    let to = values::network(to, entry.netmask.as_ref().map(|mask| mask.0.as_str()))?.trunc();
    let via = entry.gateway.as_deref().map(values::address).transpose()?;
    let metric = entry.metric.as_ref().map(Scalar::number).transpose()?;
    Ok(Route { to, via, metric, table: None, on_link: false, source: None })
}

/// Of the link that is named, else of the first: a machine asks them whichever link they were written with.
fn nameserver(entry: &Entry, links: &mut [Link]) -> Result<(), Unclear> {
    let named = entry.interface.as_ref().and_then(|name| links.iter().position(|link| link.name == *name));
    if let Some(link) = links.get_mut(named.unwrap_or(0)) {
        link.resolvers.extend(entry.address.addresses()?);
        link.search.extend(entry.search.words().into_iter().map(str::to_owned));
    }
    Ok(())
}

/// Through the link in whose network the gateway is.
fn route_of_all(entry: &RouteEntry, links: &mut [Link]) -> Result<(), Unclear> {
    let route = route(entry)?;
    let near = |link: &Link| {
        route.via.is_some_and(|via| link.addresses.iter().any(|address| address.contains(&via)))
    };
    let place = links
        .iter()
        .position(near)
        .ok_or_else(|| Unclear(format!("the route to {} has a gateway in no link's network", route.to)))?;
    links[place].routes.push(route);
    Ok(())
}

fn bond(entry: &Entry) -> Result<bootwright_model::links::Bond, Unclear> {
    let param = |keys: &[&str]| keys.iter().find_map(|key| param(&entry.params, "bond", key));
    let mut bond = values::bond(entry.bond_interfaces.clone());
    if let Some(mode) = param(&["mode"]) {
        bond.mode = values::bond_mode(&mode.0)?;
    }
    if let Some(miimon) = param(&["miimon"]) {
        bond.miimon = miimon.number()?;
    }
    bond.lacp_rate = param(&["lacp-rate"]).map(|rate| values::lacp_rate(&rate.0)).transpose()?;
    let policy = param(&["xmit-hash-policy"]);
    bond.transmit_hash_policy = policy.map(|policy| values::transmit_hash_policy(&policy.0)).transpose()?;
    bond.min_links = param(&["min-links"]).map(Scalar::number).transpose()?;
    bond.primary = param(&["primary"]).map(|primary| primary.0.clone());
    bond.up_delay = param(&["updelay", "up-delay"]).map(Scalar::number).transpose()?;
    bond.down_delay = param(&["downdelay", "down-delay"]).map(Scalar::number).transpose()?;
    Ok(bond)
}

/// A parameter, spelled `bond-lacp-rate`, `bond_lacp_rate` or `lacp_rate`: documents, and the programs that write them, do
/// not agree.
fn param<'a>(params: &'a BTreeMap<String, Scalar>, kind: &str, key: &str) -> Option<&'a Scalar> {
    let is = |name: &str| {
        let name = name.replace('_', "-");
        name.strip_prefix(kind).and_then(|rest| rest.strip_prefix('-')).unwrap_or(&name) == key
    };
    params.iter().find(|(name, _)| is(name)).map(|(_, value)| value)
}
