//! A lease that is held: how long nothing is to be done about it, and asking for more time (RFC 2131, sections 3.7 and 4.4.5).

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net};
use socket2::{Domain, Protocol, Socket, Type};

use super::acquire::Card;
use super::message::{Answer, Ask, Client};
use super::packet::{self, CLIENT_PORT, SERVER_PORT};
use super::random;
use crate::network::lending::carrier::{Rest, Rested};
use crate::network::netlink::{LinkChanges, Netlink};

/// Longest time between two looks at the clock.
const LONGEST_REST: Duration = Duration::from_secs(3600);

/// Waits until a time, milliseconds since the kernel's start, or for ever; or until something becomes of the card, which
/// `find` finds.
pub(super) fn rest(
    card: &Card,
    until_ms: Option<u64>,
    find: &mut dyn FnMut() -> Option<Card>,
) -> io::Result<Rested> {
    // An address that somebody takes away is found at the next renewal.
    let rest =
        Rest { card, changes: LinkChanges::open()?, look: LONGEST_REST, find, has_address: &|| Ok(true) };
    rest.until(until_ms, &mut None)
}

/// Whether the card has the address.
pub(super) fn has(card: &Card, address: Ipv4Net) -> io::Result<bool> {
    Ok(Netlink::open()?.addresses()?.contains(&(card.index, IpNet::V4(address))))
}

/// One request for an address that the card has, and the answer to it if one comes before the pause is over.
pub(super) fn ask(
    card: &Card,
    client: &Client,
    address: Ipv4Addr,
    server: Ipv4Addr,
    pause_ms: u64,
) -> io::Result<Option<Answer>> {
    let end = Instant::now() + Duration::from_millis(pause_ms);
    let socket = socket(card)?;
    let transaction = random();
    let message = client.write(Ask::Keep { address }, transaction, 0);
    let sent = socket.send_to(&message, &SocketAddrV4::new(server, SERVER_PORT).into());
    if let Err(error) = sent {
        // The cable is out, or no way leads there: there is time to come back to it.
        eprintln!("dhcp: {server} cannot be asked: {error}");
    }
    while Instant::now() < end {
        let Some(bytes) = packet::receive(&socket, end)? else { continue };
        match client.read(&bytes, transaction) {
            Ok(Some(Answer::Offer(_)) | None) => {}
            Ok(answer) => return Ok(answer),
            Err(why) => eprintln!("dhcp: an answer of no use: {why}"),
        }
    }
    Ok(None)
}

/// On the link of the lease, whose address the kernel sends from. Not bound to that: refusals go to everybody.
fn socket(card: &Card) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_broadcast(true)?;
    socket.set_nonblocking(true)?;
    socket.bind_device(Some(card.name.as_bytes()))?;
    socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT).into())?;
    Ok(socket)
}
