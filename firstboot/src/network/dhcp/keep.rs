//! `firstboot dhcp`: keeps the lease that PID 1 got (RFC 2131, section 4.4.5).
//!
//! A service in the images of workers; on a machine whose address is from elsewhere it is not started. It may be started
//! again at any time: what it needs is in [`Held`] and in the facts.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use bootwright_model::baked::ClusterLayer;
use bootwright_model::families::Family;
use bootwright_model::node::NodeFacts;
use socket2::{Domain, Protocol, Socket, Type};

use super::acquire::{Card, Lent, Search, told};
use super::apply::{self, ApplyError, Place};
use super::held::{Held, Phase};
use super::lease::Lease;
use super::message::{Answer, Ask, Client};
use super::packet::{self, CLIENT_PORT, SERVER_PORT};
use super::{random, taken};
use crate::bootstrap::{self, BootstrapError};
use crate::network::arp;
use crate::network::links::{self, LinkError};
use crate::network::netlink::Netlink;
use crate::report::{Consoles, chain, uptime_ms};
use crate::stages::Advice;

/// Shortest pause between two requests that are not answered (RFC 2131, section 4.4.5).
const SHORTEST_PAUSE_MS: u64 = 60_000;
/// How long one search for a new lease lasts before it is told what was seen, and begins again.
const SEARCH: Duration = Duration::from_secs(300);
/// Between two searches: one on a card that is gone ends at once.
const BREATH: Duration = Duration::from_secs(1);

/// What ends the service; it is started again.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The facts.
    #[error(transparent)]
    Facts(#[from] BootstrapError),
    /// The lease.
    #[error("the lease that first boot wrote is missing or damaged; restart the machine")]
    Lease(#[source] Option<io::Error>),
    /// The link.
    #[error("there is no link {0} any more")]
    Link(String),
    /// The kernel.
    #[error("the lease cannot be applied")]
    Apply(#[from] ApplyError),
    /// The network lets less through than the link sends.
    #[error("the link does not take the MTU")]
    Mtu(#[from] LinkError),
    /// A socket, or a file.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
}

pub(crate) fn failed(what: &'static str) -> impl FnOnce(io::Error) -> KeepError {
    move |source| KeepError::Io { what, source }
}

/// Runs as a program below `root` (`/` on a node), and ends only if it cannot go on.
pub fn main(root: &Path) -> ExitCode {
    let Err(error) = run(root);
    bootstrap::tell("dhcp", Err(error))
}

fn run(root: &Path) -> Result<Infallible, KeepError> {
    let mut keeper = Keeper::open(root, &bootstrap::read_facts(root)?)?;
    loop {
        keeper.step()?;
    }
}

/// Holds one lease.
pub struct Keeper {
    root: PathBuf,
    card: Card,
    client: Client,
    held: Held,
    /// What everything on the node was made from when it started.
    address: Option<IpAddr>,
    /// With the MTU of the cluster file, or less if the lease or the link had less then.
    layer: ClusterLayer,
    consoles: Consoles,
}

/// How asking for more time ended.
enum Asked {
    Renewed(Lease, u64),
    Lost(&'static str),
}

impl Keeper {
    /// Takes up what is held. Changes nothing.
    pub fn open(root: &Path, facts: &NodeFacts) -> Result<Keeper, KeepError> {
        let held = Held::read(root).map_err(|error| KeepError::Lease(Some(error)))?;
        let held = held.ok_or(KeepError::Lease(None))?;
        let card = card(&held.link)?;
        Ok(Keeper {
            root: root.to_owned(),
            client: Client::on(root, &card, &facts.name),
            card,
            held,
            address: facts.address.of(Family::V4).map(|address| address.addr()),
            layer: facts.layer.clone(),
            consoles: Consoles::find(root),
        })
    }

    /// What is held.
    pub fn held(&self) -> &Held {
        &self.held
    }

    /// Waits until the lease has to be renewed, and renews it, or gets another one.
    pub fn step(&mut self) -> Result<(), KeepError> {
        let (lease, since_ms) = match self.renew()? {
            Asked::Renewed(lease, since_ms) => (lease, since_ms),
            Asked::Lost(why) => {
                eprintln!("dhcp: {} is lost: {why}", self.held.lease.address);
                // Nobody may answer at it from now on.
                apply::withdraw(self.card.index, self.held.lease.address)?;
                self.search()
            }
        };
        self.install(lease, since_ms)
    }

    fn renew(&self) -> Result<Asked, KeepError> {
        loop {
            let now = uptime_ms();
            let (server, until) = match self.held.phase(now) {
                Phase::Rest(None) => {
                    std::thread::park();
                    continue;
                }
                Phase::Rest(Some(until)) => {
                    std::thread::sleep(Duration::from_millis(until - now));
                    continue;
                }
                Phase::Renew(until) => (self.held.lease.server, until),
                Phase::Rebind(until) => (Ipv4Addr::BROADCAST, until),
                Phase::Ended => return Ok(Asked::Lost("its time is over, and no server answers")),
            };
            // Half of what is left, as the RFC says.
            let pause = ((until - now) / 2).max(SHORTEST_PAUSE_MS).min(until - now);
            match self.ask(server, pause)? {
                Some(Answer::Acknowledgement(lease)) => {
                    let other = lease.address.addr() != self.held.lease.address.addr();
                    // Nobody has looked whether another machine has that one: a search does.
                    return Ok(match other {
                        true => Asked::Lost("the server lends another address"),
                        false => Asked::Renewed(lease, now),
                    });
                }
                Some(Answer::Refusal { .. }) => {
                    return Ok(Asked::Lost("the server does not lend it any more"));
                }
                _ => {}
            }
        }
    }

    /// One request, and the answer to it if one comes before the pause is over.
    fn ask(&self, server: Ipv4Addr, pause_ms: u64) -> Result<Option<Answer>, KeepError> {
        let end = Instant::now() + Duration::from_millis(pause_ms);
        let socket = self.socket().map_err(failed("no socket to ask the server with"))?;
        let transaction = random();
        let address = self.held.lease.address.addr();
        let message = self.client.write(Ask::Keep { address }, transaction, 0);
        let sent = socket.send_to(&message, &SocketAddrV4::new(server, SERVER_PORT).into());
        if let Err(error) = sent {
            // The cable is out, or no way leads there: there is time to come back to it.
            eprintln!("dhcp: {server} cannot be asked: {error}");
        }
        while Instant::now() < end {
            let received = packet::receive(&socket, end).map_err(failed("the socket failed"))?;
            let Some(bytes) = received else { continue };
            match self.client.read(&bytes, transaction) {
                Ok(Some(Answer::Offer(_)) | None) => {}
                Ok(answer) => return Ok(answer),
                Err(why) => eprintln!("dhcp: an answer of no use: {why}"),
            }
        }
        Ok(None)
    }

    /// On the link of the lease, whose address the kernel sends from. Not bound to that: refusals go to everybody.
    fn socket(&self) -> io::Result<Socket> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_reuse_address(true)?;
        socket.set_broadcast(true)?;
        socket.set_nonblocking(true)?;
        socket.bind_device(Some(self.card.name.as_bytes()))?;
        socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT).into())?;
        Ok(socket)
    }

    /// A new lease that can be used in this cluster, however long it takes.
    fn search(&mut self) -> (Lease, u64) {
        let stop = AtomicBool::new(false);
        let begin = Instant::now();
        let (refused, mut last) = (RefCell::new(None), String::new());
        loop {
            let end = Instant::now() + SEARCH;
            let usable = |lease: &Lease| {
                taken::check(lease, &self.layer).inspect_err(|why| {
                    // Once, as the server may lend it again and again.
                    if refused.replace(Some(why.clone())).as_ref() != Some(why) {
                        self.tell(&format!("{why}: {}", why.advice()));
                    }
                })
            };
            let (card, client) = (&self.card, &self.client);
            match (Search { card, client, end, stop: &stop, usable: &usable }).run() {
                Ok(Lent { lease, since_ms, .. }) => return (lease, since_ms),
                Err(seen) => {
                    let seen = seen.to_string();
                    // A card that is gone is gone a second later, too.
                    if Instant::now() >= end || seen != last {
                        let seconds = begin.elapsed().as_secs();
                        self.tell(&format!("{card}: no lease for {seconds} s: {seen}"));
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
        if found == self.card {
            return;
        }
        if let Some(accept) = self.held.described.accept_ra
            && let Err(error) = links::set_accept_ra(&self.root, &found.name, accept)
        {
            eprintln!("dhcp: {}", chain(&error).join(": "));
        }
        let up = Netlink::open().and_then(|mut netlink| netlink.set_up(found.index, true));
        if let Err(error) = up {
            eprintln!("dhcp: {found} cannot be set up: {error}");
        }
        self.client = Client::on(&self.root, &found, &self.client.host_name);
        self.card = found;
    }

    fn install(&mut self, lease: Lease, since_ms: u64) -> Result<(), KeepError> {
        let index = self.card.index;
        let place = Place { link: index, metric: self.held.described.metric };
        let before = std::mem::replace(&mut self.held.lease, lease);
        self.held.since_ms = since_ms;
        let lease = &self.held.lease;
        let moved = before.address != lease.address;
        if moved {
            apply::withdraw(index, before.address)?;
        }
        // The kernel refuses routes of a larger MTU than the link's, and pods have theirs already.
        let most = self.layer.file.network.mtu;
        let mtu = lease.mtu.map_or(most, |mtu| mtu.min(most));
        let (_, kept) = links::set_mtu(index, &self.card.name, mtu, lease.mtu)?;
        if let Some(error) = kept {
            eprintln!("dhcp: {}", chain(&error).join(": "));
        }
        let seconds = self.held.seconds_left(uptime_ms());
        let refused = match moved {
            true => apply::apply(place, lease, seconds)?,
            // What it has already works better than nothing.
            false => apply::extend(place, lease, seconds)?,
        };
        for error in refused {
            eprintln!("dhcp: {}", chain(&error).join(": "));
        }
        if !moved {
            apply::forget_routes(place, &before, lease)?;
        }
        self.held.write(&self.root).map_err(failed("the lease cannot be written down"))?;
        apply::write_resolvers(&self.root, &self.held, &self.layer.file.network.resolvers)
            .map_err(failed("/etc/resolv.conf cannot be written"))?;
        if moved {
            let _ = arp::announce(&[self.card.candidate(lease.address.addr())]);
            self.tell_of_new(&before);
        }
        Ok(())
    }

    fn tell_of_new(&self, before: &Lease) {
        let lease = &self.held.lease;
        println!("{} on {}", told(lease), self.card);
        if let Some(address) = self.address.filter(|address| *address != IpAddr::V4(lease.address.addr())) {
            self.tell(&format!(
                "this node's address was {address} when it started, and the DHCP server now lends it {} instead of {}: \
                 what runs here still has the old one; restart the machine, and reserve its address at the server",
                lease.address.addr(),
                before.address.addr(),
            ));
        }
    }

    /// On the consoles, and in the service's log.
    fn tell(&self, line: &str) {
        eprintln!("dhcp: {line}");
        self.consoles.write(&format!("dhcp: {line}"));
    }
}

pub(crate) fn card(name: &str) -> Result<Card, KeepError> {
    let links =
        Netlink::open().and_then(|mut netlink| netlink.links()).map_err(failed("links cannot be listed"))?;
    let link = links.into_iter().find(|link| link.name == name);
    link.and_then(|link| Card::of(&link)).ok_or_else(|| KeepError::Link(name.to_owned()))
}
