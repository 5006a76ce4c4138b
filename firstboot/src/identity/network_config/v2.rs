//! Version 2 of network-config, which is netplan's (<https://netplan.readthedocs.io/en/stable/netplan-yaml/>).

use std::collections::BTreeMap;

use bootwright_model::links::{Bond, Bridge, DhcpOverrides, Link, Route, Rule, Vlan};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Unclear;
use super::values::{self, Scalar};

type Devices = BTreeMap<String, Device>;

/// The document. What it calls `ethernets` and so on is by name.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Body {
    #[serde(deserialize_with = "values::or_default")]
    ethernets: Devices,
    #[serde(deserialize_with = "values::or_default")]
    bonds: Devices,
    #[serde(deserialize_with = "values::or_default")]
    bridges: Devices,
    #[serde(deserialize_with = "values::or_default")]
    vlans: Devices,
    #[serde(deserialize_with = "values::or_default")]
    wifis: BTreeMap<String, IgnoredAny>,
    #[serde(deserialize_with = "values::or_default")]
    modems: BTreeMap<String, IgnoredAny>,
    #[serde(deserialize_with = "values::or_default")]
    tunnels: BTreeMap<String, IgnoredAny>,
    #[serde(deserialize_with = "values::or_default")]
    vrfs: BTreeMap<String, IgnoredAny>,
    #[serde(rename = "dummy-devices", deserialize_with = "values::or_default")]
    dummies: BTreeMap<String, IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Device {
    #[serde(rename = "match")]
    matching: Option<Match>,
    set_name: Option<String>,
    macaddress: Option<String>,
    dhcp4: bool,
    dhcp6: bool,
    dhcp4_overrides: Overrides,
    accept_ra: Option<bool>,
    #[serde(deserialize_with = "values::or_default")]
    addresses: Vec<Address>,
    gateway4: Option<String>,
    gateway6: Option<String>,
    nameservers: Nameservers,
    mtu: Option<u16>,
    optional: bool,
    #[serde(deserialize_with = "values::or_default")]
    routes: Vec<RouteEntry>,
    #[serde(deserialize_with = "values::or_default")]
    routing_policy: Vec<Policy>,
    /// Of a bond or bridge.
    #[serde(deserialize_with = "values::or_default")]
    interfaces: Vec<String>,
    parameters: Parameters,
    /// Of a VLAN.
    id: Option<u16>,
    link: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Match {
    macaddress: Option<String>,
    name: Option<String>,
    driver: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Overrides {
    route_metric: Option<u32>,
    use_routes: Option<bool>,
    use_dns: Option<bool>,
    use_mtu: Option<bool>,
    use_ntp: Option<bool>,
}

impl Overrides {
    /// What is absent is taken.
    fn taken(&self) -> DhcpOverrides {
        DhcpOverrides {
            use_routes: self.use_routes.unwrap_or(true),
            use_dns: self.use_dns.unwrap_or(true),
            use_mtu: self.use_mtu.unwrap_or(true),
            use_ntp: self.use_ntp.unwrap_or(true),
        }
    }
}

/// `"10.0.0.2/24"`, or the same with options that the kernel keeps for the address alone.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Address {
    Plain(String),
    WithOptions(BTreeMap<String, IgnoredAny>),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Nameservers {
    #[serde(deserialize_with = "values::or_default")]
    addresses: Vec<String>,
    #[serde(deserialize_with = "values::or_default")]
    search: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct RouteEntry {
    to: Option<String>,
    via: Option<String>,
    from: Option<String>,
    metric: Option<u32>,
    table: Option<u32>,
    on_link: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Policy {
    from: Option<String>,
    to: Option<String>,
    mark: Option<u32>,
    table: Option<u32>,
    priority: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Parameters {
    mode: Option<Scalar>,
    mii_monitor_interval: Option<Scalar>,
    lacp_rate: Option<Scalar>,
    transmit_hash_policy: Option<Scalar>,
    min_links: Option<u32>,
    primary: Option<String>,
    up_delay: Option<Scalar>,
    down_delay: Option<Scalar>,
    stp: Option<bool>,
    forward_delay: Option<Scalar>,
}

pub fn links(body: Body) -> Result<Vec<Link>, Unclear> {
    for (kind, names) in [
        ("wifis", &body.wifis),
        ("modems", &body.modems),
        ("tunnels", &body.tunnels),
        ("vrfs", &body.vrfs),
        ("dummy-devices", &body.dummies),
    ] {
        if let Some(name) = names.keys().next() {
            return Err(Unclear(format!("{name}: {kind} cannot be made")));
        }
    }
    // Others refer to a card by the key that it is written under, which need not be its name.
    let mut names = BTreeMap::new();
    for (key, device) in &body.ethernets {
        names.insert(key.as_str(), name_of(key, device).map_err(Unclear::of(key))?);
    }
    let named = |key: &String| names.get(key.as_str()).unwrap_or(key).clone();
    let mut links = Vec::new();
    for (key, device) in &body.ethernets {
        links.push(card(named(key), device).map_err(Unclear::of(key))?);
    }
    for (key, device) in &body.bonds {
        let members = device.interfaces.iter().map(named).collect();
        let bond = Some(bond(&device.parameters, members, named).map_err(Unclear::of(key))?);
        links.push(Link { bond, ..made(key, device).map_err(Unclear::of(key))? });
    }
    for (key, device) in &body.bridges {
        let forward_delay = device.parameters.forward_delay.as_ref().map(Scalar::number).transpose();
        let bridge = Some(Bridge {
            members: device.interfaces.iter().map(named).collect(),
            // netplan's default is on, unlike the kernel's.
            stp: device.parameters.stp.unwrap_or(true),
            forward_delay: forward_delay.map_err(Unclear::of(key))?,
        });
        links.push(Link { bridge, ..made(key, device).map_err(Unclear::of(key))? });
    }
    for (key, device) in &body.vlans {
        let missing = |what: &str| Unclear(format!("{key}: {what} is missing"));
        let id = device.id.ok_or_else(|| missing("id"))?;
        let link = named(device.link.as_ref().ok_or_else(|| missing("link"))?);
        let vlan = Some(Vlan { id, link });
        links.push(Link { vlan, ..made(key, device).map_err(Unclear::of(key))? });
    }
    Ok(links)
}

/// What a card is called here.
fn name_of(key: &str, device: &Device) -> Result<String, Unclear> {
    let matching = device.matching.as_ref();
    if let Some(pattern) = matching.and_then(|matching| matching.name.as_deref()) {
        if pattern.contains(['*', '?', '[']) {
            return Err(Unclear(format!(
                "match: name `{pattern}` is a pattern: match the card by macaddress or driver"
            )));
        }
        return Ok(pattern.to_owned());
    }
    Ok(device.set_name.clone().unwrap_or_else(|| key.to_owned()))
}

fn card(name: String, device: &Device) -> Result<Link, Unclear> {
    let matching = device.matching.as_ref();
    let driver = matching.and_then(|matching| matching.driver.clone());
    let mac = matching.and_then(|matching| matching.macaddress.as_ref()).map(|mac| mac.to_ascii_lowercase());
    Ok(Link { mac, driver, ..described(name, device)? })
}

/// A link that does not exist before.
fn made(name: &str, device: &Device) -> Result<Link, Unclear> {
    let mac = device.macaddress.as_ref().map(|mac| mac.to_ascii_lowercase());
    Ok(Link { mac, ..described(name.to_owned(), device)? })
}

fn described(name: String, device: &Device) -> Result<Link, Unclear> {
    let mut link = Link {
        name,
        dhcp4: device.dhcp4,
        dhcp4_overrides: device.dhcp4_overrides.taken(),
        dhcp6: device.dhcp6,
        accept_ra: device.accept_ra,
        mtu: device.mtu,
        metric: device.dhcp4_overrides.route_metric,
        search: device.nameservers.search.clone(),
        optional: device.optional,
        ..Link::default()
    };
    for address in &device.addresses {
        let text = match address {
            Address::Plain(text) => Some(text),
            Address::WithOptions(options) => options.keys().next(),
        };
        let text = text.ok_or_else(|| Unclear::new("an address is empty"))?;
        if !text.contains('/') {
            return Err(Unclear(format!("address `{text}` has no prefix length")));
        }
        link.addresses.push(values::network(text, None)?);
    }
    for gateway in [&device.gateway4, &device.gateway6].into_iter().flatten() {
        link.routes.push(values::default_route(values::address(gateway)?, None));
    }
    for entry in &device.routes {
        link.routes.push(route(entry)?);
    }
    for policy in &device.routing_policy {
        link.rules.push(rule(policy)?);
    }
    for resolver in &device.nameservers.addresses {
        link.resolvers.push(values::address(resolver)?);
    }
    Ok(link)
}

fn route(entry: &RouteEntry) -> Result<Route, Unclear> {
    let via = entry.via.as_deref().map(values::address).transpose()?;
    let to = entry.to.as_deref().ok_or_else(|| Unclear::new("a route has no `to`"))?;
    let to = match (to, via) {
        ("default", Some(gateway)) => values::default_route(gateway, None).to,
        ("default", None) => return Err(Unclear::new("a default route has no `via`")),
        (to, _) => values::network(to, None)?.trunc(),
    };
    let source = entry.from.as_deref().map(values::address).transpose()?;
    Ok(Route { to, via, metric: entry.metric, table: entry.table, on_link: entry.on_link, source })
}

fn rule(policy: &Policy) -> Result<Rule, Unclear> {
    let network = |text: &String| Ok(values::network(text, None)?.trunc());
    Ok(Rule {
        from: policy.from.as_ref().map(network).transpose()?,
        to: policy.to.as_ref().map(network).transpose()?,
        mark: policy.mark,
        table: policy.table.ok_or_else(|| Unclear::new("a routing policy has no table"))?,
        priority: policy.priority,
    })
}

fn bond(
    parameters: &Parameters,
    members: Vec<String>,
    named: impl Fn(&String) -> String,
) -> Result<Bond, Unclear> {
    let mut bond = values::bond(members);
    if let Some(mode) = &parameters.mode {
        bond.mode = values::bond_mode(&mode.0)?;
    }
    if let Some(interval) = &parameters.mii_monitor_interval {
        bond.miimon = milliseconds(interval)?;
    }
    bond.lacp_rate = parameters.lacp_rate.as_ref().map(|rate| values::lacp_rate(&rate.0)).transpose()?;
    let policy = parameters.transmit_hash_policy.as_ref();
    bond.transmit_hash_policy = policy.map(|policy| values::transmit_hash_policy(&policy.0)).transpose()?;
    bond.min_links = parameters.min_links;
    bond.primary = parameters.primary.as_ref().map(named);
    bond.up_delay = parameters.up_delay.as_ref().map(milliseconds).transpose()?;
    bond.down_delay = parameters.down_delay.as_ref().map(milliseconds).transpose()?;
    Ok(bond)
}

/// Milliseconds, with or without their unit.
fn milliseconds(scalar: &Scalar) -> Result<u32, Unclear> {
    Scalar(scalar.0.trim().trim_end_matches("ms").to_owned()).number()
}
