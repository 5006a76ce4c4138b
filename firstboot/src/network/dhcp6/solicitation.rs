//! The socket that routers are asked with (RFC 4861, section 4.1), and that hears them.

use std::io;
use std::mem;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use socket2::{Domain, Protocol, Socket, Type};

use super::advertisement::ADVERTISEMENT;
use crate::network::dhcp::acquire::Card;
use crate::stages::uevent::timespec;

/// `ff02::2`
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// `type` of ICMPv6, and of its option with the sender's MAC address.
const SOLICITATION: u8 = 133;
const SOURCE_LINK_LAYER: u8 = 1;
/// `ICMPV6_FILTER` of linux/icmpv6.h: a bit for each type; those that are set are not heard (RFC 3542, section 3.2).
const ICMPV6_FILTER: libc::c_int = 1;
/// Longest message that is taken, bytes: one of a link with large frames.
const LONGEST: usize = 9216;

/// A message, from whom, and what is left of its hop limit.
pub struct Heard {
    pub bytes: Vec<u8>,
    pub from: Ipv6Addr,
    pub hop_limit: u8,
}

/// Asks and hears on one card.
pub struct RouterSocket {
    socket: Socket,
    index: u32,
    mac: [u8; 6],
}

impl RouterSocket {
    /// Hears from now on.
    pub fn open(card: &Card) -> io::Result<RouterSocket> {
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
        hear_advertisements_alone(&socket)?;
        socket.set_nonblocking(true)?;
        socket.bind_device(Some(card.name.as_bytes()))?;
        socket.set_recv_hoplimit_v6(true)?;
        socket.set_multicast_if_v6(card.index)?;
        // Anything less is passed over by routers.
        socket.set_multicast_hops_v6(255)?;
        Ok(RouterSocket { socket, index: card.index, mac: card.mac })
    }

    /// Asks all routers of the link. The kernel sends from the link-local address, and adds the checksum.
    pub fn solicit(&self) -> io::Result<()> {
        let head = [SOLICITATION, 0, 0, 0, 0, 0, 0, 0, SOURCE_LINK_LAYER, 1];
        let message = [&head[..], &self.mac].concat();
        self.socket.send_to(&message, &SocketAddrV6::new(ALL_ROUTERS, 0, 0, self.index).into()).map(drop)
    }

    /// The next message that comes before `end`.
    pub fn receive(&self, end: Instant) -> io::Result<Option<Heard>> {
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&timespec(left))) {
                Ok(0) => return Ok(None),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            match read(&self.socket) {
                Ok(heard) => return Ok(Some(heard)),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::NetworkDown
                    ) => {}
                Err(error) => return Err(error),
            }
            if left.is_zero() {
                return Ok(None);
            }
        }
    }
}

fn hear_advertisements_alone(socket: &Socket) -> io::Result<()> {
    let mut filter = [u32::MAX; 8];
    filter[usize::from(ADVERTISEMENT) / 32] &= !(1 << (ADVERTISEMENT % 32));
    // SAFETY: the kernel reads `struct icmp6_filter`, eight words, and keeps no pointer.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_ICMPV6,
            ICMPV6_FILTER,
            filter.as_ptr().cast(),
            mem::size_of_val(&filter) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The standard library has no way to the hop limit. 0 stands for one that the kernel does not tell.
fn read(socket: &Socket) -> io::Result<Heard> {
    let mut bytes = vec![0_u8; LONGEST];
    // Aligned as the kernel's headers of control messages are; there is one with a number.
    let mut control = [0_u64; 8];
    // SAFETY: both are plain C structures that are valid when zeroed.
    let (mut from, mut header): (libc::sockaddr_in6, libc::msghdr) = unsafe { mem::zeroed() };
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    header.msg_name = (&raw mut from).cast();
    header.msg_namelen = mem::size_of_val(&from) as libc::socklen_t;
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    // Its type is another in another C library.
    header.msg_controllen = mem::size_of_val(&control) as _;
    // SAFETY: every pointer in the header is to a local of the length that stands beside it.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, 0) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    bytes.truncate(length);
    let mut hop_limit = 0;
    // SAFETY: the kernel has filled the header in; the macros keep within its control messages.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    while !message.is_null() {
        // SAFETY: not null, so that it is a whole header within `control`.
        let (level, kind) = unsafe { ((*message).cmsg_level, (*message).cmsg_type) };
        if (level, kind) == (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) {
            // SAFETY: this control message has an int (RFC 3542, section 6.3), which may lie anywhere.
            let value = unsafe { libc::CMSG_DATA(message).cast::<libc::c_int>().read_unaligned() };
            hop_limit = u8::try_from(value).unwrap_or(0);
        }
        // SAFETY: as above.
        message = unsafe { libc::CMSG_NXTHDR(&raw const header, message) };
    }
    Ok(Heard { bytes, from: Ipv6Addr::from(from.sin6_addr.s6_addr), hop_limit })
}
