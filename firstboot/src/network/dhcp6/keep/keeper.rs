//! One link's IPv6 address: kept, lost, and found again.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use bootwright_model::baked::ClusterLayer;
use bootwright_model::families::Family;
use bootwright_model::node::NodeFacts;
use ipnet::Ipv6Net;

use crate::network::dhcp::acquire::Card;
use crate::network::dhcp::{identifier, taken};
use crate::network::dhcp6::exchange::Exchange;
use crate::network::dhcp6::found::{Found, Wanted};
use crate::network::dhcp6::health::{Health, State};
use crate::network::dhcp6::held::Held;
use crate::network::dhcp6::kept::Kept;
use crate::network::dhcp6::lease::Lease;
use crate::network::dhcp6::message::{Ask, Client};
use crate::network::dhcp6::renew::{LOOK, More, ask_for_more, confirm, rest};
use crate::network::dhcp6::search::Search;
use crate::network::dhcp6::{apply, autoconf};
use crate::network::lending::carrier::Rested;
use crate::network::lending::keep::{Keep, KeepError, Teller, failed, search};
use crate::network::lending::times::Phase;
use crate::network::netlink::{LinkChanges, Netlink};
use crate::report::{Consoles, chain, uptime_ms};

/// Keeps one link's address.
pub struct Keeper {
    root: PathBuf,
    kept: Kept,
    /// What everything on the node was made from when it started.
    address: Option<IpAddr>,
    layer: ClusterLayer,
    teller: Teller,
    /// Where it is asked, once the link was seen and set up.
    card: Option<Card>,
    /// How often the card's carrier had come when it was last looked at.
    carriers: Option<u32>,
    /// What was told last of an address that the kernel keeps.
    health: Option<Health>,
}

/// How asking for more time ended.
enum Asked {
    Renewed(Held),
    Lost(String),
}

impl Keeper {
    /// Takes up what was written. Changes nothing.
    pub fn of(root: &Path, facts: &NodeFacts, kept: Kept) -> Keeper {
        let links = Netlink::open().and_then(|mut netlink| netlink.links()).unwrap_or_default();
        Keeper {
            root: root.to_owned(),
            address: facts.address.of(Family::V6).map(|address| address.addr()),
            layer: facts.layer.clone(),
            teller: Teller { service: "dhcp6", own: kept.own, consoles: Consoles::find(root) },
            card: None,
            carriers: links.iter().find(|link| link.name == kept.link).map(|link| link.carriers),
            health: None,
            kept,
        }
    }

    /// What is kept.
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Waits until something is to be done, and does it: the lease is renewed, or another address is found; what becomes of
    /// an address that the kernel keeps is told.
    pub fn step(&mut self) -> Result<(), KeepError> {
        let Some(held) = self.kept.held.clone() else {
            let found = self.search();
            return self.take(found);
        };
        let Some(lease) = &held.lease else { return self.follow(&held) };
        match self.renew(&held, lease)? {
            Asked::Renewed(held) => self.install(held),
            Asked::Lost(why) => {
                self.tell(&format!("{} is lost: {why}", held.address));
                // Nobody may answer at it from now on.
                if let Ok(card) = self.present() {
                    apply::withdraw(card.index, held.address)?;
                }
                if !self.kept.own {
                    // Its network is gone, and its resolvers would be asked first.
                    self.forget_resolvers()?;
                }
                let found = self.search();
                self.take(found)
            }
        }
    }

    fn renew(&mut self, held: &Held, lease: &Lease) -> Result<Asked, KeepError> {
        loop {
            let phase = held.phase(lease, uptime_ms());
            if phase == Phase::Ended {
                return Ok(Asked::Lost("its time is over, and no server answers".to_owned()));
            }
            let card = self.find()?;
            let (ask, until) = match phase {
                Phase::Rest(until) => match self.rest(&card, held, until)? {
                    Rested::Time => continue,
                    Rested::Another => return Ok(Asked::Lost("its card was gone".to_owned())),
                    Rested::Gone if self.set_again(&card, held, lease)? => continue,
                    Rested::Gone => return Ok(Asked::Lost("another machine has it".to_owned())),
                    Rested::Carrier if self.is_right(&card, lease)? => continue,
                    Rested::Carrier => {
                        return Ok(Asked::Lost("the server says that it is of another network".to_owned()));
                    }
                },
                Phase::Renew(until) => (Ask::Renew(lease), until),
                Phase::Rebind(until) => (Ask::Rebind(lease), until),
                Phase::Ended => continue,
            };
            let began = uptime_ms();
            let left = Duration::from_millis(until.saturating_sub(began));
            let more = self.exchange(&card, left, |exchange| ask_for_more(exchange, ask, lease))?;
            match more {
                None => {}
                Some(More::Lost(why)) => return Ok(Asked::Lost(why)),
                Some(More::Lease(lease, told)) => {
                    // What the router said first goes on.
                    let told = held.told.clone().and(told);
                    let (since_ms, lease) = (began, Some(lease));
                    return Ok(Asked::Renewed(Held { since_ms, lease, told, ..held.clone() }));
                }
            }
        }
    }

    fn rest(&mut self, card: &Card, held: &Held, until: Option<u64>) -> Result<Rested, KeepError> {
        let mut carriers = self.carriers;
        let address = held.address.addr();
        let rested = rest(card, address, until, &mut carriers, &mut || self.present().ok());
        self.carriers = carriers;
        rested.map_err(failed("the link cannot be watched"))
    }

    /// Speaks with servers on a card, for a while at most.
    fn exchange<T>(
        &self,
        card: &Card,
        time: Duration,
        speak: impl FnOnce(Exchange<'_>) -> std::io::Result<T>,
    ) -> Result<T, KeepError> {
        let (client, stop) = (self.client(card), AtomicBool::new(false));
        let exchange = Exchange::open(card, &client, Instant::now() + time, &stop);
        let exchange = exchange.map_err(failed("no socket to ask servers with"))?;
        speak(exchange).map_err(failed("the server cannot be asked"))
    }

    fn client(&self, card: &Card) -> Client {
        Client::from_identifier(&identifier::of(&self.root, card.mac))
    }

    fn is_right(&self, card: &Card, lease: &Lease) -> Result<bool, KeepError> {
        self.exchange(card, LOOK, |exchange| confirm(exchange, lease))
    }

    /// The address was taken away before its time; false if another machine has it meanwhile, of which the server is told.
    fn set_again(&self, card: &Card, held: &Held, lease: &Lease) -> Result<bool, KeepError> {
        set(card, held)?;
        let free = apply::is_free(card.index, lease.address, Instant::now() + LOOK);
        if free.map_err(failed("addresses cannot be listed"))? {
            return Ok(true);
        }
        self.exchange(card, LOOK, |exchange| exchange.decline(lease))?;
        Ok(false)
    }

    /// Another address that can be used in this cluster, however long it takes.
    fn search(&mut self) -> Found {
        search(self, "no address", |keeper, end| {
            let card = keeper.find().map_err(|error| chain(&error).join(": "))?;
            keeper.search_on(&card, end).map_err(|seen| format!("{card}: {seen}"))
        })
    }

    fn search_on(&self, card: &Card, end: Instant) -> Result<Found, String> {
        let wanted = Wanted::of(&self.layer, &self.kept.described, self.kept.own);
        let usable = |address: Ipv6Net| taken::usable(address.into(), card.index, Some(&self.layer));
        let stop = AtomicBool::new(false);
        let search = Search { root: &self.root, card, wanted: &wanted, end, stop: &stop, usable: &usable };
        search.run().map_err(|seen| seen.to_string())
    }

    /// The link as it is now.
    fn present(&mut self) -> Result<Card, KeepError> {
        self.kept.present(&self.root)
    }

    /// The same, set up: a card that was pulled out and put in again, or whose driver began anew, has another index, and is
    /// down, and the kernel makes no addresses on it.
    fn find(&mut self) -> Result<Card, KeepError> {
        let found = self.present()?;
        if self.card.as_ref() == Some(&found) {
            return Ok(found);
        }
        if let Err(error) = autoconf::accept(&self.root, &found.name, self.kept.described.metric) {
            eprintln!("dhcp6: the kernel takes no router advertisements on {found}: {error}");
        }
        let up = Netlink::open().and_then(|mut netlink| netlink.set_up(found.index, true));
        if let Err(error) = up {
            eprintln!("dhcp6: {found} cannot be set up: {error}");
        }
        if self.card.replace(found.clone()).is_some() {
            self.carriers = None;
        }
        Ok(found)
    }

    /// Takes up what a search has found.
    fn take(&mut self, found: Found) -> Result<(), KeepError> {
        let before = self.kept.held.as_ref().map(|held| held.address.addr());
        // Wherever the cable leads, the address is of there.
        (self.health, self.carriers) = (None, None);
        self.install(found.held())?;
        println!("{} on {}, {}", found.address, found.card, found.origin());
        if let Some(missing) = &found.missing {
            eprintln!("dhcp6: {missing}");
        }
        let now = found.address.addr();
        if let (true, Some(before), Some(address)) = (self.kept.own, before, self.address)
            && address != IpAddr::V6(now)
        {
            self.tell(&format!(
                "this node's address was {address} when it started, and it has now got {now} instead of {before}: what \
                 runs here still has the old one; restart the machine, and reserve its address at the server"
            ));
        }
        Ok(())
    }

    /// Sets what is held, and writes it down.
    fn install(&mut self, held: Held) -> Result<(), KeepError> {
        set(&self.present()?, &held)?;
        self.kept.held = Some(held);
        self.kept.write(&self.root).map_err(failed("the lease cannot be written down"))?;
        self.write_resolvers()
    }

    fn write_resolvers(&self) -> Result<(), KeepError> {
        self.kept
            .write_resolvers(&self.root, &self.layer.file.network.resolvers)
            .map_err(failed("/etc/resolv.conf cannot be written"))
    }

    fn forget_resolvers(&self) -> Result<(), KeepError> {
        self.kept
            .forget_resolvers(&self.root, &self.layer.file.network.resolvers)
            .map_err(failed("/etc/resolv.conf cannot be written"))
    }

    /// Waits until something else is to be said of an address that the kernel keeps, and says it.
    fn follow(&mut self, held: &Held) -> Result<(), KeepError> {
        let listen = || LinkChanges::open_with_ipv6_addresses();
        let mut changes = listen().map_err(failed("nobody says when addresses change"))?;
        let mut missing = String::new();
        loop {
            match self.find() {
                Ok(card) => {
                    let here = Netlink::open().and_then(|mut netlink| netlink.ipv6_addresses());
                    let here = here.map_err(failed("addresses cannot be listed"))?;
                    let health = Health::of(held.address.addr(), card.index, &here);
                    // What there was at the start is in the boot report.
                    let start = || Health { state: State::Good, others: health.others.clone() };
                    let before = self.health.take().unwrap_or_else(start);
                    let told = health.told(&before, held, &card, self.kept.own);
                    let (was_gone, is_gone) = (before.state == State::Gone, health.state == State::Gone);
                    self.health = Some(health);
                    // Those of a network that is gone would be asked first.
                    if !self.kept.own && is_gone && !was_gone {
                        self.forget_resolvers()?;
                    } else if !self.kept.own && was_gone && !is_gone {
                        self.write_resolvers()?;
                    }
                    if let Some(told) = told {
                        self.tell(&told);
                        return Ok(());
                    }
                }
                // There may be none for a while.
                Err(error) => {
                    let why = chain(&error).join(": ");
                    if missing != why {
                        eprintln!("dhcp6: {}: {why}", self.kept.name());
                    }
                    missing = why;
                }
            }
            changes.wait(Instant::now() + LOOK).map_err(failed("nobody says when addresses change"))?;
        }
    }

    fn tell(&self, line: &str) {
        self.teller.tell(line);
    }
}

/// Sets an address that was lent, for what is left of its time.
fn set(card: &Card, held: &Held) -> Result<(), KeepError> {
    let Some(lease) = &held.lease else { return Ok(()) };
    // One moment for both: an address that is preferred for longer than it is valid is refused.
    let now = uptime_ms();
    let left = |seconds| held.left(seconds, now);
    let (preferred, seconds) = (left(lease.preferred_seconds), left(lease.seconds));
    if seconds > 0 {
        apply::set(card.index, held.address, preferred, seconds)?;
    }
    Ok(())
}

impl Keep for Keeper {
    fn step(&mut self) -> Result<(), KeepError> {
        Keeper::step(self)
    }

    fn name(&self) -> &str {
        self.kept.name()
    }

    fn teller(&self) -> &Teller {
        &self.teller
    }

    fn forget_card(&mut self) {
        self.card = None;
    }
}
