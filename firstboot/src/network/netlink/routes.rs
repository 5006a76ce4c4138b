//! Routes to a next hop or to a link.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Netlink, family};

/// The table that is looked into if no rule says another.
pub fn main_table() -> u32 {
    u32::from(RouteHeader::RT_TABLE_MAIN)
}

/// A route, as the kernel has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Index of the link.
    pub index: u32,
    /// Where to.
    pub to: IpNet,
    /// Next hop.
    pub via: Option<IpAddr>,
    /// The smallest counts.
    pub metric: u32,
    /// Routing table.
    pub table: u32,
    /// The next hop is a neighbour although no address says so.
    pub on_link: bool,
    /// Address that packets have as their source.
    pub source: Option<IpAddr>,
}

impl Netlink {
    /// All unicast routes of both families and all tables.
    pub fn routes(&mut self) -> io::Result<Vec<Route>> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            let replies = self.request(RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP)?;
            routes.extend(replies.into_iter().filter_map(|reply| match reply {
                RouteNetlinkMessage::NewRoute(message) => route(&message),
                _ => None,
            }));
        }
        Ok(routes)
    }

    /// Sets a route, instead of one to the same place with the same metric in the same table.
    pub fn set_route(&mut self, route: &Route) -> io::Result<()> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(route.to.addr());
        message.header.destination_prefix_length = route.to.prefix_len();
        message.header.protocol = RouteProtocol::Static;
        message.header.scope = match (route.via, route.to) {
            (None, IpNet::V4(_)) => RouteScope::Link,
            _ => RouteScope::Universe,
        };
        message.header.kind = RouteType::Unicast;
        match u8::try_from(route.table) {
            Ok(table) => message.header.table = table,
            Err(_) => message.attributes.push(RouteAttribute::Table(route.table)),
        }
        if route.on_link {
            message.header.flags = RouteFlags::Onlink;
        }
        if route.to.prefix_len() > 0 {
            message.attributes.push(RouteAttribute::Destination(RouteAddress::from(route.to.network())));
        }
        message.attributes.extend(route.via.map(|via| RouteAttribute::Gateway(RouteAddress::from(via))));
        message
            .attributes
            .extend(route.source.map(|from| RouteAttribute::PrefSource(RouteAddress::from(from))));
        message.attributes.push(RouteAttribute::Priority(route.metric));
        message.attributes.push(RouteAttribute::Oif(route.index));
        self.request(RouteNetlinkMessage::NewRoute(message), NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE)
            .map(drop)
    }
}

fn route(message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    if header.kind != RouteType::Unicast || header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let mut to = match header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let (mut index, mut via, mut source) = (None, None, None);
    let (mut metric, mut table) = (0, u32::from(header.table));
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => to = ip(address)?,
            RouteAttribute::Gateway(address) => via = ip(address),
            RouteAttribute::PrefSource(address) => source = ip(address),
            RouteAttribute::Priority(value) => metric = *value,
            RouteAttribute::Table(value) => table = *value,
            RouteAttribute::Oif(value) => index = Some(*value),
            _ => {}
        }
    }
    let to = IpNet::new(to, header.destination_prefix_length).ok()?;
    let on_link = header.flags.contains(RouteFlags::Onlink);
    Some(Route { index: index?, to, via, metric, table, on_link, source })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}
