//! One link's lease: kept, lost, and found again.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use bootwright_model::baked::ClusterLayer;
use bootwright_model::families::Family;
use bootwright_model::node::NodeFacts;

use crate::network::arp;
use crate::network::dhcp::acquire::{Card, Lent, Search, told};
use crate::network::dhcp::apply::{self, Place};
use crate::network::dhcp::held::Held;
use crate::network::dhcp::kept::Kept;
use crate::network::dhcp::lease::Lease;
use crate::network::dhcp::message::{Answer, Client};
use crate::network::dhcp::renew::{ask, has, rest};
use crate::network::dhcp::taken::{self, Taken};
use crate::network::lending::carrier::Rested;
use crate::network::lending::keep::{Keep, KeepError, Teller, failed, search};
use crate::network::lending::seen::Seen;
use crate::network::lending::times::Phase;
use crate::network::links;
use crate::network::netlink::Netlink;
use crate::report::{Consoles, chain, uptime_ms};
use crate::stages::Advice;

/// Shortest pause between two requests that are not answered (RFC 2131, section 4.4.5).
const SHORTEST_PAUSE_MS: u64 = 60_000;
/// How long it is asked, when the cable is in again, whether the address is one of this network.
const LOOK_MS: u64 = 10_000;

/// Keeps one link's lease.
pub struct Keeper {
    root: PathBuf,
    host_name: String,
    kept: Kept,
    /// What everything on the node was made from when it started.
    address: Option<IpAddr>,
    layer: ClusterLayer,
    teller: Teller,
    /// Where it is asked, once the link was seen.
    card: Option<Card>,
}

/// How asking for more time ended.
enum Asked {
    Renewed(Lease, u64),
    Lost(&'static str),
}

impl Keeper {
    /// Takes up what was written. Changes nothing.
    pub fn of(root: &Path, facts: &NodeFacts, kept: Kept) -> Keeper {
        let teller = Teller { service: "dhcp", own: kept.own, consoles: Consoles::find(root) };
        Keeper {
            root: root.to_owned(),
            host_name: facts.name.clone(),
            kept,
            address: facts.address.of(Family::V4).map(|address| address.addr()),
            layer: facts.layer.clone(),
            teller,
            card: None,
        }
    }

    /// What is kept.
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Waits until the lease has to be renewed, and renews it, or gets another one.
    pub fn step(&mut self) -> Result<(), KeepError> {
        let (lease, since_ms) = match self.kept.held.clone() {
            None => self.search(),
            Some(held) => match self.renew(&held)? {
                Asked::Renewed(lease, since_ms) => (lease, since_ms),
                Asked::Lost(why) => {
                    eprintln!("dhcp: {} is lost: {why}", held.lease.address);
                    // Nobody may answer at it from now on.
                    if let Ok(card) = self.present() {
                        apply::withdraw(card.index, held.lease.address)?;
                    }
                    if !self.kept.own {
                        // Its network is gone, and its resolvers would be asked first.
                        self.forget_resolvers()?;
                    }
                    self.search()
                }
            },
        };
        self.install(lease, since_ms)
    }

    fn renew(&mut self, held: &Held) -> Result<Asked, KeepError> {
        loop {
            let now = uptime_ms();
            let phase = held.phase(now);
            if phase == Phase::Ended {
                return Ok(Asked::Lost("its time is over, and no server answers"));
            }
            let card = self.present()?;
            let is_there = has(&card, held.lease.address).map_err(failed("addresses cannot be listed"))?;
            if !is_there {
                return Ok(Asked::Lost("the link does not have it any more, as its card was gone"));
            }
            let (server, until) = match phase {
                Phase::Rest(until) => {
                    let rested = rest(&card, until, &mut || self.present().ok());
                    match rested.map_err(failed("the link cannot be watched"))? {
                        Rested::Time | Rested::Another | Rested::Gone => continue,
                        // Whoever is there now; this one's server may be in another network.
                        Rested::Carrier => {
                            self.put_back(&card, held)?;
                            (Ipv4Addr::BROADCAST, uptime_ms() + LOOK_MS)
                        }
                    }
                }
                Phase::Renew(until) => (held.lease.server, until),
                Phase::Rebind(until) => (Ipv4Addr::BROADCAST, until),
                Phase::Ended => continue,
            };
            let now = uptime_ms();
            // Half of what is left, as the RFC says.
            let left = until.saturating_sub(now);
            let pause = (left / 2).max(SHORTEST_PAUSE_MS).min(left);
            let address = held.lease.address.addr();
            let answer = ask(&card, &self.client(&card), address, server, pause);
            match answer.map_err(failed("the server cannot be asked"))? {
                Some(Answer::Acknowledgement(lease)) => {
                    // Nobody has looked whether another machine has that one: a search does.
                    return Ok(match lease.address.addr() == address {
                        true => Asked::Renewed(self.reduced(lease), now),
                        false => Asked::Lost("the server lends another address"),
                    });
                }
                Some(Answer::Refusal { .. }) => {
                    return Ok(Asked::Lost("the server does not lend it any more"));
                }
                _ => {}
            }
        }
    }

    /// A new lease that can be used in this cluster, however long it takes.
    fn search(&mut self) -> (Lease, u64) {
        let refused = RefCell::new(None);
        let Lent { lease, since_ms, .. } = search(self, "no lease", |keeper, end| {
            let card = keeper.find().map_err(|error| chain(&error).join(": "))?;
            keeper.search_on(&card, end, &refused).map_err(|seen| format!("{card}: {seen}"))
        });
        (self.reduced(lease), since_ms)
    }

    fn search_on(&self, card: &Card, end: Instant, refused: &RefCell<Option<Taken>>) -> Result<Lent, Seen> {
        let usable = |lease: &Lease| {
            let taken = taken::check(lease, &self.layer).and_then(|()| taken::check_links(lease, card.index));
            taken.inspect_err(|why| {
                // Once, as the server may lend it again and again.
                if refused.replace(Some(why.clone())).as_ref() != Some(why) {
                    self.tell(&format!("{why}: {}", why.advice()));
                }
            })
        };
        let (client, stop) = (self.client(card), AtomicBool::new(false));
        Search { card, client: &client, end, stop: &stop, usable: &usable }.run()
    }

    fn client(&self, card: &Card) -> Client {
        Client::on(&self.root, card, &self.host_name)
    }

    fn forget_resolvers(&self) -> Result<(), KeepError> {
        self.kept
            .forget_resolvers(&self.root, &self.layer.file.network.resolvers)
            .map_err(failed("/etc/resolv.conf cannot be written"))
    }

    /// What is taken of a lease on this link.
    fn reduced(&self, lease: Lease) -> Lease {
        // What is left out is in the boot report.
        self.kept.reduced(lease).0
    }

    /// The link as it is now.
    fn present(&mut self) -> Result<Card, KeepError> {
        self.kept.present(&self.root)
    }

    /// The same, set up: a card that was pulled out and put in again, or whose driver began anew, has another index, and is
    /// down.
    fn find(&mut self) -> Result<Card, KeepError> {
        let found = self.present()?;
        if self.card.as_ref() == Some(&found) {
            return Ok(found);
        }
        if let Some(accept) = self.kept.described.accept_ra
            && let Err(error) = links::set_accept_ra(&self.root, &found.name, accept)
        {
            eprintln!("dhcp: {}", chain(&error).join(": "));
        }
        let up = Netlink::open().and_then(|mut netlink| netlink.set_up(found.index, true));
        if let Err(error) = up {
            eprintln!("dhcp: {found} cannot be set up: {error}");
        }
        self.card = Some(found.clone());
        Ok(found)
    }

    fn install(&mut self, lease: Lease, since_ms: u64) -> Result<(), KeepError> {
        let card = self.present()?;
        let place = Place { link: card.index, metric: self.kept.described.metric };
        let before = self.kept.held.as_ref().map(|held| held.lease.clone());
        let held = Held { since_ms, lease };
        let lease = &held.lease;
        let stays = before.as_ref().is_some_and(|before| before.address == lease.address);
        if let Some(before) = before.as_ref().filter(|_| !stays) {
            apply::withdraw(card.index, before.address)?;
        }
        self.set_mtu(&card, lease)?;
        let seconds = held.seconds_left(uptime_ms());
        let refused = match stays {
            false => apply::apply(place, lease, seconds)?,
            // What it has already works better than nothing.
            true => apply::extend(place, lease, seconds)?,
        };
        for error in refused {
            eprintln!("dhcp: {}", chain(&error).join(": "));
        }
        if let Some(before) = before.as_ref().filter(|_| stays) {
            apply::forget_routes(place, before, lease)?;
        }
        let candidate = card.candidate(lease.address.addr());
        self.kept.held = Some(held);
        self.kept.write(&self.root).map_err(failed("the lease cannot be written down"))?;
        self.kept
            .write_resolvers(&self.root, &self.layer.file.network.resolvers)
            .map_err(failed("/etc/resolv.conf cannot be written"))?;
        if !stays {
            let _ = arp::announce(&[candidate]);
            self.tell_of_new(&card, before.as_ref());
        }
        Ok(())
    }

    /// The kernel refuses routes of a larger MTU than the link's, and pods have theirs already.
    fn set_mtu(&self, card: &Card, lease: &Lease) -> Result<(), KeepError> {
        let most = self.kept.described.mtu.unwrap_or(self.layer.file.network.mtu);
        let mtu = lease.mtu.map_or(most, |mtu| mtu.min(most));
        let (_, kept) = links::set_mtu(card.index, &card.name, mtu, lease.mtu)?;
        if let Some(error) = kept {
            eprintln!("dhcp: {}", chain(&error).join(": "));
        }
        Ok(())
    }

    /// What the kernel takes away with a link that is set down: the routes. The server may take its time.
    fn put_back(&self, card: &Card, held: &Held) -> Result<(), KeepError> {
        self.set_mtu(card, &held.lease)?;
        let place = Place { link: card.index, metric: self.kept.described.metric };
        for error in apply::extend(place, &held.lease, held.seconds_left(uptime_ms()))? {
            eprintln!("dhcp: {}", chain(&error).join(": "));
        }
        Ok(())
    }

    fn tell_of_new(&self, card: &Card, before: Option<&Lease>) {
        let Some(Held { lease, .. }) = &self.kept.held else { return };
        println!("{} on {card}", told(lease));
        let now = lease.address.addr();
        if let (true, Some(before), Some(address)) = (self.kept.own, before, self.address)
            && address != IpAddr::V4(now)
        {
            self.tell(&format!(
                "this node's address was {address} when it started, and the DHCP server now lends it {now} instead of {}: \
                 what runs here still has the old one; restart the machine, and reserve its address at the server",
                before.address.addr(),
            ));
        }
    }

    fn tell(&self, line: &str) {
        self.teller.tell(line);
    }
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
