//! Tells the neighbours on a link where an address is now: what they remember leads to the machine that had it before.
//!
//! IPv4: an ARP announcement (RFC 5227, section 3). IPv6: an unsolicited neighbour advertisement with the override
//! flag (RFC 4861, section 7.2.6). `arping` would do the first alone, and is no part of an image.

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV6};

use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

/// RFC 826: hardware type Ethernet, protocol type, opcode of a request.
const ETHERNET: u16 = 1;
const REQUEST: u16 = 1;
/// RFC 4861: types of the message and of its option, and the flag O.
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;
const OVERRIDE: u8 = 0x20;
/// Neighbours take it from the link only: a router would have counted it down.
const HOP_LIMIT: u32 = 255;

/// Why the neighbours are not told.
#[derive(Debug, thiserror::Error)]
pub enum AnnounceError {
    /// A tunnel, for instance.
    #[error("the link has no Ethernet address")]
    NoEthernet,
    /// Sending.
    #[error("the announcement cannot be sent")]
    Send(#[from] io::Error),
}

/// Sends one announcement of `address` on the link with this index and Ethernet address.
pub fn announce(link: u32, mac: Option<[u8; 6]>, address: IpAddr) -> Result<(), AnnounceError> {
    let mac = mac.ok_or(AnnounceError::NoEthernet)?;
    match address {
        IpAddr::V4(address) => send_arp(link, mac, address)?,
        IpAddr::V6(address) => send_advertisement(link, mac, address)?,
    }
    Ok(())
}

fn send_arp(index: u32, mac: [u8; 6], address: Ipv4Addr) -> io::Result<()> {
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, None)?;
    socket.send_to(&arp(mac, address), &broadcast(index)?).map(drop)
}

/// Sender and target are both the address, so that whoever has an entry of it takes the sender's.
fn arp(mac: [u8; 6], address: Ipv4Addr) -> [u8; 28] {
    let mut packet = [0; 28];
    packet[0..2].copy_from_slice(&ETHERNET.to_be_bytes());
    packet[2..4].copy_from_slice(&(libc::ETH_P_IP as u16).to_be_bytes());
    packet[4..6].copy_from_slice(&[6, 4]);
    packet[6..8].copy_from_slice(&REQUEST.to_be_bytes());
    packet[8..14].copy_from_slice(&mac);
    packet[14..18].copy_from_slice(&address.octets());
    packet[24..28].copy_from_slice(&address.octets());
    packet
}

/// Everybody on a link, for packet(7).
fn broadcast(index: u32) -> io::Result<SockAddr> {
    let index = i32::try_from(index).map_err(io::Error::other)?;
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: sockaddr_ll is one of the addresses that sockaddr_storage is made for, and valid when zeroed.
    let address: &mut libc::sockaddr_ll = unsafe { storage.view_as() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ARP as u16).to_be();
    address.sll_ifindex = index;
    address.sll_halen = 6;
    address.sll_addr[..6].fill(0xff);
    // SAFETY: the storage was filled as a sockaddr_ll, whose size this is.
    Ok(unsafe { SockAddr::new(storage, mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t) })
}

fn send_advertisement(index: u32, mac: [u8; 6], address: Ipv6Addr) -> io::Result<()> {
    const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    socket.set_multicast_hops_v6(HOP_LIMIT)?;
    socket.set_multicast_if_v6(index)?;
    // From the address itself, which the kernel would not choose. It fills in the checksum (ipv6(7)).
    socket.bind(&SocketAddrV6::new(address, 0, 0, index).into())?;
    let everybody = SocketAddrV6::new(ALL_NODES, 0, 0, index);
    socket.send_to(&advertisement(mac, address), &everybody.into()).map(drop)
}

fn advertisement(mac: [u8; 6], address: Ipv6Addr) -> [u8; 32] {
    let mut packet = [0; 32];
    packet[0] = NEIGHBOUR_ADVERTISEMENT;
    packet[4] = OVERRIDE;
    packet[8..24].copy_from_slice(&address.octets());
    // The option's length counts eight bytes.
    packet[24..26].copy_from_slice(&[TARGET_LINK_LAYER_ADDRESS, 1]);
    packet[26..32].copy_from_slice(&mac);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];

    #[test]
    fn an_arp_announcement_names_the_address_twice() {
        let expected = "0001 0800 0604 0001 525400000001 0a140009 000000000000 0a140009";
        assert_eq!(hex(&arp(MAC, Ipv4Addr::new(10, 20, 0, 9))), expected.replace(' ', ""));
    }

    #[test]
    fn an_advertisement_overrides_what_is_remembered() {
        let expected = "8800 0000 20000000 fd000000000000000000000000000009 0201 525400000001";
        let address = "fd00::9".parse().unwrap();
        assert_eq!(hex(&advertisement(MAC, address)), expected.replace(' ', ""));
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
