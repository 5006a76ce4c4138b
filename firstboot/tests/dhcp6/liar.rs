//! Router advertisements as radvd sends none.

use std::net::{Ipv6Addr, SocketAddrV6};

use network_namespaces::Namespace;
use socket2::{Domain, Protocol, Socket, Type};

use crate::world::until;

/// Sends one to all machines on `srv`, with a hop limit: flags M and O, lifetime of the router in seconds, options.
pub fn advertise(from: &Namespace, hop_limit: u32, flags: u8, seconds: u16, options: &[Vec<u8>]) {
    from.enter(|| {
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6)).unwrap();
        socket.bind_device(Some(b"srv")).unwrap();
        socket.set_multicast_hops_v6(hop_limit).unwrap();
        let [high, low] = seconds.to_be_bytes();
        let head = [134, 0, 0, 0, 64, flags, high, low, 0, 0, 0, 0, 0, 0, 0, 0];
        let message = [&head[..], &options.concat()].concat();
        let all = SocketAddrV6::new("ff02::1".parse().unwrap(), 0, 0, index());
        // The link may have no carrier yet, and no address to send from.
        until("it is sent", || socket.send_to(&message, &all.into()).is_ok());
    });
}

/// A network of /64 to make addresses of, on the link (RFC 4861, section 4.6.2).
pub fn prefix(network: &str, valid: u32, preferred: u32) -> Vec<u8> {
    let network: Ipv6Addr = network.parse().unwrap();
    let times = [valid.to_be_bytes(), preferred.to_be_bytes(), [0; 4]].concat();
    [&[3, 4, 64, 0xc0][..], &times, &network.octets()].concat()
}

/// Of `srv`, in the namespace of this thread.
fn index() -> u32 {
    // SAFETY: the name ends with a zero, and nothing else is read.
    unsafe { libc::if_nametoindex(c"srv".as_ptr()) }
}
