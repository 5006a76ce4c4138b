//! Links: cards, and devices that are made of other links.

use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};

use super::Netlink;

/// One network link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Index in the kernel.
    pub index: u32,
    /// `eth0`.
    pub name: String,
    /// Lower case with colons; absent for links without one.
    pub mac: Option<String>,
    /// The MAC that a card was made with: a member of a bond has the bond's as `mac`.
    pub permanent_mac: Option<String>,
    /// An Ethernet link.
    pub ethernet: bool,
    /// Set up by an administrator.
    pub up: bool,
    /// The cable is in, or what stands for it.
    pub carrier: bool,
    /// How often the carrier has come since the link was made: one that was gone between two looks is seen by it.
    pub carriers: u32,
    /// Bytes.
    pub mtu: u32,
    /// Index of the bond or bridge that it is a member of.
    pub master: Option<u32>,
    /// Index of the link that it lies on, as a VLAN does.
    pub parent: Option<u32>,
    /// What made it; absent for cards.
    pub kind: Option<InfoKind>,
    /// Options of its kind.
    pub data: Option<InfoData>,
}

impl Link {
    /// The MAC that tells a card from others.
    pub fn own_mac(&self) -> Option<&str> {
        self.permanent_mac.as_deref().or(self.mac.as_deref())
    }

    /// The MAC that it has now, as it stands in frames.
    pub fn mac_bytes(&self) -> Option<[u8; 6]> {
        parse_mac(self.mac.as_deref()?)
    }
}

/// Six pairs of hexadecimal digits with colons between, in any case.
pub fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut bytes = [0; 6];
    let mut pairs = text.split(':');
    for byte in &mut bytes {
        *byte = u8::from_str_radix(pairs.next()?, 16).ok()?;
    }
    pairs.next().is_none().then_some(bytes)
}

/// A device to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Its name.
    pub name: String,
    /// Bond, bridge or VLAN.
    pub kind: InfoKind,
    /// Its options.
    pub data: InfoData,
    /// Index of the link that it lies on.
    pub parent: Option<u32>,
    /// Its MAC; the kernel chooses if absent.
    pub mac: Option<[u8; 6]>,
}

impl Netlink {
    /// All links.
    pub fn links(&mut self) -> io::Result<Vec<Link>> {
        let replies = self.request(RouteNetlinkMessage::GetLink(LinkMessage::default()), NLM_F_DUMP)?;
        let links = replies.into_iter().filter_map(|reply| match reply {
            RouteNetlinkMessage::NewLink(message) => Some(link(&message)),
            _ => None,
        });
        Ok(links.collect())
    }

    /// Makes a device; it is down.
    pub fn make_link(&mut self, made: &Made) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(made.name.clone()));
        message.attributes.extend(made.mac.map(|mac| LinkAttribute::Address(mac.to_vec())));
        message.attributes.extend(made.parent.map(LinkAttribute::Link));
        message.attributes.push(info(made.kind.clone(), made.data.clone()));
        self.request(RouteNetlinkMessage::NewLink(message), NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL).map(drop)
    }

    /// Changes options of a device's kind.
    pub fn change_data(&mut self, index: u32, kind: InfoKind, data: InfoData) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(info(kind, data));
        // Not SetLink, which passes over the options of a kind.
        self.request(RouteNetlinkMessage::NewLink(message), NLM_F_ACK).map(drop)
    }

    /// Sets a link up or down.
    pub fn set_up(&mut self, index: u32, up: bool) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        message.header.change_mask = LinkFlags::Up;
        self.request(RouteNetlinkMessage::SetLink(message), NLM_F_ACK).map(drop)
    }

    /// Sets a link's MTU, bytes.
    pub fn set_mtu(&mut self, index: u32, bytes: u32) -> io::Result<()> {
        self.set(index, LinkAttribute::Mtu(bytes))
    }

    /// Gives a link another MAC.
    pub fn set_mac(&mut self, index: u32, mac: [u8; 6]) -> io::Result<()> {
        self.set(index, LinkAttribute::Address(mac.to_vec()))
    }

    /// Makes a link a member of a bond or bridge. A bond takes links that are down only.
    pub fn set_master(&mut self, index: u32, master: u32) -> io::Result<()> {
        self.set(index, LinkAttribute::Controller(master))
    }

    fn set(&mut self, index: u32, attribute: LinkAttribute) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(attribute);
        self.request(RouteNetlinkMessage::SetLink(message), NLM_F_ACK).map(drop)
    }
}

fn info(kind: InfoKind, data: InfoData) -> LinkAttribute {
    LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind), LinkInfo::Data(data)])
}

pub(super) fn link(message: &LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        ethernet: message.header.link_layer_type == LinkLayerType::Ether,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        ..Link::default()
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(bytes) => link.mac = mac(bytes),
            LinkAttribute::PermAddress(bytes) => link.permanent_mac = mac(bytes),
            LinkAttribute::CarrierUpCount(count) => link.carriers = *count,
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Controller(index) => link.master = Some(*index),
            LinkAttribute::Link(index) => link.parent = Some(*index),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(kind) => link.kind = Some(kind.clone()),
                        LinkInfo::Data(data) => link.data = Some(data.clone()),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    link
}

fn mac(bytes: &[u8]) -> Option<String> {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    (bytes.len() == 6).then(|| pairs.join(":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_has_six_pairs() {
        assert_eq!(parse_mac("52:54:00:00:00:0A"), Some([0x52, 0x54, 0, 0, 0, 0x0a]));
        for other in ["", "52:54:00:00:00", "52:54:00:00:00:01:02", "52-54-00-00-00-01", "52:54:00:00:00:0g"]
        {
            assert_eq!(parse_mac(other), None, "{other}");
        }
    }
}
