//! Packets on a link that has no address yet: packet(7), and UDP in IPv4 around a message.

use std::io::{self, Read};
use std::mem;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpAddress, IpProtocol, Ipv4Packet, Ipv4Repr, UdpPacket, UdpRepr};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

use crate::stages::uevent::timespec;

/// UDP ports of servers and clients (RFC 2131, section 4.1).
pub const SERVER_PORT: u16 = 67;
pub const CLIENT_PORT: u16 = 68;
/// Everybody on the link.
pub const BROADCAST_MAC: [u8; 6] = [0xff; 6];
const TIME_TO_LIVE: u8 = 64;
/// Room for one packet: more than any frame without jumbo frames.
const PACKET_BYTES: usize = 2048;

/// One protocol on one link.
pub struct PacketSocket {
    socket: Socket,
    index: i32,
    /// `ETH_P_…`, in this machine's byte order.
    protocol: u16,
}

impl PacketSocket {
    /// Hears packets of a protocol (`ETH_P_…` of linux/if_ether.h) on the link with this index, to this machine and to
    /// everybody.
    pub fn open(index: u32, protocol: u16) -> io::Result<PacketSocket> {
        let index = i32::try_from(index).map_err(io::Error::other)?;
        // Without a protocol until it is bound: it would hear every link.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(0)))?;
        socket.set_nonblocking(true)?;
        let socket = PacketSocket { socket, index, protocol };
        socket.socket.bind(&socket.address(BROADCAST_MAC))?;
        Ok(socket)
    }

    /// Sends a packet to everybody on the link.
    pub fn broadcast(&self, packet: &[u8]) -> io::Result<()> {
        self.socket.send_to(packet, &self.address(BROADCAST_MAC)).map(drop)
    }

    /// The next packet that comes before `end`.
    pub fn receive(&self, end: Instant) -> io::Result<Option<Vec<u8>>> {
        receive(&self.socket, end)
    }

    fn address(&self, mac: [u8; 6]) -> SockAddr {
        let mut storage = SockAddrStorage::zeroed();
        // SAFETY: sockaddr_ll is one of the addresses that sockaddr_storage is made for, and valid when zeroed.
        let address: &mut libc::sockaddr_ll = unsafe { storage.view_as() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = self.protocol.to_be();
        address.sll_ifindex = self.index;
        address.sll_halen = 6;
        address.sll_addr[..6].copy_from_slice(&mac);
        // SAFETY: the storage was filled as a sockaddr_ll, whose size this is.
        unsafe { SockAddr::new(storage, mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t) }
    }
}

/// The next datagram of a socket that does not block, if one comes before `end`.
pub fn receive(mut socket: &Socket, end: Instant) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; PACKET_BYTES];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&timespec(left))) {
            Ok(0) => return Ok(None),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        match socket.read(&mut bytes) {
            Ok(length) => {
                bytes.truncate(length);
                return Ok(Some(bytes));
            }
            // The link is down for the moment: this is told once, and what comes later comes.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENETDOWN)) => {
                std::thread::sleep(Duration::from_millis(10).min(left));
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
        if left.is_zero() {
            return Ok(None);
        }
    }
}

/// A message from a client without an address to all servers.
pub fn to_servers(message: &[u8]) -> Vec<u8> {
    let (source, destination) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST);
    let udp = UdpRepr { src_port: CLIENT_PORT, dst_port: SERVER_PORT };
    let ip = Ipv4Repr {
        src_addr: source,
        dst_addr: destination,
        next_header: IpProtocol::Udp,
        payload_len: udp.header_len() + message.len(),
        hop_limit: TIME_TO_LIVE,
    };
    let checksums = ChecksumCapabilities::default();
    let mut bytes = vec![0; ip.buffer_len() + ip.payload_len];
    ip.emit(&mut Ipv4Packet::new_unchecked(&mut bytes), &checksums);
    udp.emit(
        &mut UdpPacket::new_unchecked(&mut bytes[ip.buffer_len()..]),
        &IpAddress::Ipv4(source),
        &IpAddress::Ipv4(destination),
        message.len(),
        |payload| payload.copy_from_slice(message),
        &checksums,
    );
    bytes
}

/// The message in a packet from a server to a client.
///
/// The checksum of UDP is not looked at: from a machine on the same host, or behind a card that computes it, the packet
/// comes without, and a packet socket sees it so.
pub fn from_server(packet: &[u8]) -> Option<&[u8]> {
    let ip = Ipv4Packet::new_checked(packet).ok()?;
    let is_whole = !ip.more_frags() && ip.frag_offset() == 0;
    if ip.version() != 4 || ip.next_header() != IpProtocol::Udp || !is_whole {
        return None;
    }
    let udp = UdpPacket::new_checked(ip.payload()).ok()?;
    (udp.src_port() == SERVER_PORT && udp.dst_port() == CLIENT_PORT).then(|| udp.payload())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_travels_in_udp_and_comes_out_again() {
        let mut packet = to_servers(b"hello");
        let ip = Ipv4Packet::new_checked(&packet[..]).unwrap();
        assert!(ip.verify_checksum());
        let (source, destination) = (IpAddress::Ipv4(ip.src_addr()), IpAddress::Ipv4(ip.dst_addr()));
        assert!(UdpPacket::new_checked(ip.payload()).unwrap().verify_checksum(&source, &destination));
        assert_eq!(from_server(&packet), None, "it comes from a client");
        packet[20..24].copy_from_slice(&[0, 67, 0, 68]);
        assert_eq!(from_server(&packet), Some(&b"hello"[..]));
        // A frame is padded.
        packet.extend([0; 18]);
        assert_eq!(from_server(&packet), Some(&b"hello"[..]));
    }

    proptest! {
        #[test]
        fn no_packet_is_too_odd(
            changes in proptest::collection::vec((0..40_usize, any::<u8>()), 0..6),
            length in 0..40_usize,
        ) {
            let mut packet = to_servers(b"hello, servers");
            packet[20..24].copy_from_slice(&[0, 67, 0, 68]);
            for (place, byte) in changes {
                packet[place] = byte;
            }
            packet.truncate(length.max(1));
            let _ = from_server(&packet);
        }
    }
}
