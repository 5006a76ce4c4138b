//! From the plan to the kernel: looks at what is there, does what is missing, and looks again until nothing is.

use std::path::Path;
use std::time::{Duration, Instant};

use bootwright_model::links::Link as Described;

use super::error::request;
use super::plan::{Plan, Planned};
use super::{CARRIER_PATIENCE, Configured, LINK_PATIENCE, LinkError, asking, autoconf, cards, device};
use crate::network::netlink::{Link, LinkChanges, Made, Netlink, parse_mac};
use crate::stages::{Problem, problem};

/// More looks at a link that never becomes what is wanted are of no use. A bond with members takes five.
const MOST_ROUNDS: u32 = 20;
/// A bridge's delay if none is described (`forward_delay` of the kernel).
const FORWARD_DELAY_SECONDS: u32 = 15;

/// What is known of a link of the plan.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Index in the kernel, once it is there.
    pub index: Option<u32>,
    /// When it was set up.
    pub up_since: Option<Instant>,
    /// It has its addresses.
    pub addressed: bool,
    /// The kernel refused something, and the node goes on without.
    pub given_up: bool,
    /// It never became what is wanted.
    pub not_taken: bool,
    rounds: u32,
}

/// The work on one plan.
pub(super) struct Work<'a> {
    root: &'a Path,
    pub plan: Plan,
    pub netlink: Netlink,
    pub states: Vec<State>,
    /// Requests that changed something, as in "set eth0 up".
    pub done: Vec<String>,
    pub problems: Vec<Problem>,
    began: Instant,
    /// What the node cannot be without is an error, and no problem.
    pub strict: bool,
}

/// Applies a plan.
pub(super) fn apply(root: &Path, plan: Plan) -> Result<Configured, LinkError> {
    let mut events = LinkChanges::open().map_err(|source| request("listen for links", source))?;
    let mut work = Work::new(root, plan, true)?;
    work.problems = work.plan.changed.iter().map(problem).collect();
    work.loopback_up()?;
    let online = work.settle(&mut events)?;
    let links = work.links()?;
    work.without_carrier(&links)?;
    let all: Vec<usize> = (0..work.states.len()).collect();
    work.routes_and_rules(&all)?;
    let node = work.plan.node;
    let index = work.states[node].index;
    let Some(link) = links.iter().find(|link| Some(link.index) == index) else {
        return Err(work.why_missing(&links, node));
    };
    let indices: Vec<Option<u32>> = work.states.iter().map(|state| state.index).collect();
    Ok(Configured {
        link: link.name.clone(),
        mac: link.mac.clone().unwrap_or_default(),
        mtu: link.mtu,
        online,
        changes: work.done.len(),
        problems: std::mem::take(&mut work.problems),
        asking: asking::found(&work.plan, &work.plan.asking, &links, &indices),
        asking_ipv6: asking::found(&work.plan, &work.plan.asking_ipv6, &links, &indices),
    })
}

impl<'a> Work<'a> {
    /// Nothing is looked at yet.
    pub fn new(root: &'a Path, plan: Plan, strict: bool) -> Result<Work<'a>, LinkError> {
        let netlink = Netlink::open().map_err(|source| request("open a netlink socket", source))?;
        let states = plan.links.iter().map(|_| State::default()).collect();
        let (done, problems, began) = (Vec::new(), Vec::new(), Instant::now());
        Ok(Work { root, plan, netlink, states, done, problems, began, strict })
    }

    pub fn links(&mut self) -> Result<Vec<Link>, LinkError> {
        self.netlink.links().map_err(|source| request("list the links", source))
    }

    pub fn loopback_up(&mut self) -> Result<(), LinkError> {
        let links = self.links()?;
        match links.iter().find(|link| link.name == "lo") {
            Some(link) if !link.up => {
                self.netlink.set_up(link.index, true).map_err(|source| request("set lo up", source))?;
                self.done.push("set lo up".to_owned());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Until every link that is waited for has its addresses, or its time is over. How long the node's own took.
    fn settle(&mut self, events: &mut LinkChanges) -> Result<Option<Duration>, LinkError> {
        let mut online = None;
        loop {
            let links = self.links()?;
            if self.shape_all(&links)? {
                continue;
            }
            let has_carrier = |state: &State| {
                links.iter().any(|link| Some(link.index) == state.index && link.carrier && link.up)
            };
            let ready: Vec<usize> = (0..self.states.len())
                .filter(|&place| !self.states[place].addressed && has_carrier(&self.states[place]))
                .collect();
            self.address(&links, &ready, true)?;
            if online.is_none() && self.states[self.plan.node].addressed {
                online = Some(self.began.elapsed());
            }
            let Some(end) = self.next_deadline() else { return Ok(online) };
            events.wait(end).map_err(|source| request("listen for links", source))?;
        }
    }

    /// When the next of the links that are waited for has had its time; nothing if none is left.
    fn next_deadline(&self) -> Option<Instant> {
        let now = Instant::now();
        let waited_for = |place: usize| {
            let (planned, state) = (&self.plan.links[place], &self.states[place]);
            let master_works = planned.master.is_some_and(|master| self.states[master].addressed);
            if planned.link.optional || state.addressed || state.given_up || master_works {
                return None;
            }
            match (state.index, state.up_since) {
                (Some(_), Some(_)) if planned.master.is_some() => None,
                (Some(_), Some(since)) => Some(since + patience(planned)),
                _ => Some(self.began + LINK_PATIENCE),
            }
        };
        (0..self.states.len()).filter_map(waited_for).filter(|end| *end > now).min()
    }

    /// One round over all links; true if there must be another: something was changed, so that what is there must be asked
    /// for again, or a link was found that others wait for.
    pub fn shape_all(&mut self, links: &[Link]) -> Result<bool, LinkError> {
        let found = |states: &[State]| states.iter().filter(|state| state.index.is_some()).count();
        let found_before = found(&self.states);
        let mut changed = false;
        for place in 0..self.states.len() {
            if self.states[place].given_up {
                continue;
            }
            match self.shape(place, links) {
                Ok(None) => {}
                Ok(Some(what)) => {
                    changed = true;
                    self.done.push(what.clone());
                    self.states[place].rounds += 1;
                    if self.states[place].rounds > MOST_ROUNDS {
                        self.states[place].not_taken = true;
                        let link = self.plan.links[place].link.name.clone();
                        self.give_up(place, LinkError::NotTaken { link, what })?;
                    }
                }
                Err(error) => self.give_up(place, error)?,
            }
        }
        Ok(changed || found(&self.states) > found_before)
    }

    /// The boot ends if the node's address depends on the link, and goes on without it else.
    fn give_up(&mut self, place: usize, error: LinkError) -> Result<(), LinkError> {
        if self.strict && self.plan.links[place].carries_node {
            return Err(error);
        }
        self.states[place].given_up = true;
        self.problems.push(problem(&error));
        Ok(())
    }

    /// Does the first thing that the link misses, and says what that was.
    fn shape(&mut self, place: usize, links: &[Link]) -> Result<Option<String>, LinkError> {
        let Some(present) = self.find(place, links)? else { return self.make(place) };
        self.states[place].index = Some(present.index);
        let planned = &self.plan.links[place];
        let (index, name) = (present.index, present.name.clone());
        let step = |what: String| {
            let told = what.clone();
            (what, move |source| request(&told, source))
        };
        if let Some((kind, wanted)) = device::wanted(&planned.link, self.primary(place, links))
            && let Some(missing) = device::missing(&wanted, present.data.as_ref())
        {
            let (what, failed) = step(format!("set {missing:?} on {name}"));
            if present.up && device::needs_down(&missing) {
                self.netlink.set_up(index, false).map_err(&failed)?;
            }
            self.netlink.change_data(index, kind, missing).map_err(failed)?;
            return Ok(Some(what));
        }
        if let Some(mac) = made_mac(&planned.link).filter(|mac| Some(*mac) != present.mac_bytes()) {
            let (what, failed) = step(format!("give {name} its MAC address"));
            self.netlink.set_mac(index, mac).map_err(failed)?;
            return Ok(Some(what));
        }
        if let Some(master) = planned.master {
            // Not set up before: a bond takes links that are down only.
            let Some(master_index) = self.states[master].index else { return Ok(None) };
            if present.master != Some(master_index) {
                let master = &self.plan.links[master].link;
                let (what, failed) = step(format!("make {name} a member of {}", master.name));
                if master.bond.is_some() && present.up {
                    self.netlink.set_up(index, false).map_err(&failed)?;
                }
                self.netlink.set_master(index, master_index).map_err(failed)?;
                return Ok(Some(what));
            }
        }
        let mtu = u32::from(planned.mtu);
        // What is less on a link that is in use, or was, came with its lease.
        let asks = self.plan.asks_on(place);
        let is_lent = asks && (present.up || !self.strict) && present.mtu < mtu;
        if present.mtu != mtu && !is_lent {
            let (what, failed) = step(format!("set the MTU of {name} to {mtu} bytes"));
            self.netlink.set_mtu(index, mtu).map_err(failed)?;
            return Ok(Some(what));
        }
        if let Some(accept) = planned.link.accept_ra {
            let (what, failed) = step(format!("set accept_ra of {name}"));
            if autoconf::accept_ra(self.root, &name, accept, planned.ra_metric).map_err(failed)? {
                return Ok(Some(what));
            }
        }
        if !present.up {
            let (what, failed) = step(format!("set {name} up"));
            self.netlink.set_up(index, true).map_err(failed)?;
            return Ok(Some(what));
        }
        self.states[place].up_since.get_or_insert_with(Instant::now);
        Ok(None)
    }

    /// The link as it is, or nothing as long as there is none.
    pub fn find<'l>(&self, place: usize, links: &'l [Link]) -> Result<Option<&'l Link>, LinkError> {
        let described = &self.plan.links[place].link;
        if let Some(index) = self.states[place].index {
            return Ok(links.iter().find(|link| link.index == index));
        }
        let Some((kind, _)) = device::wanted(described, None) else {
            return match cards::choose(self.root, links, described, self.plan.address) {
                Ok(link) => Ok(Some(link)),
                Err(error @ (LinkError::Ambiguous { .. } | LinkError::Several { .. })) => Err(error),
                // It may come yet.
                Err(_) => Ok(None),
            };
        };
        let Some(link) = links.iter().find(|link| link.name == described.name) else { return Ok(None) };
        if link.kind.as_ref() != Some(&kind) {
            let there = link.kind.as_ref().map_or("a card".to_owned(), |kind| format!("a {kind}"));
            return Err(LinkError::Taken { link: link.name.clone(), kind: there });
        }
        Ok(Some(link))
    }

    /// Makes the device, unless it is a card or what it lies on is not there.
    fn make(&mut self, place: usize) -> Result<Option<String>, LinkError> {
        let described = &self.plan.links[place].link;
        let Some((kind, data)) = device::wanted(described, None) else { return Ok(None) };
        let mut parent = None;
        if let Some(vlan) = &described.vlan {
            parent = self.plan.place(&vlan.link).and_then(|place| self.states[place].index);
            if parent.is_none() {
                return Ok(None);
            }
        }
        let what = format!("make the {kind} {}", described.name);
        let made = Made { name: described.name.clone(), kind, data, parent, mac: made_mac(described) };
        self.netlink.make_link(&made).map_err(|source| request(&what, source))?;
        Ok(Some(what))
    }

    /// Index of the member that a bond prefers, once it is a member.
    fn primary(&self, place: usize, links: &[Link]) -> Option<u32> {
        let primary = self.plan.links[place].link.bond.as_ref()?.primary.as_ref()?;
        let member = self.states[self.plan.place(primary)?].index?;
        let bond = self.states[place].index?;
        links.iter().any(|link| link.index == member && link.master == Some(bond)).then_some(member)
    }

    /// What is left when the time is over: addresses work as soon as there is a carrier, and the report says what is
    /// missing.
    fn without_carrier(&mut self, links: &[Link]) -> Result<(), LinkError> {
        let left: Vec<usize> =
            (0..self.states.len()).filter(|&place| !self.states[place].addressed).collect();
        for &place in &left {
            let (planned, state) = (&self.plan.links[place], &self.states[place]);
            // Who asks a server there says what became of it.
            let asks = self.plan.asks_on(place);
            if planned.link.optional || state.given_up {
                continue;
            }
            let found = links.iter().find(|link| Some(link.index) == state.index);
            let error = match found {
                Some(_) if asks => continue,
                Some(link) if planned.master.is_none() => LinkError::NoCarrier {
                    link: link.name.clone(),
                    mac: link.mac.clone().unwrap_or_default(),
                    patience: patience(planned),
                },
                Some(_) => continue,
                None if place == self.plan.node => return Err(self.why_missing(links, place)),
                // Said of the link that it lies on.
                None if planned.link.vlan.is_some() => continue,
                None => self.why_missing(links, place),
            };
            self.problems.push(problem(&error));
        }
        let there: Vec<usize> =
            left.into_iter().filter(|&place| self.states[place].index.is_some()).collect();
        self.address(links, &there, false)
    }

    /// The card that is missing, of a link or of those that it lies on.
    fn why_missing(&self, links: &[Link], place: usize) -> LinkError {
        let mut described = &self.plan.links[place].link;
        // As deep as there are links.
        for _ in 0..self.plan.links.len() {
            let below = described.vlan.as_ref().and_then(|vlan| self.plan.place(&vlan.link));
            let Some(below) = below else { break };
            described = &self.plan.links[below].link;
        }
        match cards::choose(self.root, links, described, self.plan.address) {
            Err(error) => error,
            Ok(link) => LinkError::NotTaken { link: link.name.clone(), what: "it went away".to_owned() },
        }
    }
}

/// How long a carrier may take.
fn patience(planned: &Planned) -> Duration {
    let link = &planned.link;
    let up_delay = link.bond.as_ref().and_then(|bond| bond.up_delay).unwrap_or(0);
    let learning = match &link.bridge {
        // Listening and learning.
        Some(bridge) if bridge.stp => bridge.forward_delay.unwrap_or(FORWARD_DELAY_SECONDS).saturating_mul(2),
        _ => 0,
    };
    CARRIER_PATIENCE + Duration::from_millis(u64::from(up_delay)) + Duration::from_secs(u64::from(learning))
}

/// The MAC that a device is made with. That of a card says which one is meant.
fn made_mac(link: &Described) -> Option<[u8; 6]> {
    device::wanted(link, None)?;
    parse_mac(link.mac.as_deref()?)
}
