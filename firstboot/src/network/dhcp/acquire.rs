//! From nothing to a lease, on one link: DISCOVER, OFFER, REQUEST, ACK, and a look whether another machine has the
//! address (RFC 2131, sections 3.1 and 4.4.1).

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::lease::Lease;
use super::message::{Answer, Ask, Client};
use super::packet::{self, PacketSocket};
use super::taken::Taken;
use super::{hex, random};
use crate::network::arp::{self, Candidate};
use crate::network::lending::carrier::wait_for_carrier;
use crate::network::lending::seen::{Asked, Seen};
use crate::network::netlink::{Link, Netlink};
use crate::report::uptime_ms;

/// Pauses between two messages that nobody answers, milliseconds; the last one from then on. RFC 2131, section 4.1,
/// begins with 4 s and ends with 64: the first are shorter, as a frame that was lost should not cost a boot 4 s, and
/// so are the last, so that a server that comes is found.
const PAUSES: [u64; 6] = [500, 1_000, 2_000, 4_000, 8_000, 16_000];
/// Requests for an offered address before the search begins again.
const REQUESTS: usize = 4;
/// Pause after the second conflict or refusal in a row (RFC 2131, section 3.1.5, has it after the first: but an address
/// that is taken is usually one alone).
const LOOP_PAUSE: Duration = Duration::from_secs(10);
/// How often it is looked whether another link was faster.
const STOP_LOOK: Duration = Duration::from_millis(50);

/// An Ethernet card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// Its name in the kernel.
    pub name: String,
    /// Its index there.
    pub index: u32,
    /// Its MAC address.
    pub mac: [u8; 6],
}

impl Card {
    /// None if the link has no Ethernet address.
    pub fn of(link: &Link) -> Option<Card> {
        Some(Card { name: link.name.clone(), index: link.index, mac: link.mac_bytes()? })
    }

    /// An address on it.
    pub fn candidate(&self, address: Ipv4Addr) -> Candidate {
        Candidate { index: self.index, mac: self.mac, address }
    }

    /// `52:54:00:00:00:01`
    pub fn shown_mac(&self) -> String {
        hex(self.mac)
    }
}

impl fmt::Display for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.shown_mac())
    }
}

/// A lease, where it is from, and since when it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lent {
    /// Which card it was asked for on.
    pub card: Card,
    /// What the server said.
    pub lease: Lease,
    /// Just before the request that was acknowledged: the lease's time counts from then (RFC 2131, section 4.4.1).
    /// Milliseconds since the kernel's start, as [`uptime_ms`] has them.
    pub since_ms: u64,
}

/// One try on one link.
pub struct Search<'a> {
    /// Where.
    pub card: &'a Card,
    /// Who asks.
    pub client: &'a Client,
    /// When it is given up.
    pub end: Instant,
    /// Another link was faster.
    pub stop: &'a AtomicBool,
    /// Whether a lease can be used by this machine. The server is told (DHCPDECLINE) of one that cannot, and asked for
    /// another.
    pub usable: &'a dyn Fn(&Lease) -> Result<(), Taken>,
}

/// Where a request led to.
enum Outcome {
    Lease(Lent),
    /// Begin again; after a pause if it is not the first time.
    Again,
    /// No server answers any more.
    Silence,
}

impl Search<'_> {
    /// Looks for a lease until the end. The address is set by nobody yet, and no other machine on the link has it.
    pub fn run(&self) -> Result<Lent, Seen> {
        let mut seen = Seen::of(Asked::Server);
        match self.search(&mut seen) {
            Ok(Some(lent)) => Ok(lent),
            Ok(None) => Err(seen),
            Err(error) => {
                seen.note(format!("the link cannot be used: {error}"));
                Err(seen)
            }
        }
    }

    fn search(&self, seen: &mut Seen) -> io::Result<Option<Lent>> {
        if !wait_for_carrier(self.card.index, self.end, self.stop)? {
            return Ok(None);
        }
        seen.carrier = true;
        let socket = PacketSocket::open(self.card.index, libc::ETH_P_IP as u16)?;
        let begin = Instant::now();
        let mut setbacks = 0;
        // The same for every repetition (RFC 2131, section 4.1): an offer that took longer than a pause is one all the same.
        let mut transaction = random();
        for pause in PAUSES.into_iter().chain(std::iter::repeat(PAUSES[PAUSES.len() - 1])) {
            if self.is_over() {
                break;
            }
            let message = self.client.write(Ask::Discover, transaction, seconds_since(begin));
            seen.sent += 1;
            let offer = self.ask(&socket, &message, transaction, pause, seen, |answer| match answer {
                Answer::Offer(lease) => Some(lease),
                _ => None,
            })?;
            let Some(offer) = offer else { continue };
            match self.take(&socket, &offer, transaction, begin, seen)? {
                Outcome::Lease(lent) => return Ok(Some(lent)),
                Outcome::Silence => {}
                Outcome::Again => {
                    setbacks += 1;
                    // What is still on the way is about the address that came to nothing.
                    transaction = random();
                    if setbacks > 1 {
                        self.sleep(LOOP_PAUSE);
                    }
                }
            }
        }
        Ok(None)
    }

    fn take(
        &self,
        socket: &PacketSocket,
        offer: &Lease,
        transaction: u32,
        begin: Instant,
        seen: &mut Seen,
    ) -> io::Result<Outcome> {
        let (server, address) = (offer.server, offer.address.addr());
        for pause in &PAUSES[..REQUESTS] {
            if self.is_over() {
                break;
            }
            let message = self.client.write(Ask::Take { server, address }, transaction, seconds_since(begin));
            seen.sent += 1;
            let since_ms = uptime_ms();
            let answer = self.ask(socket, &message, transaction, *pause, seen, |answer| match answer {
                Answer::Acknowledgement(lease) if lease.server == server => Some(Ok(lease)),
                Answer::Refusal { server: other, message } if other == server => Some(Err(message)),
                _ => None,
            })?;
            match answer {
                None => {}
                Some(Ok(lease)) => {
                    let lent = Lent { card: self.card.clone(), lease, since_ms };
                    return self.probe(socket, lent, seen);
                }
                Some(Err(message)) => {
                    let why = message.map_or(String::new(), |message| format!(" ({message})"));
                    seen.note(format!("{server} offered {address} and then refused it{why}"));
                    return Ok(Outcome::Again);
                }
            }
        }
        seen.note(format!("{server} offered {address} and then said no more"));
        Ok(Outcome::Silence)
    }

    fn probe(&self, socket: &PacketSocket, lent: Lent, seen: &mut Seen) -> io::Result<Outcome> {
        let (server, address) = (lent.lease.server, lent.lease.address.addr());
        let why = match (self.usable)(&lent.lease) {
            Err(taken) => taken.to_string(),
            Ok(()) => {
                // Links of this machine answer for one another.
                let own: Vec<[u8; 6]> =
                    Netlink::open()?.links()?.iter().filter_map(Link::mac_bytes).collect();
                let other = arp::probe(&[self.card.candidate(address)], &own)?;
                let Some(other) = other.into_iter().flatten().next() else { return Ok(Outcome::Lease(lent)) };
                format!("{server} lent {address}, which {} has already", hex(other))
            }
        };
        seen.note(why);
        let message = self.client.write(Ask::Decline { server, address }, random(), 0);
        socket.broadcast(&packet::to_servers(&message))?;
        Ok(Outcome::Again)
    }

    /// Sends a message, and waits for an answer that `wanted` takes.
    fn ask<T>(
        &self,
        socket: &PacketSocket,
        message: &[u8],
        transaction: u32,
        pause_ms: u64,
        seen: &mut Seen,
        wanted: impl Fn(Answer) -> Option<T>,
    ) -> io::Result<Option<T>> {
        match socket.broadcast(&packet::to_servers(message)) {
            Ok(()) => {}
            // The carrier is gone, or the card takes no more: as if it were lost on the way.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENETDOWN | libc::ENOBUFS)) => {}
            Err(error) => return Err(error),
        }
        let end = (Instant::now() + spread(pause_ms)).min(self.end);
        while Instant::now() < end && !self.stop.load(Ordering::Relaxed) {
            let Some(packet) = socket.receive(end.min(Instant::now() + STOP_LOOK))? else { continue };
            let Some(message) = packet::from_server(&packet) else { continue };
            match self.client.read(message, transaction) {
                Ok(Some(answer)) => {
                    if let Some(value) = wanted(answer) {
                        return Ok(Some(value));
                    }
                }
                Ok(None) => {}
                Err(why) => seen.note(format!("an answer of no use: {why}")),
            }
        }
        Ok(None)
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.end || self.stop.load(Ordering::Relaxed)
    }

    fn sleep(&self, pause: Duration) {
        let end = (Instant::now() + pause).min(self.end);
        while Instant::now() < end && !self.is_over() {
            std::thread::sleep(STOP_LOOK.min(end.saturating_duration_since(Instant::now())));
        }
    }
}

/// Give or take an eighth: machines that were switched on together should not ask together.
pub(crate) fn spread(pause_ms: u64) -> Duration {
    let eighth = pause_ms / 8;
    Duration::from_millis(pause_ms - eighth + u64::from(random()) % (2 * eighth + 1))
}

/// For the field `secs`.
fn seconds_since(begin: Instant) -> u16 {
    u16::try_from(begin.elapsed().as_secs()).unwrap_or(u16::MAX)
}

/// For a person: what is on the line cannot be read, or nobody is there.
pub fn no_lease(cards: &[(Card, Seen)]) -> String {
    let lines: Vec<String> = cards.iter().map(|(card, seen)| format!("{card}: {seen}")).collect();
    lines.join("; ")
}

/// The address of a lease as it is told: `10.9.0.50/24 by 10.9.0.1 for 3600 s`.
pub fn told(lease: &Lease) -> String {
    let gateway = lease.gateway().map(|gateway: Ipv4Addr| format!(", gateway {gateway}"));
    format!("{}{} by {} {}", lease.address, gateway.unwrap_or_default(), lease.server, lease.time())
}
