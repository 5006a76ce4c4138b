//! `firstboot dhcp6`: keeps the IPv6 address that PID 1 found (RFC 8415, section 18.2).
//!
//! A lease is renewed here. An address that the kernel made is kept up by the kernel, as long as the router goes on to
//! advertise its network: here is told when it does not. It may be started again at any time: what it needs is in
//! [`Held`] and in the facts.

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use bootwright_model::baked::ClusterLayer;
use bootwright_model::families::Family;
use bootwright_model::node::NodeFacts;
use ipnet::Ipv6Net;

use super::exchange::{Exchange, Take};
use super::found::{Found, Wanted};
use super::health::{Health, State};
use super::held::{self, Held};
use super::lease::{Lease, Told};
use super::message::{Ask, Client};
use super::options::Status;
use super::search::Search;
use super::{apply, autoconf};
use crate::bootstrap;
use crate::network::dhcp::acquire::Card;
use crate::network::dhcp::held::Phase;
use crate::network::dhcp::identifier;
use crate::network::dhcp::keep::{KeepError, card, failed};
use crate::network::dhcp::taken;
use crate::network::netlink::{Link, LinkChanges, Netlink};
use crate::report::{Consoles, chain, uptime_ms};

/// Pauses between two requests for more time, milliseconds (section 7.6: `REN_TIMEOUT`, `REN_MAX_RT`).
const RENEW_PAUSES: [u64; 7] = [10_000, 20_000, 40_000, 80_000, 160_000, 320_000, 600_000];
/// Pauses of CONFIRM: 10 s in all (`CNF_TIMEOUT`, `CNF_MAX_RT`, `CNF_MAX_RD`).
const CONFIRM_PAUSES: [u64; 4] = [1_000, 2_000, 4_000, 3_000];
/// How long one search for another address lasts before it is told what was seen, and begins again.
const SEARCH: Duration = Duration::from_secs(300);
/// Between two searches: one on a card that is gone ends at once.
const BREATH: Duration = Duration::from_secs(1);
/// After something has failed.
const PAUSE: Duration = Duration::from_secs(10);
/// Longest time without a look at the address, should a word of the kernel be lost.
const LOOK: Duration = Duration::from_secs(60);

/// Runs as a program below `root` (`/` on a node), and ends only if it cannot go on.
pub fn main(root: &Path) -> ExitCode {
    let Err(error) = run(root);
    bootstrap::tell("dhcp6", Err(error))
}

fn run(root: &Path) -> Result<Infallible, KeepError> {
    let mut keeper = Keeper::open(root, &bootstrap::read_facts(root)?)?;
    let mut told = String::new();
    loop {
        let Err(error) = keeper.step() else {
            told.clear();
            continue;
        };
        // Once: it is tried again, as the card may be out.
        let why = chain(&error).join(": ");
        if told != why {
            keeper.tell(&why);
        }
        told = why;
        std::thread::sleep(PAUSE);
        keeper.find_card();
    }
}

/// Holds one address.
pub struct Keeper {
    root: PathBuf,
    card: Card,
    /// This program has set it up.
    is_set_up: bool,
    client: Client,
    held: Held,
    /// What everything on the node was made from when it started.
    address: Option<Ipv6Addr>,
    layer: ClusterLayer,
    consoles: Consoles,
    /// How often the card's carrier had come when it was last looked at.
    carriers: Option<u32>,
    /// What was told last of an address that the kernel keeps.
    health: Option<Health>,
}

/// How asking for more time ended.
enum Asked {
    Renewed(Lease, Told, u64),
    Lost(String),
}

/// What ended a rest.
enum Rested {
    /// The time is over.
    Enough,
    /// The cable is in again, perhaps in another switch.
    Plugged,
    /// The card was set down and up: the address is gone before its time.
    Gone,
    /// The card was gone and is back, or its driver began anew: what it had is gone.
    Another,
}

impl Keeper {
    /// Takes up what is held. Changes nothing.
    pub fn open(root: &Path, facts: &NodeFacts) -> Result<Keeper, KeepError> {
        let held = Held::read(root).map_err(|error| KeepError::Lease(Some(error)))?;
        let held = held.ok_or(KeepError::Lease(None))?;
        let card = card(&held.link)?;
        let links = links()?;
        let carriers = links.iter().find(|link| link.index == card.index).map(|link| link.carriers);
        let address = facts.address.of(Family::V6).map(|address| address.addr());
        Ok(Keeper {
            root: root.to_owned(),
            client: Client::from_identifier(&identifier::of(root, card.mac)),
            card,
            is_set_up: false,
            held,
            address: address.and_then(|address| match address {
                IpAddr::V6(address) => Some(address),
                IpAddr::V4(_) => None,
            }),
            layer: facts.layer.clone(),
            consoles: Consoles::find(root),
            carriers,
            health: None,
        })
    }

    /// What is held.
    pub fn held(&self) -> &Held {
        &self.held
    }

    /// Waits until something is to be done, and does it: the lease is renewed, or another address is found; what becomes of
    /// an address that the kernel keeps is told.
    pub fn step(&mut self) -> Result<(), KeepError> {
        let Some(lease) = self.held.lease.clone() else { return self.follow() };
        match self.renew(&lease)? {
            Asked::Renewed(lease, told, since_ms) => {
                self.held.since_ms = since_ms;
                self.held.lease = Some(lease);
                // What the router said first goes on.
                self.held.told = std::mem::take(&mut self.held.told).and(told);
                self.install()
            }
            Asked::Lost(why) => {
                let address = self.held.address;
                self.tell(&format!("{address} is lost: {why}"));
                // Nobody may answer at it from now on.
                apply::withdraw(self.card.index, address)?;
                let found = self.search();
                self.take(found)
            }
        }
    }

    fn renew(&mut self, lease: &Lease) -> Result<Asked, KeepError> {
        loop {
            let now = uptime_ms();
            let phase = held::phase(lease, self.held.since_ms, now);
            let (ask, until) = match phase {
                Phase::Rest(until) => match self.rest(until)? {
                    Rested::Enough => continue,
                    Rested::Another => {
                        self.find_card();
                        return Ok(Asked::Lost("its card was gone".to_owned()));
                    }
                    Rested::Gone if self.set_again(lease)? => continue,
                    Rested::Gone => return Ok(Asked::Lost("another machine has it".to_owned())),
                    Rested::Plugged if self.confirm(lease)? => continue,
                    Rested::Plugged => {
                        return Ok(Asked::Lost("the server says that it is of another network".to_owned()));
                    }
                },
                Phase::Renew(until) => (Ask::Renew(lease), until),
                Phase::Rebind(until) => (Ask::Rebind(lease), until),
                Phase::Ended => return Ok(Asked::Lost("its time is over, and no server answers".to_owned())),
            };
            if let Some(asked) = self.ask_for_more(ask, lease, until)? {
                return Ok(asked);
            }
        }
    }

    /// Until a time, milliseconds since the kernel's start; nothing if no server answers.
    fn ask_for_more(&self, ask: Ask<'_>, lease: &Lease, until: u64) -> Result<Option<Asked>, KeepError> {
        let began = uptime_ms();
        let end = Instant::now() + Duration::from_millis(until.saturating_sub(began));
        let stop = AtomicBool::new(false);
        let exchange = self.exchange(end, &stop)?;
        let last = RENEW_PAUSES[RENEW_PAUSES.len() - 1];
        let pauses = RENEW_PAUSES.into_iter().chain(std::iter::repeat(last));
        let mut asked = None;
        exchange
            .ask(ask, pauses, &mut |answer| {
                if answer.is_advertisement {
                    return Take::No;
                }
                asked = Some(match answer.lease {
                    Ok(more) if more.address == lease.address => Asked::Renewed(more, answer.told, began),
                    // Nobody has looked whether another machine has that one: a search does.
                    Ok(_) => Asked::Lost("the server lends another address".to_owned()),
                    Err(why) => Asked::Lost(format!("the server does not lend it any more: {why}")),
                });
                Take::Best
            })
            .map_err(failed("the server cannot be asked"))?;
        Ok(asked)
    }

    /// Whether the address is still of the network that the card is plugged into. Without an answer it is taken to be
    /// (section 18.2.3).
    fn confirm(&self, lease: &Lease) -> Result<bool, KeepError> {
        let stop = AtomicBool::new(false);
        let exchange = self.exchange(Instant::now() + LOOK, &stop)?;
        let mut is_good = true;
        exchange
            .ask(Ask::Confirm(lease), CONFIRM_PAUSES, &mut |answer| {
                if answer.is_advertisement {
                    return Take::No;
                }
                is_good = answer.status.code != Status::NOT_ON_LINK;
                Take::Best
            })
            .map_err(failed("the server cannot be asked"))?;
        Ok(is_good)
    }

    fn exchange<'a>(&'a self, end: Instant, stop: &'a AtomicBool) -> Result<Exchange<'a>, KeepError> {
        Exchange::open(&self.card, &self.client, end, stop).map_err(failed("no socket to ask servers with"))
    }

    /// Until a time, milliseconds since the kernel's start, or until something happens to the card.
    fn rest(&mut self, until: Option<u64>) -> Result<Rested, KeepError> {
        let listen = || LinkChanges::open_with_ipv6_addresses();
        let mut changes = listen().map_err(failed("nobody says when links change"))?;
        let mut had_carrier = true;
        loop {
            let left = until.map_or(LOOK, |until| Duration::from_millis(until.saturating_sub(uptime_ms())));
            if left.is_zero() {
                return Ok(Rested::Enough);
            }
            let links = links()?;
            if links.iter().any(|link| link.name == self.held.link && link.index != self.card.index) {
                return Ok(Rested::Another);
            }
            if let Some(link) = links.iter().find(|link| link.index == self.card.index) {
                // It may have been gone and back between two looks: the kernel tells of a lost carrier up to a second late.
                let before = self.carriers.replace(link.carriers);
                let is_new = before.is_some_and(|before| before != link.carriers);
                let has_carrier = link.up && link.carrier;
                if has_carrier && (!had_carrier || is_new) {
                    return Ok(Rested::Plugged);
                }
                had_carrier = has_carrier;
            }
            let address = apply::present(self.card.index, self.held.address.addr());
            if had_carrier && address.map_err(failed("addresses cannot be listed"))?.is_none() {
                return Ok(Rested::Gone);
            }
            changes.wait(Instant::now() + left.min(LOOK)).map_err(failed("nobody says when links change"))?;
        }
    }

    /// Another address that can be used in this cluster, however long it takes.
    fn search(&mut self) -> Found {
        let stop = AtomicBool::new(false);
        let begin = Instant::now();
        let wanted = Wanted::of(&self.layer, &self.held.described);
        let mut last = String::new();
        loop {
            let end = Instant::now() + SEARCH;
            let layer = &self.layer;
            let usable = |address: Ipv6Net| match taken::owner(address.into(), layer) {
                Some(owner) => Err(format!("{address} was given, which {owner}")),
                None => Ok(()),
            };
            let search = Search {
                root: &self.root,
                card: &self.card,
                wanted: &wanted,
                end,
                stop: &stop,
                usable: &usable,
            };
            match search.run() {
                Ok(found) => return found,
                Err(seen) => {
                    let seen = seen.to_string();
                    // A card that is gone is gone a second later, too.
                    if Instant::now() >= end || seen != last {
                        let seconds = begin.elapsed().as_secs();
                        self.tell(&format!("{}: no address for {seconds} s: {seen}", self.card));
                    }
                    last = seen;
                }
            }
            std::thread::sleep(BREATH);
            self.find_card();
        }
    }

    /// A card that was pulled out and put in again, or whose driver began anew, has another index, and is down.
    fn find_card(&mut self) {
        // There may be none for a while.
        let Ok(found) = card(&self.held.link) else { return };
        if found == self.card && self.is_set_up {
            return;
        }
        let up = Netlink::open().and_then(|mut netlink| netlink.set_up(found.index, true));
        if let Err(error) = up {
            eprintln!("dhcp6: {found} cannot be set up: {error}");
        }
        self.client = Client::from_identifier(&identifier::of(&self.root, found.mac));
        (self.card, self.is_set_up, self.carriers) = (found, true, None);
    }

    /// Takes up what a search has found.
    fn take(&mut self, found: Found) -> Result<(), KeepError> {
        let before = self.held.address.addr();
        self.held = found.held(std::mem::take(&mut self.held.described));
        // Wherever the cable leads, the address is of there.
        (self.health, self.carriers) = (None, None);
        self.install()?;
        let now = self.held.address.addr();
        println!("{} on {}, {}", self.held.address, self.card, found.origin());
        if let Some(missing) = &found.missing {
            eprintln!("dhcp6: {missing}");
        }
        if let Some(address) = self.address.filter(|address| *address != now) {
            self.tell(&format!(
                "this node's address was {address} when it started, and it has now got {now} instead of {before}: what \
                 runs here still has the old one; restart the machine, and reserve its address at the server"
            ));
        }
        Ok(())
    }

    /// Sets what is held, and writes it down.
    fn install(&mut self) -> Result<(), KeepError> {
        self.set()?;
        self.held.write(&self.root).map_err(failed("the lease cannot be written down"))?;
        apply::write_resolvers(&self.root, &self.held, &self.layer.file.network.resolvers)
            .map_err(failed("/etc/resolv.conf cannot be written"))
    }

    /// A lent address, for what is left of its time.
    fn set(&self) -> Result<(), KeepError> {
        let Some(lease) = &self.held.lease else { return Ok(()) };
        let left = |seconds| held::left(seconds, self.held.since_ms, uptime_ms());
        let (preferred, seconds) = (left(lease.preferred_seconds), left(lease.seconds));
        if seconds > 0 {
            apply::set(self.card.index, self.held.address, preferred, seconds)?;
        }
        Ok(())
    }

    /// The address was taken away before its time; false if another machine has it meanwhile, of which the server is told.
    fn set_again(&self, lease: &Lease) -> Result<bool, KeepError> {
        self.set()?;
        let free = apply::is_free(self.card.index, lease.address);
        if free.map_err(failed("addresses cannot be listed"))? {
            return Ok(true);
        }
        let stop = AtomicBool::new(false);
        let exchange = self.exchange(Instant::now() + LOOK, &stop)?;
        exchange.decline(lease).map_err(failed("the server cannot be told"))?;
        Ok(false)
    }

    /// Waits until something else is to be said of an address that the kernel keeps, and says it.
    fn follow(&mut self) -> Result<(), KeepError> {
        let listen = || LinkChanges::open_with_ipv6_addresses();
        let mut changes = listen().map_err(failed("nobody says when addresses change"))?;
        let refused = RefCell::new(None);
        loop {
            self.find_known_card(&refused);
            let here = Netlink::open().and_then(|mut netlink| netlink.ipv6_addresses());
            let here = here.map_err(failed("addresses cannot be listed"))?;
            let address = self.held.address.addr();
            let health = Health::of(address, self.card.index, &here);
            // What there was at the start is in the boot report.
            let start = || Health { state: State::Good, others: health.others.clone() };
            let before = self.health.take().unwrap_or_else(start);
            let told = health.told(&before, address, &self.card, self.held.router);
            self.health = Some(health);
            if let Some(told) = told {
                self.tell(&told);
                return Ok(());
            }
            changes.wait(Instant::now() + LOOK).map_err(failed("nobody says when addresses change"))?;
        }
    }

    /// As [`Keeper::find_card`], and the kernel makes addresses on it again.
    fn find_known_card(&mut self, refused: &RefCell<Option<String>>) {
        let before = self.card.index;
        self.find_card();
        if self.card.index == before {
            return;
        }
        if let Err(error) = autoconf::accept(&self.root, &self.card.name, self.held.described.metric) {
            let error = error.to_string();
            if refused.replace(Some(error.clone())).as_ref() != Some(&error) {
                eprintln!("dhcp6: the kernel takes no router advertisements on {}: {error}", self.card);
            }
        }
    }

    /// On the consoles, and in the service's log.
    fn tell(&self, line: &str) {
        eprintln!("dhcp6: {line}");
        self.consoles.write(&format!("dhcp6: {line}"));
    }
}

fn links() -> Result<Vec<Link>, KeepError> {
    Netlink::open().and_then(|mut netlink| netlink.links()).map_err(failed("links cannot be listed"))
}
