//! DHCP servers as dnsmasq is none: one that acknowledges another address than the one that a machine wants to keep, which
//! dnsmasq refuses (DHCPNAK), as RFC 2131 has it; and one that is late.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

/// What messages are (option 53, RFC 2132, section 9.6).
pub const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
pub const REQUEST: u8 = 3;
pub const DECLINE: u8 = 4;
const ACKNOWLEDGEMENT: u8 = 5;
/// Where the options of a message begin.
const OPTIONS: usize = 240;
/// Longer than any test.
const PATIENCE: Duration = Duration::from_secs(60);

/// Its socket on `srv`, in the namespace of this thread.
pub fn socket() -> UdpSocket {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_broadcast(true).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    socket.bind_device(Some("srv".as_bytes())).unwrap();
    socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 67).into()).unwrap();
    socket.into()
}

/// Lends the first of `addresses` to everybody, and the next one once it is declined, until `stop`. What it was told.
pub fn serve(socket: &UdpSocket, addresses: &[Ipv4Addr], stop: &AtomicBool) -> Vec<u8> {
    let (mut heard, mut place) = (Vec::new(), 0);
    while let Some(message) = next(socket, stop) {
        let kind = kind(&message);
        heard.push(kind);
        match kind {
            DISCOVER => say(socket, &message, OFFER, addresses[place]),
            REQUEST => say(socket, &message, ACKNOWLEDGEMENT, addresses[place]),
            _ => place += 1,
        }
    }
    heard
}

/// Lends an address, but offers it to who asked only when the next question is there. What it was told.
pub fn serve_late(socket: &UdpSocket, address: Ipv4Addr, stop: &AtomicBool) -> Vec<u8> {
    let mut asked: Vec<Vec<u8>> = Vec::new();
    let mut heard = Vec::new();
    while let Some(message) = next(socket, stop) {
        let kind = kind(&message);
        heard.push(kind);
        match kind {
            DISCOVER => {
                if let Some(earlier) = asked.last() {
                    say(socket, earlier, OFFER, address);
                }
                asked.push(message);
            }
            _ => say(socket, &message, ACKNOWLEDGEMENT, address),
        }
    }
    heard
}

/// The next message, until `stop`.
fn next(socket: &UdpSocket, stop: &AtomicBool) -> Option<Vec<u8>> {
    let mut message = [0; 1500];
    let begin = Instant::now();
    while !stop.load(Ordering::Relaxed) && begin.elapsed() < PATIENCE {
        match socket.recv(&mut message) {
            Ok(length) => return Some(message[..length].to_vec()),
            // Nothing came for a while.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
    }
    None
}

fn say(socket: &UdpSocket, request: &[u8], kind: u8, address: Ipv4Addr) {
    let everybody = SocketAddrV4::new(Ipv4Addr::BROADCAST, 68);
    socket.send_to(&written(request, kind, address), everybody).unwrap();
}

/// The client writes it first.
fn kind(message: &[u8]) -> u8 {
    assert_eq!(message[OPTIONS..OPTIONS + 2], [53, 1]);
    message[OPTIONS + 2]
}

/// Of 10.9.0.1, for two minutes.
fn written(request: &[u8], kind: u8, address: Ipv4Addr) -> Vec<u8> {
    let mut bytes = request[..OPTIONS].to_vec();
    // BOOTREPLY, and `yiaddr`.
    bytes[0] = 2;
    bytes[16..20].copy_from_slice(&address.octets());
    bytes.extend([53, 1, kind, 54, 4, 10, 9, 0, 1, 1, 4, 255, 255, 255, 0, 51, 4, 0, 0, 0, 120, 255]);
    bytes
}
