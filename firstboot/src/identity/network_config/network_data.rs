//! OpenStack's `network_data.json`
//! (<https://docs.openstack.org/nova/latest/user/metadata.html>, schema in nova's `doc/api_schemas/network_data.json`).

use std::collections::BTreeMap;
use std::net::IpAddr;

use bootwright_model::links::{Link, Vlan};
use serde::Deserialize;

use super::Unclear;
use super::values::{self, Scalar};

/// Longest name of a device, bytes: `IFNAMSIZ` without the zero (linux/if.h).
const NAME_BYTES: usize = 15;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Document {
    #[serde(deserialize_with = "values::or_default")]
    links: Vec<LinkEntry>,
    #[serde(deserialize_with = "values::or_default")]
    networks: Vec<Network>,
    #[serde(deserialize_with = "values::or_default")]
    services: Vec<Service>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LinkEntry {
    id: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    ethernet_mac_address: Option<String>,
    mtu: Option<u16>,
    #[serde(deserialize_with = "values::or_default")]
    bond_links: Vec<String>,
    bond_mode: Option<Scalar>,
    bond_miimon: Option<Scalar>,
    bond_xmit_hash_policy: Option<Scalar>,
    vlan_id: Option<u16>,
    vlan_link: Option<String>,
    vlan_mac_address: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Network {
    link: String,
    #[serde(rename = "type")]
    kind: String,
    ip_address: Option<String>,
    netmask: Option<String>,
    gateway: Option<String>,
    #[serde(deserialize_with = "values::or_default")]
    routes: Vec<RouteEntry>,
    #[serde(deserialize_with = "values::or_default")]
    services: Vec<Service>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RouteEntry {
    network: String,
    netmask: Option<String>,
    gateway: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Service {
    #[serde(rename = "type")]
    kind: String,
    address: Option<String>,
}

/// The links of the document.
///
/// # Errors
/// It is no such document, or something in it cannot be done.
pub fn links(text: &str) -> Result<Vec<Link>, Unclear> {
    let document: Document = serde_json::from_str(text).map_err(|error| Unclear(error.to_string()))?;
    let names = names(&document.links);
    let named = |id: &String| names.get(id.as_str()).cloned().unwrap_or_else(|| id.clone());
    let mut links = Vec::new();
    for entry in &document.links {
        let mut link = link(entry, &named).map_err(Unclear::of(&entry.id))?;
        for network in document.networks.iter().filter(|network| network.link == entry.id) {
            add(network, &mut link).map_err(Unclear::of(&entry.id))?;
        }
        links.push(link);
    }
    if let Some(network) = document.networks.iter().find(|network| !names.contains_key(network.link.as_str()))
    {
        return Err(Unclear(format!("a network is on link `{}`, which there is not", network.link)));
    }
    // Of the machine as a whole: it asks them whichever link they were written with.
    if let Some(first) = links.first_mut() {
        first.resolvers.extend(resolvers(&document.services)?);
    }
    Ok(links)
}

/// What links are called here: by their ID where it can be a device's name, which those of the hypervisor often cannot.
fn names(links: &[LinkEntry]) -> BTreeMap<&str, String> {
    let name = |(index, entry): (usize, &'_ LinkEntry)| {
        let fits = entry.id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if fits && (1..=NAME_BYTES).contains(&entry.id.len()) {
            return entry.id.clone();
        }
        let kind = entry.kind.as_deref().filter(|kind| ["bond", "vlan"].contains(kind)).unwrap_or("card");
        format!("{kind}{index}")
    };
    links.iter().enumerate().map(|(index, entry)| (entry.id.as_str(), name((index, entry)))).collect()
}

fn link(entry: &LinkEntry, named: &impl Fn(&String) -> String) -> Result<Link, Unclear> {
    let mac = |mac: &Option<String>| mac.as_ref().map(|mac| mac.to_ascii_lowercase());
    let mut link = Link {
        name: named(&entry.id),
        mac: mac(&entry.ethernet_mac_address),
        mtu: entry.mtu,
        ..Link::default()
    };
    match entry.kind.as_deref() {
        Some("bond") => {
            let mut bond = values::bond(entry.bond_links.iter().map(named).collect());
            if let Some(mode) = &entry.bond_mode {
                bond.mode = values::bond_mode(&mode.0)?;
            }
            if let Some(miimon) = &entry.bond_miimon {
                bond.miimon = miimon.number()?;
            }
            let policy = entry.bond_xmit_hash_policy.as_ref();
            bond.transmit_hash_policy =
                policy.map(|policy| values::transmit_hash_policy(&policy.0)).transpose()?;
            link.bond = Some(bond);
        }
        Some("vlan") => {
            let id = entry.vlan_id.ok_or_else(|| Unclear::new("vlan_id is missing"))?;
            let below = entry.vlan_link.as_ref().ok_or_else(|| Unclear::new("vlan_link is missing"))?;
            link.mac = mac(&entry.vlan_mac_address).or(link.mac);
            link.vlan = Some(Vlan { id, link: named(below) });
        }
        // Whatever the hypervisor calls its end (`ovs`, `vif`, `hw_veb`, …), here it is a card.
        _ => {
            link.mac.as_ref().ok_or_else(|| Unclear::new("ethernet_mac_address is missing"))?;
        }
    }
    Ok(link)
}

fn add(network: &Network, link: &mut Link) -> Result<(), Unclear> {
    match network.kind.as_str() {
        "ipv4_dhcp" => link.dhcp4 = true,
        "ipv6_dhcp" | "ipv6_dhcpv6-stateful" => link.dhcp6 = true,
        "ipv6_slaac" => link.accept_ra = Some(true),
        "ipv6_dhcpv6-stateless" => (link.accept_ra, link.dhcp6) = (Some(true), true),
        "ipv4" | "ipv6" => {
            let address = network.ip_address.as_deref();
            let address = address.ok_or_else(|| Unclear::new("a network has no ip_address"))?;
            link.addresses.push(values::network(address, network.netmask.as_deref())?);
        }
        other => return Err(Unclear(format!("networks of type `{other}` are not known"))),
    }
    let mut gateways: Vec<IpAddr> =
        network.gateway.iter().map(|text| values::address(text)).collect::<Result<_, _>>()?;
    for entry in &network.routes {
        let to = values::network(&entry.network, entry.netmask.as_deref())?.trunc();
        let via = entry.gateway.as_deref().map(values::address).transpose()?;
        match via {
            // Nova writes the default route as one of these, and some write it twice.
            Some(gateway) if to.prefix_len() == 0 => gateways.push(gateway),
            _ => {
                let empty = values::default_route(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), None);
                link.routes.push(bootwright_model::links::Route { to, via, ..empty });
            }
        }
    }
    gateways.dedup();
    link.routes.extend(gateways.into_iter().map(|gateway| values::default_route(gateway, None)));
    link.resolvers.extend(resolvers(&network.services)?);
    Ok(())
}

fn resolvers(services: &[Service]) -> Result<Vec<IpAddr>, Unclear> {
    let of_dns = services.iter().filter(|service| service.kind == "dns");
    of_dns.filter_map(|service| service.address.as_deref()).map(values::address).collect()
}
