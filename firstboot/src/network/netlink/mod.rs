//! A blocking rtnetlink socket (rtnetlink(7)) for the requests that first boot has. What is asked of the kernel is in a
//! file per object: links, addresses, routes, rules.

mod addresses;
mod changes;
mod links;
mod routes;
mod rules;

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Instant;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use rustix::event::{PollFd, PollFlags, poll};

use crate::stages::uevent::timespec;

pub use addresses::Ipv6Address;
pub use changes::{Change, Changes};
pub use links::{Link, Made, parse_mac};
pub use routes::{Route, main_table};

/// `RTNLGRP_LINK` of linux/rtnetlink.h.
const LINK_GROUP: u32 = 1;
/// `RTNLGRP_IPV6_IFADDR` of linux/rtnetlink.h.
const IPV6_ADDRESS_GROUP: u32 = 9;

/// A socket for requests.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Opens it in the network namespace of this thread.
    pub fn open() -> io::Result<Netlink> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Netlink { socket, sequence: 0 })
    }

    /// Sends one request and reads the replies to it until the acknowledgement or the end of a dump.
    fn request(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut replies = Vec::new();
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            if self.read_replies(&datagram, &mut replies)? {
                return Ok(replies);
            }
        }
    }

    /// True when the last reply has come.
    fn read_replies(&self, datagram: &[u8], replies: &mut Vec<RouteNetlinkMessage>) -> io::Result<bool> {
        let mut rest = datagram;
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            // Messages are aligned to four bytes (netlink(7)); the last may lack the padding.
            let length = (message.header.length as usize).next_multiple_of(4);
            rest = rest.get(length.max(4)..).unwrap_or_default();
            if message.header.sequence_number != self.sequence {
                continue;
            }
            match message.payload {
                NetlinkPayload::InnerMessage(reply) => replies.push(reply),
                NetlinkPayload::Done(_) => return Ok(true),
                NetlinkPayload::Error(error) if error.code.is_none() => return Ok(true),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                _ => {}
            }
        }
        Ok(false)
    }
}

/// Hears when links come, go or change.
pub struct LinkChanges {
    socket: Socket,
}

impl LinkChanges {
    /// Begins to listen.
    pub fn open() -> io::Result<LinkChanges> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.add_membership(LINK_GROUP)?;
        socket.set_non_blocking(true)?;
        Ok(LinkChanges { socket })
    }

    /// Hears when IPv6 addresses come, go or change, too.
    pub fn open_with_ipv6_addresses() -> io::Result<LinkChanges> {
        let changes = LinkChanges::open()?;
        changes.socket.add_membership(IPV6_ADDRESS_GROUP)?;
        Ok(changes)
    }

    /// Waits for a change until `end`; false if none came.
    pub fn wait(&mut self, end: Instant) -> io::Result<bool> {
        // SAFETY: the descriptor belongs to `self.socket`, which outlives this call.
        let descriptor = unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) };
        let mut ready = [PollFd::new(&descriptor, PollFlags::IN)];
        let left = end.saturating_duration_since(Instant::now());
        match poll(&mut ready, Some(&timespec(left))) {
            Ok(0) => return Ok(false),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        // What changed is asked for afterwards; an overflow is a change too.
        while self.socket.recv_from_full().is_ok() {}
        Ok(true)
    }
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
