//! Messages sent again and again until somebody answers (RFC 8415, section 15), and what a lease takes of them.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use socket2::{Domain, Protocol, Socket, Type};

use super::lease::{Lease, Told};
use super::message::{Answer, Ask, Client, LARGEST_MESSAGE};
use crate::network::dhcp::acquire::{Card, spread};
use crate::network::dhcp::random;
use crate::report::uptime_ms;
use crate::stages::uevent::timespec;

/// `ff02::1:2`, all servers and relays of the link.
const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
const CLIENT_PORT: u16 = 546;
const SERVER_PORT: u16 = 547;

/// Pauses between two messages that nobody answers, milliseconds (section 7.6). Those of SOLICIT go on for ever, and end at
/// 16 s and not at an hour, so that a server that comes is found.
const SOLICIT_PAUSES: [u64; 5] = [1_000, 2_000, 4_000, 8_000, 16_000];
const REQUEST_PAUSES: [u64; 4] = [1_000, 2_000, 4_000, 8_000];
const DECLINE_PAUSES: [u64; 3] = [1_000, 2_000, 4_000];
const INFORMATION_PAUSES: [u64; 2] = [1_000, 2_000];
/// How long another server may take to advertise that it would rather be chosen. The RFC has a second for it in every
/// boot; servers that are asked at once answer at once.
const BETTER: Duration = Duration::from_millis(200);
/// Pause after the second conflict or refusal in a row.
const LOOP_PAUSE: Duration = Duration::from_secs(10);
/// How often it is looked whether another link was faster.
const STOP_LOOK: Duration = Duration::from_millis(50);

/// What a caller makes of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// It is of no use.
    No,
    /// It will do, if nobody says better within a moment.
    Good,
    /// That was it.
    Best,
}

/// A lease that servers gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obtained {
    /// Which.
    pub lease: Lease,
    /// What came with it.
    pub told: Told,
    /// Just before the request that was answered, milliseconds since the kernel's start.
    pub since_ms: u64,
}

/// What is done with a lease before it counts: it is set, and another machine may turn out to have it. Why it cannot be used.
pub type Trial<'a> = &'a mut dyn FnMut(&Obtained) -> io::Result<Result<(), String>>;

/// One client on one card.
pub struct Exchange<'a> {
    client: &'a Client,
    socket: UdpSocket,
    index: u32,
    end: Instant,
    stop: &'a AtomicBool,
}

impl<'a> Exchange<'a> {
    /// Until `end`, or until it is stopped. The card has a link-local address that can be used, from which it sends.
    pub fn open(
        card: &Card,
        client: &'a Client,
        end: Instant,
        stop: &'a AtomicBool,
    ) -> io::Result<Exchange<'a>> {
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_only_v6(true)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind_device(Some(card.name.as_bytes()))?;
        socket.set_multicast_if_v6(card.index)?;
        socket.bind(&SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, CLIENT_PORT, 0, 0).into())?;
        Ok(Exchange { client, socket: socket.into(), index: card.index, end, stop })
    }

    /// A lease that passes `trial`; the servers are told (DECLINE) of one that does not, and asked for another. Nothing if
    /// there is none until the end.
    pub fn lease(&self, trial: Trial<'_>, note: &mut dyn FnMut(String)) -> io::Result<Option<Obtained>> {
        let mut setbacks = 0;
        while !self.is_over() {
            let Some(offer) = self.solicit(note)? else { return Ok(None) };
            let Some(obtained) = self.request(&offer, note)? else {
                setbacks += 1;
                self.rest_after(setbacks);
                continue;
            };
            match trial(&obtained)? {
                Ok(()) => return Ok(Some(obtained)),
                Err(why) => {
                    note(why);
                    self.decline(&obtained.lease)?;
                    setbacks += 1;
                    self.rest_after(setbacks);
                }
            }
        }
        Ok(None)
    }

    /// The offer of the server that wants it most.
    fn solicit(&self, note: &mut dyn FnMut(String)) -> io::Result<Option<Lease>> {
        let last = SOLICIT_PAUSES[SOLICIT_PAUSES.len() - 1];
        let pauses = SOLICIT_PAUSES.into_iter().chain(std::iter::repeat(last));
        let mut best: Option<(u8, Lease)> = None;
        self.ask(Ask::Solicit, pauses, &mut |answer| {
            if !answer.is_advertisement {
                return Take::No;
            }
            match answer.lease {
                Err(why) => {
                    note(format!("a DHCPv6 server lends no address: {why}"));
                    Take::No
                }
                Ok(lease) => {
                    if best.as_ref().is_none_or(|(preference, _)| answer.preference > *preference) {
                        best = Some((answer.preference, lease));
                    }
                    // Nobody can want it more (section 18.2.9).
                    if answer.preference == u8::MAX { Take::Best } else { Take::Good }
                }
            }
        })?;
        Ok(best.map(|(_, lease)| lease))
    }

    fn request(&self, offer: &Lease, note: &mut dyn FnMut(String)) -> io::Result<Option<Obtained>> {
        let since_ms = uptime_ms();
        let mut outcome = None;
        self.ask(Ask::Request(offer), REQUEST_PAUSES, &mut |answer| {
            if answer.is_advertisement || answer.server != offer.server {
                return Take::No;
            }
            outcome = Some((answer.lease, answer.told));
            Take::Best
        })?;
        let (from, address) = (offer.from, offer.address);
        match outcome {
            Some((Ok(lease), told)) => return Ok(Some(Obtained { lease, told, since_ms })),
            Some((Err(why), _)) => note(format!("{from} offered {address} and then refused it: {why}")),
            None => note(format!("{from} offered {address} and then said no more")),
        }
        Ok(None)
    }

    /// Tells the server that another machine has an address.
    pub fn decline(&self, lease: &Lease) -> io::Result<()> {
        self.ask(Ask::Decline(lease), DECLINE_PAUSES, &mut |answer| match answer.is_advertisement {
            true => Take::No,
            false => Take::Best,
        })?;
        Ok(())
    }

    /// Resolvers and the like, without an address.
    pub fn information(&self) -> io::Result<Option<Told>> {
        let mut told = None;
        self.ask(Ask::Information, INFORMATION_PAUSES, &mut |answer| {
            if answer.is_advertisement || !answer.status.is_success() {
                return Take::No;
            }
            told = Some(answer.told);
            Take::Best
        })?;
        Ok(told)
    }

    /// Sends a message until an answer is taken, with these pauses, milliseconds. True if one was.
    pub fn ask(
        &self,
        ask: Ask<'_>,
        pauses: impl IntoIterator<Item = u64>,
        take: &mut dyn FnMut(Answer) -> Take,
    ) -> io::Result<bool> {
        let [a, b, c, _] = random().to_be_bytes();
        let (transaction, begin) = ([a, b, c], Instant::now());
        let mut settled: Option<Instant> = None;
        for pause in pauses {
            if self.is_over() {
                break;
            }
            let hundredths = u16::try_from(begin.elapsed().as_millis() / 10).unwrap_or(u16::MAX);
            self.send(&self.client.write(ask, transaction, hundredths))?;
            let end = (Instant::now() + spread(pause)).min(self.end);
            while Instant::now() < end && !self.stop.load(Ordering::Relaxed) {
                if settled.is_some_and(|settled| Instant::now() >= settled) {
                    return Ok(true);
                }
                let Some((bytes, from)) = self.receive(end.min(Instant::now() + STOP_LOOK))? else {
                    continue;
                };
                let Some(answer) = self.client.read(&bytes, transaction, from) else { continue };
                match take(answer) {
                    Take::No => {}
                    Take::Good => {
                        settled.get_or_insert_with(|| Instant::now() + BETTER);
                    }
                    Take::Best => return Ok(true),
                }
            }
            if settled.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn send(&self, message: &[u8]) -> io::Result<()> {
        let servers = SocketAddrV6::new(SERVERS, SERVER_PORT, 0, self.index);
        match self.socket.send_to(message, servers) {
            // The carrier or the link-local address is gone for the moment: as if it were lost on the way.
            Err(error) if is_of_the_moment(&error) => Ok(()),
            result => result.map(drop),
        }
    }

    /// The next message of a server that comes before `end`.
    fn receive(&self, end: Instant) -> io::Result<Option<(Vec<u8>, Ipv6Addr)>> {
        let left = end.saturating_duration_since(Instant::now());
        match poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&timespec(left))) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(None),
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut bytes = vec![0; LARGEST_MESSAGE];
        match self.socket.recv_from(&mut bytes) {
            Ok((length, SocketAddr::V6(from))) => {
                bytes.truncate(length);
                Ok(Some((bytes, *from.ip())))
            }
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock || is_of_the_moment(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.end || self.stop.load(Ordering::Relaxed)
    }

    fn rest_after(&self, setbacks: u32) {
        if setbacks < 2 {
            return;
        }
        let end = (Instant::now() + LOOP_PAUSE).min(self.end);
        while Instant::now() < end && !self.is_over() {
            std::thread::sleep(STOP_LOOK);
        }
    }
}

fn is_of_the_moment(error: &io::Error) -> bool {
    let known = [libc::ENETDOWN, libc::ENETUNREACH, libc::EADDRNOTAVAIL, libc::ENOBUFS];
    error.raw_os_error().is_some_and(|number| known.contains(&number))
}
