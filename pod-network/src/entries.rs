//! The three entries that a peer takes, and how each is written to and read from the kernel.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::wire::Messages;
use super::wire::addresses::family_number;
use super::wire::attributes::{Attributes, address, half, word};
use super::wire::constants::RTNH_F_ONLINK;
use super::{Family, Mac};

/// Marks our routes (`rtm_protocol`, linux/rtnetlink.h): `proto 98` in what `ip route` shows.
///
/// Numbers above 4 are for programs to choose; 98 is in none of the lists of iproute2 (`rt_protos`), FRR, BIRD,
/// Calico or Cilium.
pub const ROUTE_PROTOCOL: u8 = 98;
/// Metrics of our routes begin here, above every default (0 for IPv4, 1024 for IPv6), so that another's route to
/// the same range comes first and is not replaced.
const FIRST_METRIC: u32 = 4096;
/// How many metrics there are; see [`metric`].
const METRICS: u32 = 4096;

/// `struct rtmsg`, `struct ndmsg`.
const ROUTE_BYTES: usize = 12;
const NEIGHBOUR_BYTES: usize = 12;

/// A link that packets leave through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outlet {
    /// The one that carries the node's address.
    Link,
    /// Our VXLAN device.
    Overlay(Family),
}

/// Indices of links.
pub type Indices = BTreeMap<Outlet, u32>;

/// The way to a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    /// Where packets leave.
    pub outlet: Outlet,
    /// Who takes them.
    pub gateway: IpAddr,
    /// Whom the other side sees when a program of this node talks to its pods.
    pub source: IpAddr,
}

impl Hop {
    /// Whether the kernel has to be told that the gateway is on the link, since no address of the link says so. A
    /// link-local gateway always is.
    fn is_onlink(self) -> bool {
        self.outlet == Outlet::Overlay(Family::V4)
    }
}

/// What the kernel has one of for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Gateway to a peer to the MAC of its VXLAN device.
    Neighbour {
        /// On which device.
        device: Family,
        /// The gateway to the peer.
        address: IpAddr,
        /// Of the peer's VXLAN device.
        mac: Mac,
    },
    /// MAC of a peer's VXLAN device to the peer.
    Forwarding {
        /// On which device.
        device: Family,
        /// Of the peer's VXLAN device.
        mac: Mac,
        /// The peer's address.
        remote: IpAddr,
    },
    /// A peer's pod CIDR to the way there.
    Route {
        /// The pod CIDR.
        destination: IpNet,
        /// See [`metric`].
        metric: u32,
        /// None: not of a shape that we make, but with our protocol.
        hop: Option<Hop>,
    },
}

/// What is done to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// There is none with its key, and if there is, it is another's.
    Add(Entry),
    /// In place of one of ours, without a moment between.
    Replace(Entry),
    /// It goes.
    Remove(Entry),
}

/// The metric of a route: the number of the range among those of its size, modulo 4096.
///
/// The kernel keeps what routes have in common (`fib_info`) in a hash table by protocol, source, device and metric,
/// but not by gateway. With one metric, all our IPv4 routes are in one chain, which is searched for every new one:
/// 5,000 of them took 290 ms of processor time, and take 20 ms with metrics that differ.
pub fn metric(destination: IpNet) -> u32 {
    let number = match destination {
        IpNet::V4(range) => {
            u128::from(u32::from(range.network())).checked_shr(32 - u32::from(range.prefix_len()))
        }
        IpNet::V6(range) => u128::from(range.network()).checked_shr(128 - u32::from(range.prefix_len())),
    };
    let low = number.unwrap_or(0) % u128::from(METRICS);
    FIRST_METRIC + u32::try_from(low).unwrap_or(0)
}

impl Change {
    /// The entry.
    pub fn entry(&self) -> &Entry {
        match self {
            Change::Add(entry) | Change::Replace(entry) | Change::Remove(entry) => entry,
        }
    }

    /// Whether the link that it names is there.
    pub fn is_possible(&self, indices: &Indices) -> bool {
        self.entry().outlet().is_none_or(|outlet| indices.contains_key(&outlet))
    }

    /// Writes the request; a link that is not there has the index 0, which the kernel refuses.
    pub fn write(&self, indices: &Indices, messages: &mut Messages) {
        let create = libc::NLM_F_CREATE as u16;
        let (remove, flags) = match self {
            Change::Add(_) => (false, create | libc::NLM_F_EXCL as u16),
            Change::Replace(_) => (false, create | libc::NLM_F_REPLACE as u16),
            Change::Remove(_) => (true, 0),
        };
        let index = self.entry().outlet().and_then(|outlet| indices.get(&outlet)).copied().unwrap_or(0);
        match *self.entry() {
            Entry::Neighbour { address, mac, .. } => {
                begin_neighbour(messages, remove, flags, family_number(address), 0, index);
                messages.address(libc::NDA_DST, address);
                messages.attribute(libc::NDA_LLADDR, &mac.0);
            }
            Entry::Forwarding { mac, remote, .. } => {
                // Of the device itself: without the flag the kernel looks for a bridge above it.
                begin_neighbour(messages, remove, flags, libc::AF_BRIDGE as u8, libc::NTF_SELF, index);
                messages.attribute(libc::NDA_LLADDR, &mac.0);
                messages.address(libc::NDA_DST, remote);
            }
            Entry::Route { destination, metric, hop } => {
                begin_route(messages, remove, flags, destination, hop);
                messages.address(libc::RTA_DST, destination.network());
                messages.number(libc::RTA_PRIORITY, metric);
                if let Some(hop) = hop {
                    messages.number(libc::RTA_OIF, index);
                    messages.address(libc::RTA_GATEWAY, hop.gateway);
                    messages.address(libc::RTA_PREFSRC, hop.source);
                }
            }
        }
    }
}

impl Entry {
    fn outlet(&self) -> Option<Outlet> {
        match self {
            Entry::Neighbour { device, .. } | Entry::Forwarding { device, .. } => {
                Some(Outlet::Overlay(*device))
            }
            Entry::Route { hop, .. } => hop.map(|hop| hop.outlet),
        }
    }
}

fn begin_neighbour(messages: &mut Messages, remove: bool, flags: u16, family: u8, of: u8, index: u32) {
    messages.begin(if remove { libc::RTM_DELNEIGH } else { libc::RTM_NEWNEIGH }, flags);
    messages.fixed(&[family, 0, 0, 0]);
    messages.fixed(&index.to_ne_bytes());
    messages.fixed(&libc::NUD_PERMANENT.to_ne_bytes());
    messages.fixed(&[of, 0]);
}

fn begin_route(messages: &mut Messages, remove: bool, flags: u16, destination: IpNet, hop: Option<Hop>) {
    messages.begin(if remove { libc::RTM_DELROUTE } else { libc::RTM_NEWROUTE }, flags);
    // To remove, any scope and type will do; protocol and metric say that it is ours.
    let (scope, kind) = match remove {
        true => (libc::RT_SCOPE_NOWHERE, 0),
        false => (libc::RT_SCOPE_UNIVERSE, libc::RTN_UNICAST),
    };
    let onlink = hop.is_some_and(Hop::is_onlink);
    let family = family_number(destination.addr());
    messages.fixed(&[family, destination.prefix_len(), 0, 0]);
    messages.fixed(&[libc::RT_TABLE_MAIN, ROUTE_PROTOCOL, scope, kind]);
    messages.fixed(&(if onlink { RTNH_F_ONLINK } else { 0 }).to_ne_bytes());
}

/// Reads a route of the main table with our protocol.
pub fn read_route(payload: &[u8], indices: &Indices) -> Option<Entry> {
    let [family, prefix_length, source_length, tos, table, protocol, _, kind, ..] = *payload else {
        return None;
    };
    // One by type of service could not be named by its key, and is not ours either.
    if protocol != ROUTE_PROTOCOL || table != libc::RT_TABLE_MAIN || tos != 0 {
        return None;
    }
    let onlink = word(payload, 8)? & RTNH_F_ONLINK != 0;
    let mut destination = unspecified(family)?;
    let (mut gateway, mut source, mut index, mut priority) = (None, None, None, 0);
    // What else a route can have, we do not give it.
    let mut strange = kind != libc::RTN_UNICAST || source_length != 0;
    for (kind, value) in Attributes::after(payload, ROUTE_BYTES) {
        match kind {
            libc::RTA_DST => destination = address(value)?,
            libc::RTA_GATEWAY => gateway = address(value),
            libc::RTA_PREFSRC => source = address(value),
            libc::RTA_OIF => index = word(value, 0),
            libc::RTA_PRIORITY => priority = word(value, 0)?,
            libc::RTA_MULTIPATH | libc::RTA_METRICS => strange = true,
            _ => {}
        }
    }
    let outlet = indices.iter().find(|(_, known)| Some(**known) == index).map(|(outlet, _)| *outlet);
    let hop = match (outlet, gateway, source) {
        (Some(outlet), Some(gateway), Some(source)) if !strange => Some(Hop { outlet, gateway, source }),
        _ => None,
    };
    let hop = hop.filter(|hop| hop.is_onlink() == onlink);
    let destination = IpNet::new(destination, prefix_length).ok()?;
    Some(Entry::Route { destination, metric: priority, hop })
}

/// Reads a permanent neighbour of a device; those of multicast groups, which the kernel makes, are not.
pub fn read_neighbour(payload: &[u8], device: Family, index: u32) -> Option<Entry> {
    let (address, mac) = permanent(payload, index)?;
    Some(Entry::Neighbour { device, address, mac })
}

/// Reads a forwarding entry of a device.
pub fn read_forwarding(payload: &[u8], device: Family, index: u32) -> Option<Entry> {
    let (remote, mac) = permanent(payload, index)?;
    Some(Entry::Forwarding { device, mac, remote })
}

fn permanent(payload: &[u8], index: u32) -> Option<(IpAddr, Mac)> {
    let state = half(payload, 8)?;
    if word(payload, 4)? != index || state & libc::NUD_PERMANENT == 0 {
        return None;
    }
    let (mut found, mut mac) = (None, None);
    for (kind, value) in Attributes::after(payload, NEIGHBOUR_BYTES) {
        match kind {
            libc::NDA_DST => found = address(value),
            libc::NDA_LLADDR => mac = value.try_into().ok().map(Mac),
            _ => {}
        }
    }
    Some((found?, mac?))
}

fn unspecified(family: u8) -> Option<IpAddr> {
    match i32::from(family) {
        libc::AF_INET => Some(IpAddr::from([0; 4])),
        libc::AF_INET6 => Some(IpAddr::from([0; 16])),
        _ => None,
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Entry::Neighbour { device, address, mac } => {
                write!(f, "neighbour {address} at {mac} on {}", super::device::name(*device))
            }
            Entry::Forwarding { device, mac, remote } => {
                write!(f, "forwarding entry {mac} to {remote} on {}", super::device::name(*device))
            }
            Entry::Route { destination, hop: Some(hop), .. } => {
                write!(f, "route to {destination} via {}", hop.gateway)
            }
            Entry::Route { destination, hop: None, .. } => write!(f, "route to {destination}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_beside_each_other_have_different_metrics() {
        let of = |text: &str| metric(text.parse().unwrap());
        assert_eq!(of("10.10.3.0/24"), 4096 + 0xa03);
        assert_eq!(of("10.10.4.0/24"), of("10.10.3.0/24") + 1);
        assert_eq!(of("fd00:10:0:3::/64"), 4099);
        assert_eq!(of("0.0.0.0/0"), 4096);
        assert_eq!(of("::/0"), 4096);
        assert_eq!(of("10.10.0.255/32"), 4096 + 0xff);
    }

    #[test]
    fn another_programs_route_is_not_read() {
        let mut messages = Messages::default();
        let hop = Hop {
            outlet: Outlet::Link,
            gateway: "10.20.0.11".parse().unwrap(),
            source: "10.20.0.10".parse().unwrap(),
        };
        let destination = "10.10.3.0/24".parse().unwrap();
        let entry = Entry::Route { destination, metric: metric(destination), hop: Some(hop) };
        let indices = Indices::from([(Outlet::Link, 2)]);
        Change::Add(entry).write(&indices, &mut messages);
        let mut payload = messages.as_bytes()[16..].to_vec();
        assert_eq!(read_route(&payload, &indices), Some(entry));
        payload[5] = 3;
        assert_eq!(read_route(&payload, &indices), None);
    }
}
