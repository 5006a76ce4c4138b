//! Addresses of links.

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};

use super::{Netlink, family};

impl Netlink {
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
