//! Datagrams that are never fragmented.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};

/// IPv4 and UDP headers (RFC 791 without options, RFC 768).
const HEADERS_IPV4: u16 = 28;
/// IPv6 and UDP headers (RFC 8200, RFC 768).
const HEADERS_IPV6: u16 = 48;
/// Before a datagram is sent again: the first may have been lost while the neighbour's address was asked for.
const AGAIN: Duration = Duration::from_millis(800);

/// Sets the don't-fragment bit on what is sent. `PROBE` does not look at the path MTU that was learnt before: each
/// packet finds out anew. A socket of both families needs both.
pub fn keep_whole(socket: &UdpSocket) -> std::io::Result<()> {
    sockopt::set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::PROBE)?;
    if socket.local_addr()?.is_ipv6() {
        sockopt::set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::PROBE)?;
    }
    Ok(())
}

/// First byte of what is sent, and of what comes back. What comes back is not sent back again: two probes of which one is
/// told that the other has sent something would never end.
const GOING: u8 = 0;
const COMING: u8 = 1;

/// Sends each datagram back to where it came from, but for its first byte as it is.
pub fn send_back(socket: &UdpSocket) -> ! {
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        match socket.recv_from(&mut buffer) {
            Ok((length, from)) if buffer[..length].first() == Some(&GOING) => {
                buffer[0] = COMING;
                // One that cannot be sent is one that its sender waits for in vain, which is what it wants to know.
                drop(socket.send_to(&buffer[..length], from));
            }
            Ok(_) => {}
            // An ICMP error about one that was sent; more may come.
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

/// Sends an IP packet of so many bytes and waits until it comes back, as large.
pub fn there_and_back(to: SocketAddr, bytes: u16, deadline: Instant) -> Result<(), String> {
    let (any, headers): (IpAddr, u16) = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), HEADERS_IPV4),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED.into(), HEADERS_IPV6),
    };
    let Some(length) = bytes.checked_sub(headers) else {
        return Err(format!("a packet of {bytes} bytes has no room for its headers of {headers}"));
    };
    let setup = |error: std::io::Error| format!("no socket for datagrams to {to}: {error}");
    let socket = UdpSocket::bind((any, 0)).map_err(setup)?;
    socket.connect(to).map_err(setup)?;
    keep_whole(&socket).map_err(setup)?;
    let mut packet: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
    let Some(first) = packet.first_mut() else {
        return Err(format!("a packet of {bytes} bytes has nothing after its headers of {headers}"));
    };
    *first = GOING;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(format!(
                "a packet of {bytes} bytes that must not be fragmented did not come back from {to}"
            ));
        }
        socket.set_read_timeout(Some(left.min(AGAIN))).map_err(setup)?;
        if let Err(error) = socket.send(&packet) {
            refused(&error, to, bytes)?;
        }
        match socket.recv(&mut buffer) {
            Ok(received)
                if received == packet.len() && buffer[0] == COMING && buffer[1..received] == packet[1..] =>
            {
                return Ok(());
            }
            Ok(_) => {}
            Err(error) => refused(&error, to, bytes)?,
        }
    }
}

/// Whether trying again is of no use.
fn refused(error: &std::io::Error, to: SocketAddr, bytes: u16) -> Result<(), String> {
    match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::MSGSIZE) => {
            Err(format!("a packet of {bytes} bytes is too large for a link on the way to {to}"))
        }
        Some(rustix::io::Errno::CONNREFUSED) => Err(format!("nobody listens for datagrams on {to}")),
        _ => Ok(()),
    }
}
