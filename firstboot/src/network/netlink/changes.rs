//! What changes in the kernel's network, as it happens (rtnetlink(7)).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use super::links::{Link, link};

/// Groups of linux/rtnetlink.h: `RTNLGRP_LINK`, and addresses, routes and rules of IPv4 and IPv6.
const GROUPS: [u32; 7] = [1, 5, 7, 8, 9, 11, 19];
/// Datagrams that are read in one go: whoever reads has other work too.
const MOST_DATAGRAMS: usize = 1000;

/// One thing that was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A link came, went or is otherwise than it was.
    Link(Box<Link>),
    /// An address came or went on the link with this index.
    Address(u32),
    /// A route through the link with this index, if it says one, came or went.
    Route(Option<u32>),
    /// A rule, or what is not understood.
    Other,
    /// There were more than the socket has room for: look at everything.
    Overflow,
}

/// A socket that hears every change from the moment it was opened.
pub struct Changes {
    socket: Socket,
}

impl Changes {
    /// Begins to listen in the network namespace of this thread.
    pub fn open() -> io::Result<Changes> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        for group in GROUPS {
            socket.add_membership(group)?;
        }
        socket.set_non_blocking(true)?;
        Ok(Changes { socket })
    }

    /// What was heard since the last call, without waiting; the rest at the next one if it is a great deal.
    pub fn drain(&mut self) -> io::Result<Vec<Change>> {
        let mut changes = Vec::new();
        for _ in 0..MOST_DATAGRAMS {
            match self.socket.recv_from_full() {
                // Port 0 is the kernel; any process could send from another.
                Ok((datagram, sender)) if sender.port_number() == 0 => parse(&datagram, &mut changes),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => changes.push(Change::Overflow),
                Err(error) => return Err(error),
            }
        }
        Ok(changes)
    }
}

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor belongs to `self.socket`, which outlives what is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) }
    }
}

fn parse(datagram: &[u8], changes: &mut Vec<Change>) {
    let mut rest = datagram;
    while !rest.is_empty() {
        let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest) else {
            // A later kernel may say what the crate does not know.
            changes.push(Change::Other);
            return;
        };
        // Aligned to four bytes (netlink(7)), as in replies.
        let length = (message.header.length as usize).next_multiple_of(4);
        rest = rest.get(length.max(4)..).unwrap_or_default();
        let NetlinkPayload::InnerMessage(message) = message.payload else { continue };
        changes.push(change(&message));
    }
}

fn change(message: &RouteNetlinkMessage) -> Change {
    use RouteNetlinkMessage::{DelAddress, DelLink, DelRoute, NewAddress, NewLink, NewRoute};
    match message {
        NewLink(message) | DelLink(message) => Change::Link(Box::new(link(message))),
        NewAddress(message) | DelAddress(message) => Change::Address(message.header.index),
        NewRoute(message) | DelRoute(message) => Change::Route(index(message)),
        _ => Change::Other,
    }
}

/// Not of a route over several links.
fn index(message: &RouteMessage) -> Option<u32> {
    message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}
