//! Brings the machine's own links to the state that its identity asks for.

use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bootwright_model::families::PerFamily;
use ipnet::IpNet;

use super::netlink::{Link, LinkChanges, Netlink};
use crate::stages::{Advice, Problem, problem};

/// How long a link may take to appear: drivers that probe in the background.
const LINK_PATIENCE: Duration = Duration::from_secs(10);
/// How long a carrier may take: a switch negotiates a few seconds.
const CARRIER_PATIENCE: Duration = Duration::from_secs(5);

/// The wanted state of the node's link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// MAC of the link; the only Ethernet link if absent.
    pub mac: Option<String>,
    /// Address with prefix length, of each family.
    pub address: PerFamily<IpNet>,
    /// Default gateway, or one of each family.
    pub gateway: Option<PerFamily<IpAddr>>,
    /// Bytes.
    pub mtu: u16,
}

/// The link as it is now.
#[derive(Debug)]
pub struct Configured {
    /// Its name.
    pub link: String,
    /// Its MAC.
    pub mac: String,
    /// Bytes.
    pub mtu: u32,
    /// No carrier came.
    pub problems: Vec<Problem>,
}

/// Why the network could not be configured.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// A request that the kernel refused.
    #[error("{what}")]
    Request {
        /// What was asked.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// No such link.
    #[error("no link has the MAC address {mac}; this machine has {seen}")]
    NoLink {
        /// Wanted.
        mac: String,
        /// Name and MAC of each link.
        seen: String,
    },
    /// Nothing to put the address on.
    #[error("this machine has no Ethernet link: {seen}")]
    None {
        /// Name and MAC of each link.
        seen: String,
    },
    /// No MAC given, and more than one link to choose from.
    #[error("no MAC address says which link carries {address:#}; this machine has {seen}")]
    Ambiguous {
        /// The node's address.
        address: PerFamily<IpNet>,
        /// Name and MAC of each link.
        seen: String,
    },
    /// The cable is out.
    #[error("{link} ({mac}) has no carrier after {} s", CARRIER_PATIENCE.as_secs())]
    NoCarrier {
        /// Its name.
        link: String,
        /// Its MAC.
        mac: String,
    },
}

impl Advice for LinkError {
    fn advice(&self) -> String {
        match self {
            LinkError::Request { .. } => "compare address, gateway and MTU of the node with this link",
            LinkError::NoLink { .. } => {
                "correct the node's mac in the cluster file or in node.toml on the seed partition; if the card is missing from the list, add its driver to the profile's kernel.modules"
            }
            LinkError::None { .. } => "give the machine a network card, or add its driver to the profile's kernel.modules",
            LinkError::Ambiguous { .. } => "set the node's mac in the cluster file or in node.toml on the seed partition",
            LinkError::NoCarrier { .. } => "check the cable and the switch port; the address is set and works as soon as there is a carrier",
        }
        .to_owned()
    }
}

/// This machine's MAC addresses of Ethernet links.
pub fn macs() -> Result<Vec<String>, LinkError> {
    let links = open()?.links().map_err(|source| request("list the links", source))?;
    Ok(candidates(&links).filter_map(|link| link.mac.clone()).collect())
}

/// Waits until a link with one of `macs` is there, at most as long as a slow driver takes. False: none came.
pub fn wait_for_any(macs: &[String]) -> Result<bool, LinkError> {
    let mut changes = LinkChanges::open().map_err(|source| request("listen for links", source))?;
    let end = Instant::now() + LINK_PATIENCE;
    loop {
        let ours = self::macs()?;
        if macs.iter().any(|mac| ours.iter().any(|known| known.eq_ignore_ascii_case(mac))) {
            return Ok(true);
        }
        if !changes.wait(end).map_err(|source| request("listen for links", source))? {
            return Ok(false);
        }
    }
}

/// Sets loopback and the node's link up, gives it its addresses and the default routes, and waits for a
/// carrier. Doing it twice changes nothing.
pub fn configure(wanted: &Wanted) -> Result<Configured, LinkError> {
    let mut changes = LinkChanges::open().map_err(|source| request("listen for links", source))?;
    let mut netlink = open()?;
    loopback_up(&mut netlink)?;
    let link = find(&mut netlink, &mut changes, wanted)?;
    let mtu = u32::from(wanted.mtu);
    let step = |what: String| move |source| request(&what, source);
    let up = netlink.set_up(link.index, (link.mtu != mtu).then_some(mtu));
    up.map_err(step(format!("set {} up with an MTU of {mtu} bytes", link.name)))?;
    for address in wanted.address.iter() {
        let added = netlink.add_address(link.index, address);
        added.map_err(step(format!("give {} the address {address}", link.name)))?;
    }
    for gateway in wanted.gateway.iter().flat_map(PerFamily::iter) {
        let set = netlink.set_default_route(link.index, gateway);
        set.map_err(step(format!("set the default route through {gateway} on {}", link.name)))?;
    }
    let mac = link.mac.clone().unwrap_or_default();
    let problems = match wait_for_carrier(&mut netlink, &mut changes, link.index)? {
        true => Vec::new(),
        false => vec![problem(&LinkError::NoCarrier { link: link.name.clone(), mac: mac.clone() })],
    };
    Ok(Configured { link: link.name, mac, mtu, problems })
}

fn loopback_up(netlink: &mut Netlink) -> Result<(), LinkError> {
    let links = netlink.links().map_err(|source| request("list the links", source))?;
    match links.iter().find(|link| link.name == "lo") {
        Some(link) if !link.up => {
            netlink.set_up(link.index, None).map_err(|source| request("set lo up", source))
        }
        _ => Ok(()),
    }
}

fn find(netlink: &mut Netlink, changes: &mut LinkChanges, wanted: &Wanted) -> Result<Link, LinkError> {
    let end = Instant::now() + LINK_PATIENCE;
    loop {
        let links = netlink.links().map_err(|source| request("list the links", source))?;
        match choose(&links, wanted) {
            Ok(link) => return Ok(link.clone()),
            Err(error @ LinkError::Ambiguous { .. }) => return Err(error),
            Err(error) => {
                if !changes.wait(end).map_err(|source| request("listen for links", source))? {
                    return Err(error);
                }
            }
        }
    }
}

fn choose<'a>(links: &'a [Link], wanted: &Wanted) -> Result<&'a Link, LinkError> {
    let mut fitting = candidates(links).filter(|link| match (&wanted.mac, &link.mac) {
        (Some(mac), Some(known)) => known.eq_ignore_ascii_case(mac),
        (Some(_), None) => false,
        (None, _) => true,
    });
    match (fitting.next(), fitting.next(), &wanted.mac) {
        (Some(link), None, _) => Ok(link),
        // Two links with one MAC (a bond's members have that): the first, which the kernel found first.
        (Some(link), Some(_), Some(_)) => Ok(link),
        (Some(_), Some(_), None) => Err(LinkError::Ambiguous { address: wanted.address, seen: seen(links) }),
        (None, _, Some(mac)) => Err(LinkError::NoLink { mac: mac.clone(), seen: seen(links) }),
        (None, _, None) => Err(LinkError::None { seen: seen(links) }),
    }
}

/// Cards, not what Kubernetes makes of them: bridges and the ends of pods are Ethernet links too, when
/// the stage runs again on a node with pods.
fn candidates(links: &[Link]) -> impl Iterator<Item = &Link> {
    let made = ["cni", "veth", "docker", "kube-", "vxlan", "flannel", "dummy"];
    links.iter().filter(move |link| {
        link.ethernet && link.mac.is_some() && !made.iter().any(|prefix| link.name.starts_with(prefix))
    })
}

fn seen(links: &[Link]) -> String {
    let links: Vec<String> = candidates(links)
        .map(|link| format!("{} {}", link.name, link.mac.as_deref().unwrap_or("-")))
        .collect();
    if links.is_empty() { "no link but loopback".to_owned() } else { links.join(", ") }
}

fn wait_for_carrier(netlink: &mut Netlink, changes: &mut LinkChanges, index: u32) -> Result<bool, LinkError> {
    let end = Instant::now() + CARRIER_PATIENCE;
    loop {
        let links = netlink.links().map_err(|source| request("list the links", source))?;
        if links.iter().any(|link| link.index == index && link.carrier) {
            return Ok(true);
        }
        if !changes.wait(end).map_err(|source| request("listen for links", source))? {
            return Ok(false);
        }
    }
}

fn open() -> Result<Netlink, LinkError> {
    Netlink::open().map_err(|source| request("open a netlink socket", source))
}

fn request(what: &str, source: io::Error) -> LinkError {
    LinkError::Request { what: format!("the kernel did not {what}"), source }
}

#[cfg(test)]
mod tests;
