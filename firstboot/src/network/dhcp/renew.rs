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
use crate::network::netlink::{LinkChanges, Netlink};
use crate::report::uptime_ms;

/// Longest time between two looks at the clock.
const LONGEST_REST: Duration = Duration::from_secs(3600);

/// What ended a rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rested {
    /// Its time is over.
    Time,
    /// The cable is in again, and may lead to another network.
    Carrier,
    /// The card was gone and is back, or its driver began anew: what it had is gone.
    Another,
}

/// Waits until a time, milliseconds since the kernel's start, or for ever; or until something becomes of the card, which
/// `find` finds, whatever it is called by now.
pub(super) fn rest(
    card: &Card,
    until_ms: Option<u64>,
    find: &mut dyn FnMut() -> Option<Card>,
) -> io::Result<Rested> {
    let mut changes = LinkChanges::open()?;
    let mut netlink = Netlink::open()?;
    let (mut had_carrier, mut carriers) = (true, None);
    loop {
        let now = uptime_ms();
        if until_ms.is_some_and(|until| now >= until) {
            return Ok(Rested::Time);
        }
        // Without the card there is nothing to do until it is back, or time is over.
        if find().is_some_and(|found| found.index != card.index) {
            return Ok(Rested::Another);
        }
        if let Some(link) = netlink.links()?.iter().find(|link| link.index == card.index) {
            // It may have been gone and back between two looks.
            let is_new = carriers.replace(link.carriers).is_some_and(|before| before != link.carriers);
            let has_carrier = link.up && link.carrier;
            if has_carrier && (!had_carrier || is_new) {
                return Ok(Rested::Carrier);
            }
            had_carrier = has_carrier;
        }
        let left = until_ms.map_or(LONGEST_REST, |until| Duration::from_millis(until - now));
        changes.wait(Instant::now() + left.min(LONGEST_REST))?;
    }
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
