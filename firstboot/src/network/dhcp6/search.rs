//! From nothing to an IPv6 address, on one card: a router is asked, and what it says decides where the address is from.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv6Addr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ipnet::Ipv6Net;

use super::advertisement::Advertisement;
use super::exchange::{Exchange, Obtained};
use super::found::{Found, Wanted};
use super::lease::Told;
use super::message::Client;
use super::solicitation::RouterSocket;
use super::{apply, autoconf};
use crate::network::dhcp::acquire::{Card, spread};
use crate::network::dhcp::identifier;
use crate::network::lending::carrier::wait_for_carrier;
use crate::network::lending::seen::{Asked, Seen};
use crate::network::lending::times;
use crate::network::netlink::Netlink;
use crate::report::{chain, uptime_ms};

/// Pauses between two solicitations that no router answers, milliseconds; the last one from then on. RFC 4861, section
/// 10, has three with 4 s between, RFC 7559 goes on with longer ones: the first is shorter, as a frame that was lost
/// should not cost a boot 4 s.
const PAUSES: [u64; 3] = [1_000, 2_000, 4_000];
/// How long the kernel may take to make an address and to look whether another machine has it: up to two seconds, which a
/// busy machine stretches.
const MAKING: Duration = Duration::from_secs(8);
/// How long a DHCPv6 server is asked for an address on a link where there would be another, at most.
const SERVER_PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks at what the kernel does.
const LOOK: Duration = Duration::from_millis(20);
/// How often it is looked whether another card was faster.
const STOP_LOOK: Duration = Duration::from_millis(50);

/// One try on one card.
pub struct Search<'a> {
    /// Where `/proc` and `/sys` are.
    pub root: &'a Path,
    /// It is set up.
    pub card: &'a Card,
    /// What is looked for.
    pub wanted: &'a Wanted,
    /// When it is given up.
    pub end: Instant,
    /// Another card was faster.
    pub stop: &'a AtomicBool,
    /// Whether an address can be used by this machine: why not. Servers are told (DECLINE) of one that cannot.
    pub usable: &'a (dyn Fn(Ipv6Net) -> Result<(), String> + Sync),
}

/// An address of those that there are.
struct Candidate {
    address: Ipv6Net,
    lease: Option<Obtained>,
}

impl Search<'_> {
    /// Looks for an address until the end.
    pub fn run(&self) -> Result<Found, Seen> {
        let mut seen = Seen::of(Asked::Router);
        let before = match autoconf::accept(self.root, &self.card.name, self.wanted.metric) {
            Ok(before) => before,
            Err(error) => {
                seen.note(format!("the kernel takes no router advertisements: {error}"));
                return Err(seen);
            }
        };
        match self.search(&mut seen) {
            Ok(Some(found)) => Ok(Found { before, ..found }),
            Ok(None) => {
                before.restore();
                Err(seen)
            }
            Err(error) => {
                before.restore();
                seen.note(format!("the link cannot be used: {error}"));
                Err(seen)
            }
        }
    }

    fn search(&self, seen: &mut Seen) -> io::Result<Option<Found>> {
        if !wait_for_carrier(self.card.index, self.end, self.stop)? {
            return Ok(None);
        }
        seen.carrier = true;
        if !self.wait_for_link_local(seen)? {
            return Ok(None);
        }
        let routers = RouterSocket::open(self.card)?;
        for pause in PAUSES.into_iter().chain(std::iter::repeat(PAUSES[PAUSES.len() - 1])) {
            if self.is_over() {
                break;
            }
            match routers.solicit() {
                Ok(()) => seen.sent += 1,
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENETDOWN | libc::ENOBUFS)) => {}
                Err(error) => return Err(error),
            }
            let until = (Instant::now() + spread(pause)).min(self.end);
            while let Some(advertisement) = self.hear(&routers, until, seen)? {
                if let Some(found) = self.follow(&advertisement, seen)? {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// The next router that is one, before `until`.
    fn hear(
        &self,
        routers: &RouterSocket,
        until: Instant,
        seen: &mut Seen,
    ) -> io::Result<Option<Advertisement>> {
        while Instant::now() < until && !self.is_over() {
            let Some(heard) = routers.receive(until.min(Instant::now() + STOP_LOOK))? else { continue };
            match Advertisement::of(&heard.bytes, heard.from, heard.hop_limit) {
                Err(why) => seen.note(format!("an advertisement of {} is of no use: {why}", heard.from)),
                // Its networks may be reached, and nothing beyond: a node needs a way to the others.
                Ok(one) if one.seconds == 0 && !self.wanted.without_way => {
                    seen.note(format!("{} advertises that it is no default router", one.router));
                }
                Ok(one) => return Ok(Some(one)),
            }
        }
        Ok(None)
    }

    /// Does what a router says; nothing if no address came of it.
    fn follow(&self, router: &Advertisement, seen: &mut Seen) -> io::Result<Option<Found>> {
        let makes = router.autonomous().next().is_some();
        let asks = router.managed || self.wanted.dhcp6;
        if !makes && !asks {
            let router = router.router;
            seen.note(format!(
                "{router} advertises neither a network of /64 to make an address of nor DHCPv6"
            ));
            return Ok(None);
        }
        let mut missing = None;
        let mut candidates = Vec::new();
        if asks {
            match self.leased(router, makes, seen)? {
                Some(one) => candidates.push(one),
                None if self.is_over() => return Ok(None),
                None if router.managed => {
                    missing =
                        Some(format!("{} advertises DHCPv6, and no server lent an address", router.router));
                }
                // It was asked as the link is described so, and there need not be one.
                None => {}
            }
        }
        if makes {
            candidates.extend(self.made(router, seen)?);
        }
        // The first of the best: the lease, as somebody may have reserved it.
        let rank = |candidate: &Candidate| self.wanted.rank(candidate.address.addr());
        let best = (0..candidates.len()).rev().max_by_key(|place| rank(&candidates[*place]));
        let Some(best) = best else { return Ok(None) };
        let best = candidates.swap_remove(best);
        for other in candidates.iter().filter(|other| other.lease.is_some()) {
            let _ = apply::withdraw(self.card.index, other.address);
        }
        let mut told = router.told.clone();
        if let Some(obtained) = best.lease.as_ref() {
            told = told.and(obtained.told.clone());
        } else if router.other || router.managed {
            match self.told_by_server()? {
                Some(more) => told = told.and(more),
                None if missing.is_none() => {
                    missing = Some(format!("{} advertises DHCPv6, and no server answers", router.router));
                }
                None => {}
            }
        }
        Ok(Some(Found {
            card: self.card.clone(),
            address: best.address,
            router: router.router,
            mtu: router.mtu,
            since_ms: best.lease.as_ref().map_or_else(uptime_ms, |obtained| obtained.since_ms),
            lease: best.lease.map(|obtained| obtained.lease),
            told,
            missing,
            before: autoconf::Before::default(),
        }))
    }

    /// How long a server is asked where there would be another address: that one must be taken in time, too.
    fn server_patience(&self) -> Duration {
        let left = self.end.saturating_duration_since(Instant::now());
        SERVER_PATIENCE.min(left / 3)
    }

    fn client(&self) -> Client {
        Client::from_identifier(&identifier::of(self.root, self.card.mac))
    }

    /// An address that a server lends, set on the card.
    fn leased(
        &self,
        router: &Advertisement,
        has_other: bool,
        seen: &mut Seen,
    ) -> io::Result<Option<Candidate>> {
        let client = self.client();
        let end = if has_other { Instant::now() + self.server_patience() } else { self.end };
        let exchange = Exchange::open(self.card, &client, end, self.stop)?;
        let network = |address: Ipv6Addr| {
            let length = router.network_of(address).map_or(128, |network| network.prefix_len());
            // Both lengths are those of an address.
            Ipv6Net::new(address, length).unwrap_or(Ipv6Net::from(address))
        };
        let mut trial = |obtained: &Obtained| {
            let (lease, now) = (&obtained.lease, uptime_ms());
            let address = network(lease.address);
            if let Err(why) = (self.usable)(address) {
                return Ok(Err(why));
            }
            let left = |seconds| times::left(seconds, obtained.since_ms, now);
            let index = self.card.index;
            if let Err(error) =
                apply::set(index, address, left(lease.preferred_seconds), left(lease.seconds).max(1))
            {
                return Ok(Err(chain(&error).join(": ")));
            }
            if apply::is_free(index, lease.address, self.end)? {
                return Ok(Ok(()));
            }
            let _ = apply::withdraw(index, address);
            Ok(Err(format!("{} lent {}, which another machine has already", lease.from, lease.address)))
        };
        let obtained = exchange.lease(&mut trial, &mut |note| seen.note(note))?;
        if obtained.is_none() && !self.stop.load(Ordering::Relaxed) && seen.notes.is_empty() {
            seen.note(format!("{} advertises DHCPv6, and no server answers", router.router));
        }
        Ok(obtained.map(|lease| Candidate { address: network(lease.lease.address), lease: Some(lease) }))
    }

    /// The best address that the kernel has made of the router's networks, once it can be used.
    fn made(&self, router: &Advertisement, seen: &mut Seen) -> io::Result<Option<Candidate>> {
        let end = self.end.min(Instant::now() + MAKING);
        let networks: Vec<Ipv6Net> = router.autonomous().collect();
        let mut pending: BTreeSet<Ipv6Addr> = BTreeSet::new();
        loop {
            let here = Netlink::open()?.ipv6_addresses()?;
            let made: Vec<_> = here
                .into_iter()
                .filter(|one| one.index == self.card.index && one.is_made())
                .filter(|one| networks.contains(&one.address.trunc()))
                .collect();
            for one in made.iter().filter(|one| one.tentative && !one.duplicate) {
                pending.insert(one.address.addr());
            }
            pending.retain(|address| {
                let now = made.iter().find(|one| one.address.addr() == *address);
                // It is taken away if another machine has it.
                if now.is_none_or(|one| one.duplicate) {
                    seen.note(format!(
                        "{address} is made of this card's MAC address, and another machine has it already"
                    ));
                }
                now.is_some_and(|one| one.tentative && !one.duplicate)
            });
            let ready = made.iter().filter(|one| !one.tentative && !one.deprecated);
            let good = ready.map(|one| one.address).filter(|address| match (self.usable)(*address) {
                Ok(()) => true,
                Err(why) => {
                    seen.note(why);
                    false
                }
            });
            let best = good.max_by_key(|address| self.wanted.rank(address.addr()));
            let is_over = Instant::now() >= end || self.stop.load(Ordering::Relaxed);
            let all = made.len() == networks.len() && pending.is_empty();
            if is_over || all && best.is_some() {
                if best.is_none() && seen.notes.is_empty() {
                    seen.note(format!("no address came of what {} advertises", router.router));
                }
                return Ok(best.map(|address| Candidate { address, lease: None }));
            }
            std::thread::sleep(LOOK);
        }
    }

    fn told_by_server(&self) -> io::Result<Option<Told>> {
        let client = self.client();
        Exchange::open(self.card, &client, self.end, self.stop)?.information()
    }

    /// What routers and servers are asked from; false if there is none until the end.
    fn wait_for_link_local(&self, seen: &mut Seen) -> io::Result<bool> {
        let mut netlink = Netlink::open()?;
        while !self.is_over() {
            let here = netlink.ipv6_addresses()?;
            let mut ours = here.iter().filter(|one| one.index == self.card.index && one.is_link_local());
            match ours.next() {
                Some(one) if one.duplicate => seen.note(format!(
                    "another machine has the link-local address {}: two cards with one MAC address",
                    one.address.addr()
                )),
                Some(one) if !one.tentative => return Ok(true),
                _ => {}
            }
            std::thread::sleep(LOOK);
        }
        seen.note("the card has got no link-local address");
        Ok(false)
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.end || self.stop.load(Ordering::Relaxed)
    }
}
