//! Who has an IPv4 address (RFC 826, RFC 5227), over packet sockets (packet(7)).
//!
//! RFC 5227 probes for four to seven seconds before an address may be used (`PROBE_WAIT`, `PROBE_MIN`, `PROBE_MAX`,
//! `ANNOUNCE_WAIT`). Its times are for machines that choose their addresses themselves, on networks of 2008; a machine
//! that has the address answers a probe within a millisecond. A node that starts seconds later at every start would be
//! a high price, so the probes are as many, and close together. What is missed then is a machine that is switched off
//! or whose switch port is still learning, and the RFC's times would miss the first too.

use std::io;
use std::mem::size_of;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use pod_network::announce::{self, AnnounceError};
use rustix::event::{PollFd, PollFlags, poll};

use crate::stages::uevent::timespec;

/// `PROBE_NUM`
const PROBES: u32 = 3;
/// Between two probes, instead of `PROBE_MIN` to `PROBE_MAX`.
const INTERVAL: Duration = Duration::from_millis(50);
/// After the last one, instead of `ANNOUNCE_WAIT`.
const LAST_WAIT: Duration = Duration::from_millis(100);

/// Bytes of an ARP packet for Ethernet and IPv4.
const LENGTH: usize = 28;
/// Hardware type Ethernet, protocol type IPv4, and the lengths of their addresses (RFC 826).
const HEADER: [u8; 6] = [0, 1, 8, 0, 6, 4];
const REQUEST: u8 = 1;

/// An address that is to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Index of the link.
    pub index: u32,
    /// MAC of the link.
    pub mac: [u8; 6],
    /// The address.
    pub address: Ipv4Addr,
}

/// The MACs of other machines that have the addresses, or are about to take them, in the candidates' order. Takes
/// 200 ms for all together. `own` are the MACs of this machine, whose links answer for one another.
///
/// # Errors
/// A socket cannot be had, or fails. A link that takes no packet at the moment, or is gone, is no error: nobody on it
/// answers.
pub fn probe(candidates: &[Candidate], own: &[[u8; 6]]) -> io::Result<Vec<Option<[u8; 6]>>> {
    let mut others = vec![None; candidates.len()];
    if candidates.is_empty() {
        return Ok(others);
    }
    let socket = Socket::open()?;
    for round in 1..=PROBES {
        for candidate in candidates {
            socket.send(candidate.index, &packet(candidate.mac, Ipv4Addr::UNSPECIFIED, candidate.address))?;
        }
        let end = Instant::now() + if round == PROBES { LAST_WAIT } else { INTERVAL };
        while let Some((index, heard)) = socket.receive(end)? {
            for (candidate, other) in candidates.iter().zip(&mut others) {
                if candidate.index == index && !own.contains(&heard.sender) && heard.takes(candidate.address)
                {
                    *other = Some(heard.sender);
                }
            }
        }
        if others.iter().all(Option::is_some) {
            break;
        }
    }
    Ok(others)
}

/// Tells the neighbours that the addresses are at these links now: those that knew another machine by them need not
/// wait until that is forgotten. Once, where RFC 5227, section 2.3, has a second one after two seconds: that is for
/// networks that lose packets, and it would be waited for.
///
/// # Errors
/// A socket cannot be had, or fails.
pub fn announce(candidates: &[Candidate]) -> io::Result<()> {
    for candidate in candidates {
        match announce::announce(candidate.index, Some(candidate.mac), candidate.address.into()) {
            Err(AnnounceError::Send(error)) if !is_lost(&error) => return Err(error),
            // A candidate has its MAC.
            Ok(()) | Err(AnnounceError::Send(_) | AnnounceError::NoEthernet) => {}
        }
    }
    Ok(())
}

/// A request for `target`.
fn packet(mac: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> [u8; LENGTH] {
    let mut packet = [0; LENGTH];
    packet[..6].copy_from_slice(&HEADER);
    packet[7] = REQUEST;
    packet[8..14].copy_from_slice(&mac);
    packet[14..18].copy_from_slice(&sender.octets());
    packet[24..28].copy_from_slice(&target.octets());
    packet
}

/// What an ARP packet says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// MAC of the machine that says it.
    pub sender: [u8; 6],
    sender_address: Ipv4Addr,
    target_address: Ipv4Addr,
    request: bool,
    /// To all machines, not to this one.
    broadcast: bool,
}

impl Heard {
    /// Nothing for what is no ARP of Ethernet and IPv4.
    fn parse(bytes: &[u8], broadcast: bool) -> Option<Heard> {
        // Short frames are padded on the wire.
        let bytes: &[u8; LENGTH] = bytes.first_chunk()?;
        if bytes[..6] != HEADER {
            return None;
        }
        let address = |at: usize| Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]);
        let mut sender = [0; 6];
        sender.copy_from_slice(&bytes[8..14]);
        Some(Heard {
            sender,
            sender_address: address(14),
            target_address: address(24),
            request: bytes[6..8] == [0, REQUEST],
            broadcast,
        })
    }

    /// RFC 5227, section 2.1.1: the sender has the address, or probes for it at this moment. Some switches ask each
    /// machine for its address with what looks like a probe, but to that machine alone: that is none.
    fn takes(&self, address: Ipv4Addr) -> bool {
        let probes = self.request && self.broadcast && self.sender_address.is_unspecified();
        self.has(address) || probes && self.target_address == address
    }

    /// RFC 5227, section 2.4: the sender says that it has the address.
    pub fn has(&self, address: Ipv4Addr) -> bool {
        self.sender_address == address
    }
}

/// A socket for ARP on all links. What comes in a VLAN is heard of the VLAN's device, and of a bond or bridge, not of the
/// link that it came through: the kernel hands a packet to sockets of all links once it knows whose it is.
pub struct Socket(OwnedFd);

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Socket {
    /// Begins to listen.
    pub fn open() -> io::Result<Socket> {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no memory is handed over; the descriptor is new and nobody else's.
        let socket = unsafe {
            let number = libc::socket(libc::AF_PACKET, kind, i32::from(arp_protocol()));
            if number < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(number)
        };
        Ok(Socket(socket))
    }

    /// To all machines on a link. What the link does not take is as if it were lost on the way: one that was set down or
    /// unplugged, or is full, is no trouble of the others.
    fn send(&self, index: u32, packet: &[u8]) -> io::Result<()> {
        let mut to = link_address();
        to.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
        to.sll_halen = 6;
        to.sll_addr[..6].fill(0xff);
        // SAFETY: both pointers are to memory of the given lengths that outlives the call.
        let sent = unsafe {
            libc::sendto(
                self.0.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                0,
                (&raw const to).cast(),
                ADDRESS_LENGTH,
            )
        };
        if sent >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if is_lost(&error) { Ok(()) } else { Err(error) }
    }

    /// The next ARP packet of another machine until `end`, and the index of the link that it came from.
    fn receive(&self, end: Instant) -> io::Result<Option<(u32, Heard)>> {
        loop {
            let mut ready = [PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN)];
            let left = end.saturating_duration_since(Instant::now());
            match poll(&mut ready, Some(&timespec(left))) {
                Ok(0) => return Ok(None),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            // On a busy network packets may come faster than they are read.
            if left.is_zero() {
                return Ok(None);
            }
            if let Some((index, heard)) = self.read()? {
                return Ok(Some((index, heard)));
            }
        }
    }

    /// What has come, and the index of the link that it came from, without waiting. Nothing if there is no packet, or
    /// none that says anything.
    pub fn read(&self) -> io::Result<Option<(u32, Heard)>> {
        let (mut bytes, mut from, mut from_length) = ([0_u8; 64], link_address(), ADDRESS_LENGTH);
        // SAFETY: all pointers are to memory of the given lengths that outlives the call.
        let length = unsafe {
            libc::recvfrom(
                self.0.as_raw_fd(),
                bytes.as_mut_ptr().cast(),
                bytes.len(),
                0,
                (&raw mut from).cast(),
                &raw mut from_length,
            )
        };
        let Ok(length) = usize::try_from(length) else {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                // A link that was set down while it was listened to.
                _ if error.raw_os_error() == Some(libc::ENETDOWN) => Ok(None),
                _ => Err(error),
            };
        };
        // What this machine sent; and what is for another, as of a VLAN that there is no device of.
        if matches!(from.sll_pkttype, libc::PACKET_OUTGOING | libc::PACKET_OTHERHOST) {
            return Ok(None);
        }
        let broadcast = from.sll_pkttype == libc::PACKET_BROADCAST;
        let heard = bytes.get(..length).and_then(|bytes| Heard::parse(bytes, broadcast));
        Ok(heard.zip(u32::try_from(from.sll_ifindex).ok()).map(|(heard, index)| (index, heard)))
    }
}

/// Whether a link does not take a packet at the moment, or is gone.
fn is_lost(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENETDOWN | libc::ENOBUFS | libc::ENXIO | libc::ENODEV))
}

#[expect(clippy::cast_possible_truncation, reason = "20 bytes")]
const ADDRESS_LENGTH: libc::socklen_t = size_of::<libc::sockaddr_ll>() as libc::socklen_t;

/// The protocol of linux/if_ether.h, in network order as packet(7) wants it.
fn arp_protocol() -> u16 {
    0x0806_u16.to_be()
}

fn link_address() -> libc::sockaddr_ll {
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET.cast_unsigned() as u16,
        sll_protocol: arp_protocol(),
        sll_ifindex: 0,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OTHER: [u8; 6] = [0x52, 0x54, 0, 0, 0, 9];
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 10);

    fn heard(sender: Ipv4Addr, target: Ipv4Addr, broadcast: bool) -> Heard {
        Heard::parse(&packet(OTHER, sender, target), broadcast).unwrap()
    }

    #[test]
    fn who_has_the_address_or_wants_it_takes_it() {
        let router = Ipv4Addr::new(10, 20, 0, 1);
        assert!(heard(ADDRESS, router, true).takes(ADDRESS));
        assert!(heard(Ipv4Addr::UNSPECIFIED, ADDRESS, true).takes(ADDRESS));
        // A switch that asks this machine alone, and a router that looks for it.
        assert!(!heard(Ipv4Addr::UNSPECIFIED, ADDRESS, false).takes(ADDRESS));
        assert!(!heard(router, ADDRESS, true).takes(ADDRESS));
    }

    #[test]
    fn other_protocols_say_nothing() {
        let mut bytes = packet(OTHER, ADDRESS, ADDRESS);
        assert!(Heard::parse(&bytes[..27], true).is_none());
        bytes[0] = 6;
        assert!(Heard::parse(&bytes, true).is_none());
    }

    proptest! {
        #[test]
        fn no_packet_is_too_odd(bytes in proptest::collection::vec(any::<u8>(), 0..64), broadcast: bool) {
            if let Some(heard) = Heard::parse(&bytes, broadcast) {
                let _ = heard.takes(ADDRESS);
            }
        }
    }
}
