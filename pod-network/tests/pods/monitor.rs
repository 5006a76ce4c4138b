//! What changes in a namespace while something is done there: the kernel's own notifications.

use std::os::fd::AsRawFd;

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;

use network_namespaces::Namespace;

/// Groups of linux/rtnetlink.h: links, neighbours, addresses, routes.
const GROUPS: [u32; 6] = [1, 3, 5, 7, 9, 11];

/// A notification that concerns us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    Link,
    LinkGone,
    Address,
    AddressGone,
    Neighbour,
    NeighbourGone,
    Route,
    RouteGone,
}

/// Listens.
pub struct Monitor(Socket);

impl Monitor {
    pub fn start(net: &Namespace) -> Monitor {
        net.enter(|| {
            let mut socket = Socket::new(NETLINK_ROUTE).unwrap();
            socket.bind_auto().unwrap();
            for group in GROUPS {
                socket.add_membership(group).unwrap();
            }
            socket.set_non_blocking(true).unwrap();
            Monitor(socket)
        })
    }

    /// All that happened until now. The kernel tells before it answers who asked for the change.
    pub fn stop(self) -> Vec<Seen> {
        let mut seen = Vec::new();
        loop {
            match self.0.recv_from_full() {
                Ok((bytes, _)) => seen.extend(messages(&bytes)),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return seen,
                Err(error) => panic!("descriptor {}: {error}", self.0.as_raw_fd()),
            }
        }
    }
}

fn messages(bytes: &[u8]) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut rest = bytes;
    while rest.len() >= 16 {
        let length = u32::from_ne_bytes(rest[..4].try_into().unwrap()) as usize;
        let kind = u16::from_ne_bytes(rest[4..6].try_into().unwrap());
        // Of neighbours only permanent ones: the others come and go by themselves.
        let permanent = rest.get(24..26).is_some_and(|state| state[0] & 0x80 != 0);
        // Of routes only ours: the kernel makes some for addresses.
        let ours = rest.get(21) == Some(&98);
        // Not of link-local addresses, which the kernel makes and checks for a second.
        let global = rest.get(19) == Some(&0);
        seen.extend(match kind {
            16 => Some(Seen::Link),
            17 => Some(Seen::LinkGone),
            20 if global => Some(Seen::Address),
            21 if global => Some(Seen::AddressGone),
            24 if ours => Some(Seen::Route),
            25 if ours => Some(Seen::RouteGone),
            28 if permanent => Some(Seen::Neighbour),
            29 if permanent => Some(Seen::NeighbourGone),
            _ => None,
        });
        rest = rest.get(length.next_multiple_of(4).max(16)..).unwrap_or_default();
    }
    seen
}
