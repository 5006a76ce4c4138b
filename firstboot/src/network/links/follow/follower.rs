//! Waits for changes, and looks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use pod_network::announce;
use rustix::event::{PollFd, PollFlags, poll};

use super::super::cards;
use super::conflicts::{Conflicts, Verdict};
use super::kept::Kept;
use super::links::{Became, Followed};
use super::look::{self, Look};
use super::pace::Pace;
use super::{FollowError, Teller, failed};
use crate::network::arp::{self, Candidate};
use crate::network::netlink::{Change, Changes};
use crate::report::chain;
use crate::stages::modules::{Hotplug, Loaded, ModulesError};
use crate::stages::uevent::timespec;

/// Follows the links of one machine.
pub struct Follower<T> {
    root: PathBuf,
    kept: Kept,
    teller: T,
    changes: Changes,
    arp: arp::Socket,
    /// Loads modules for cards that are plugged in.
    hotplug: Option<Hotplug>,
    pace: Pace,
    look: Look,
    conflicts: Conflicts,
    /// Since when links have no carrier, by their place in a look.
    lost: BTreeMap<usize, Instant>,
    /// What was missing at the last look, as it was told.
    missing: BTreeSet<String>,
}

/// What woke it.
struct Woken {
    changes: bool,
    arp: bool,
    devices: bool,
}

impl<T: Teller> Follower<T> {
    /// Begins to listen, and looks in the first step: what changed before is found by that.
    pub fn open(
        root: &Path,
        kept: Kept,
        hotplug: Option<Hotplug>,
        teller: T,
    ) -> Result<Follower<T>, FollowError> {
        let mut follower = Follower {
            root: root.to_owned(),
            kept,
            teller,
            changes: Changes::open().map_err(failed("changes of the network cannot be heard"))?,
            arp: arp::Socket::open().map_err(failed("no socket for ARP"))?,
            hotplug,
            pace: Pace::new(Instant::now()),
            look: Look::default(),
            conflicts: Conflicts::default(),
            lost: BTreeMap::new(),
            missing: BTreeSet::new(),
        };
        let loaded = follower.hotplug.as_mut().map(Hotplug::load_all);
        follower.tell_loaded(loaded);
        Ok(follower)
    }

    /// Waits until something is to be done, or until `end`, and does it.
    pub fn step(&mut self, end: Option<Instant>) -> Result<(), FollowError> {
        let end = [end, self.pace.due()].into_iter().flatten().min();
        let woken = self.wait(end)?;
        if woken.devices {
            let loaded = self.hotplug.as_mut().map(Hotplug::load_new);
            self.tell_loaded(loaded);
        }
        if woken.changes {
            self.hear_changes()?;
        }
        if woken.arp {
            self.hear_arp()?;
        }
        if self.pace.due().is_some_and(|due| due <= Instant::now()) {
            self.look();
        }
        Ok(())
    }

    fn wait(&self, end: Option<Instant>) -> Result<Woken, FollowError> {
        let mut ready =
            vec![PollFd::new(&self.changes, PollFlags::IN), PollFd::new(&self.arp, PollFlags::IN)];
        ready.extend(
            self.hotplug.as_ref().map(|hotplug| PollFd::from_borrowed_fd(hotplug.as_fd(), PollFlags::IN)),
        );
        let left = end.map(|end| timespec(end.saturating_duration_since(Instant::now())));
        match poll(&mut ready, left.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(failed("waiting failed")(errno.into())),
        }
        let is_ready = |place: usize| ready.get(place).is_some_and(|one| !one.revents().is_empty());
        Ok(Woken { changes: is_ready(0), arp: is_ready(1), devices: is_ready(2) })
    }

    fn hear_changes(&mut self) -> Result<(), FollowError> {
        let changes = self.changes.drain().map_err(failed("changes of the network cannot be heard"))?;
        if changes.contains(&Change::Overflow) {
            self.teller.log("more changes than the kernel keeps: looking at everything");
        }
        if changes.iter().any(|change| self.concerns(change)) {
            self.pace.changed(Instant::now());
        }
        Ok(())
    }

    /// Pods come and go all the time, with links, addresses and routes of their own.
    fn concerns(&self, change: &Change) -> bool {
        let is_followed =
            |index: u32| self.look.followed.iter().any(|followed| followed.index() == Some(index));
        match change {
            Change::Link(link) => {
                let links = std::slice::from_ref(&**link);
                is_followed(link.index)
                    || cards::candidates(links).next().is_some()
                    || self.look.followed.iter().any(|followed| followed.is_called(&link.name))
            }
            Change::Address(index) => is_followed(*index),
            Change::Route(index) => index.is_none_or(is_followed),
            Change::Other | Change::Overflow => true,
        }
    }

    /// Looks at all links, does what is missing, and says what is otherwise than at the last look.
    fn look(&mut self) {
        let look = match Look::take(&self.root, self.kept.wanted.as_ref(), &self.look) {
            Ok(look) => look,
            Err(error) => {
                self.tell_missing([chain(&error).join(": ")].into());
                self.pace.looked(Instant::now(), false, true);
                return;
            }
        };
        let before = std::mem::replace(&mut self.look, look);
        let new = self.compare(&before);
        self.greet(&new);
        let watched: Vec<Candidate> = self.watched().collect();
        self.conflicts
            .keep(|index, address| watched.iter().any(|one| (one.index, one.address) == (index, address)));
        let problems = self.look.problems.iter().map(|problem| problem.chain.join(": "));
        let missing: BTreeSet<String> = problems.collect();
        let is_missing = !missing.is_empty();
        self.tell_missing(missing);
        self.pace.looked(Instant::now(), !self.look.done.is_empty(), is_missing);
    }

    /// Says what was done, and what has become of the links since the look before. The places of those that neighbours are
    /// to be told of.
    fn compare(&mut self, before: &Look) -> Vec<usize> {
        // Loopback is always there.
        let is_first = before.links.is_empty();
        if is_first {
            self.tell_begin();
        }
        // A link that does not become what is wanted was tried several times.
        let mut done = self.look.done.clone();
        done.dedup();
        for what in &done {
            self.teller.log(&format!("mended: {what}"));
        }
        let mut new = Vec::new();
        for place in 0..self.look.followed.len() {
            let (was, now) = (before.followed.get(place), &self.look.followed[place]);
            // What happened before this program began is not known, so it tells the neighbours of everything.
            let became = was.map_or(Some(Became::There), |was| now.since(was));
            let Some(became) = became else { continue };
            if became.is_new_to_neighbours() && now.has_carrier() {
                new.push(place);
            }
            if !is_first {
                let label = was.filter(|_| became == Became::Gone).unwrap_or(now).label();
                self.tell_became(place, &label, became);
            }
        }
        new
    }

    /// Asks whether another machine has taken the addresses of links that were away, as RFC 5227, section 2.1, has it, and
    /// tells the neighbours that they are here.
    fn greet(&mut self, places: &[usize]) {
        let followed: Vec<Followed> =
            places.iter().filter_map(|place| self.look.followed.get(*place)).cloned().collect();
        let candidates: Vec<Candidate> = self.look.candidates(followed.iter()).collect();
        // A socket that cannot be had is told by those that listen.
        let others = arp::probe(&candidates, &self.look.own_macs()).unwrap_or_default();
        for (candidate, other) in candidates.iter().zip(others) {
            if let Some(other) = other {
                // The announcement that follows is the defence.
                self.conflict(*candidate, other);
            }
        }
        for followed in &followed {
            let link = self.look.links.iter().find(|link| Some(link.index) == followed.index());
            let Some(link) = link.filter(|link| link.ethernet) else { continue };
            for address in self.look.present(followed) {
                // Without it neighbours ask again a little later.
                let _ = announce::announce(link.index, link.mac_bytes(), address);
            }
        }
    }

    fn hear_arp(&mut self) -> Result<(), FollowError> {
        let Some((index, heard)) = self.arp.read().map_err(failed("the socket for ARP failed"))? else {
            return Ok(());
        };
        let ours = self.watched().find(|one| one.index == index && heard.has(one.address));
        let Some(ours) = ours.filter(|_| !self.look.own_macs().contains(&heard.sender)) else {
            return Ok(());
        };
        if self.conflict(ours, heard.sender).defend {
            // A link that takes nothing now is as if it were lost on the way.
            let _ = arp::announce(&[ours]);
        }
        Ok(())
    }

    /// IPv4 addresses that another machine must not have.
    fn watched(&self) -> impl Iterator<Item = Candidate> {
        self.look.candidates(self.look.followed.iter())
    }

    fn conflict(&mut self, ours: Candidate, other: [u8; 6]) -> Verdict {
        let verdict = self.conflicts.hear(ours.index, ours.address, other, Instant::now());
        if verdict.tell {
            let mac = other.map(|byte| format!("{byte:02x}")).join(":");
            let has = |followed: &&Followed| followed.index() == Some(ours.index);
            let label = self.look.followed.iter().find(has).map_or(String::new(), Followed::label);
            let line = format!(
                "another machine, {mac}, has the address {} of {label} too: this one keeps and defends it; switch the \
                 other machine off, or give one of the two another address",
                ours.address
            );
            self.tell(self.is_nodes(ours.address), &line);
        }
        verdict
    }

    fn is_nodes(&self, address: Ipv4Addr) -> bool {
        let address = IpAddr::V4(address);
        let given = self.kept.wanted.as_ref().and_then(|wanted| wanted.address);
        given.is_some_and(|given| given.addrs().contains(&address))
            || look::lent(&self.root).iter().any(|lent| lent.own && lent.address.addr() == address)
    }

    fn tell_begin(&mut self) {
        let link = |followed: &Followed| {
            let carrier = match (followed.index(), followed.has_carrier()) {
                (None, _) => "not there",
                (Some(_), true) => "carrier",
                (Some(_), false) => "no carrier",
            };
            format!("{}: {carrier}", followed.label())
        };
        let links: Vec<String> = self.look.followed.iter().map(link).collect();
        let links = if links.is_empty() { "none".to_owned() } else { links.join(", ") };
        self.teller.log(&format!("follows the links ({links})"));
    }

    fn tell_became(&mut self, place: usize, label: &str, became: Became) {
        let (followed, now) = (&self.look.followed[place], Instant::now());
        let since = self.lost.get(&place).map(|lost| now.saturating_duration_since(*lost).as_secs());
        let after = since.map_or(String::new(), |seconds| format!(" after {seconds} s"));
        let line = match became {
            Became::Gone => format!("{label} is gone"),
            Became::There if followed.has_carrier() => format!("{label} is there{after}"),
            Became::There => format!("{label} is there, without a carrier"),
            Became::Lost => format!("carrier lost on {label}"),
            Became::Back => format!("carrier on {label}{after}"),
            Became::Blinked => format!("the carrier of {label} was gone for a moment"),
        };
        if followed.has_carrier() {
            self.lost.remove(&place);
        } else if became != Became::There {
            self.lost.insert(place, now);
        }
        let is_nodes = followed.is_nodes && became != Became::Blinked;
        let whose = if is_nodes { ", which has this node's address" } else { "" };
        self.tell(is_nodes, &format!("{line}{whose}"));
    }

    /// What was told at the last look is not told again.
    fn tell_missing(&mut self, missing: BTreeSet<String>) {
        for what in missing.difference(&self.missing) {
            self.teller.log(&format!("missing: {what}"));
        }
        self.missing = missing;
    }

    fn tell_loaded(&mut self, loaded: Option<Result<Loaded, ModulesError>>) {
        match loaded {
            None => {}
            Some(Ok(Loaded { modules, problems })) => {
                if !modules.is_empty() {
                    self.teller.log(&format!("modules for new devices: {}", modules.join(", ")));
                }
                for problem in problems {
                    self.teller.log(&problem.chain.join(": "));
                }
            }
            // The links are followed all the same.
            Some(Err(error)) => self.teller.log(&chain(&error).join(": ")),
        }
    }

    fn tell(&mut self, is_nodes: bool, line: &str) {
        self.teller.log(line);
        if is_nodes {
            self.teller.console(line);
        }
    }
}
