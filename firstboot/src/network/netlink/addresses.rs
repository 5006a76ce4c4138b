//! Addresses of links.

use std::io;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv6Net};
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Netlink, family};

/// An IPv6 address of a link, and what the kernel knows of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv6Address {
    /// Of the link.
    pub index: u32,
    /// With the prefix length of its network.
    pub address: Ipv6Net,
    /// It is not used yet: the kernel looks whether another machine has it.
    pub tentative: bool,
    /// Another machine has it.
    pub duplicate: bool,
    /// It is used for nothing new: its preferred time is over.
    pub deprecated: bool,
    flags: AddressFlags,
}

impl Ipv6Address {
    /// Of the link alone.
    pub fn is_link_local(&self) -> bool {
        self.address.addr().is_unicast_link_local()
    }

    /// The kernel made it from a router's advertisement; and it is no temporary one (RFC 8981), which is another every day.
    pub fn is_made(&self) -> bool {
        // `IFA_F_TEMPORARY` has the number of `IFA_F_SECONDARY`.
        self.flags.contains(AddressFlags::Managetempaddr) && !self.flags.contains(AddressFlags::Secondary)
    }
}

impl Netlink {
    /// The IPv6 addresses of all links.
    pub fn ipv6_addresses(&mut self) -> io::Result<Vec<Ipv6Address>> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet6;
        let replies = self.request(RouteNetlinkMessage::GetAddress(message), NLM_F_DUMP)?;
        let addresses = replies.into_iter().filter_map(|reply| match reply {
            RouteNetlinkMessage::NewAddress(message) => ipv6_address(&message),
            _ => None,
        });
        Ok(addresses.collect())
    }

    /// All addresses, each with the index of its link.
    pub fn addresses(&mut self) -> io::Result<Vec<(u32, IpNet)>> {
        let replies = self.request(RouteNetlinkMessage::GetAddress(AddressMessage::default()), NLM_F_DUMP)?;
        let addresses = replies.into_iter().filter_map(|reply| match reply {
            RouteNetlinkMessage::NewAddress(message) => address(&message),
            _ => None,
        });
        Ok(addresses.collect())
    }

    /// Gives a link an address; fine if it has it.
    pub fn add_address(&mut self, index: u32, address: IpNet) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = family(address.addr());
        message.header.prefix_len = address.prefix_len();
        message.header.scope = AddressScope::Universe;
        message.header.index = index;
        message.attributes.push(AddressAttribute::Local(address.addr()));
        message.attributes.push(AddressAttribute::Address(address.addr()));
        match address {
            IpNet::V4(network) if network.prefix_len() < 31 => {
                message.attributes.push(AddressAttribute::Broadcast(network.broadcast()));
            }
            IpNet::V4(_) => {}
            // Duplicate address detection would keep the address from being bound for a second.
            IpNet::V6(_) => message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad)),
        }
        self.request(RouteNetlinkMessage::NewAddress(message), NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE)
            .map(drop)
    }
}

fn ipv6_address(message: &AddressMessage) -> Option<Ipv6Address> {
    let (index, IpNet::V6(address)) = address(message)? else { return None };
    // All of them: the header has room for eight.
    let flags = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Flags(flags) => Some(*flags),
        _ => None,
    });
    let flags = flags.unwrap_or(AddressFlags::from_bits_retain(message.header.flags.bits().into()));
    Some(Ipv6Address {
        index,
        address,
        tentative: flags.contains(AddressFlags::Tentative),
        duplicate: flags.contains(AddressFlags::Dadfailed),
        deprecated: flags.contains(AddressFlags::Deprecated),
        flags,
    })
}

/// The link's own: with a peer, `Address` is the peer's.
fn address(message: &AddressMessage) -> Option<(u32, IpNet)> {
    let (mut local, mut other): (Option<IpAddr>, Option<IpAddr>) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Address(address) => other = Some(*address),
            _ => {}
        }
    }
    let address = IpNet::new(local.or(other)?, message.header.prefix_len).ok()?;
    Some((message.header.index, address))
}
