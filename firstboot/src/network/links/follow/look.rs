//! One look at all links: what the plan misses is done, without waiting for a carrier.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use ipnet::IpNet;

use super::super::apply::Work;
use super::super::error::request;
use super::super::plan::{self, Plan};
use super::super::{LinkError, Wanted};
use super::links::Followed;
use crate::network::arp::Candidate;
use crate::network::dhcp::kept::Kept as Lease;
use crate::network::dhcp6;
use crate::network::netlink::{Link, Netlink, parse_mac};
use crate::stages::Problem;

/// What was found and done.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// All links of the machine, as they are now.
    pub links: Vec<Link>,
    /// Those that are described, or have a lent address, in a fixed order.
    pub followed: Vec<Followed>,
    /// Requests that changed something, as in "set eth0 up".
    pub done: Vec<String>,
    /// What is missing still, and why.
    pub problems: Vec<Problem>,
    /// Places of links that never become what is wanted: to set them again would only take them down for a moment.
    pub hopeless: BTreeSet<usize>,
    addresses: Vec<(u32, IpNet)>,
}

impl Look {
    /// Does what is missing. A link without a carrier gets no address that it does not have: nobody could be asked
    /// whether another machine has it, and it can do nothing with it. Those that were hopeless `before` are left alone.
    pub fn take(root: &Path, wanted: Option<&Wanted>, before: &Look) -> Result<Look, LinkError> {
        let applied = wanted.map(|wanted| Applied::by(root, wanted, &before.hopeless)).transpose()?;
        let mut netlink = Netlink::open().map_err(|source| request("open a netlink socket", source))?;
        let links = netlink.links().map_err(|source| request("list the links", source))?;
        let addresses = netlink.addresses().map_err(|source| request("list the addresses", source))?;
        let lent = lent(root);
        let Some(applied) = applied else {
            let followed = of_lent(&lent, &links);
            return Ok(Look { links, followed, addresses, ..Look::default() });
        };
        let planned = applied.plan.links.iter().zip(&applied.indexes).enumerate();
        let followed = planned.map(|(place, (planned, index))| {
            let (described, is_nodes) = (&planned.link, place == applied.plan.node);
            let name = links.iter().find(|link| Some(link.index) == *index).map(|link| link.name.as_str());
            let lent = lent.iter().filter(|lent| Some(lent.link.as_str()) == name).map(|lent| lent.address);
            let addresses = described.addresses.iter().copied().chain(lent).collect();
            Followed::new(&described.name, is_nodes, addresses, &links, *index)
        });
        let followed = followed.collect();
        let Applied { done, problems, hopeless, .. } = applied;
        Ok(Look { links, followed, addresses, done, problems, hopeless })
    }

    /// The addresses of a followed link that it has now.
    pub fn present(&self, followed: &Followed) -> impl Iterator<Item = IpAddr> {
        let has = move |address: &&IpNet| {
            self.addresses
                .iter()
                .any(|(index, one)| Some(*index) == followed.index() && one.addr() == address.addr())
        };
        followed.addresses.iter().filter(has).map(|address| address.addr())
    }

    /// The IPv4 addresses that the links have now, for ARP.
    pub fn candidates<'a>(
        &'a self,
        followed: impl Iterator<Item = &'a Followed>,
    ) -> impl Iterator<Item = Candidate> {
        followed.flat_map(move |followed| {
            self.present(followed).filter_map(move |address| {
                let link =
                    self.links.iter().find(|link| Some(link.index) == followed.index() && link.ethernet)?;
                let IpAddr::V4(address) = address else { return None };
                let address = Some(address).filter(|address| *address != Ipv4Addr::UNSPECIFIED)?;
                Some(Candidate { index: link.index, mac: link.mac_bytes()?, address })
            })
        })
    }

    /// MACs of this machine: those that its links have now, and those that cards were made with.
    pub fn own_macs(&self) -> Vec<[u8; 6]> {
        let made_with = |link: &Link| parse_mac(link.permanent_mac.as_deref()?);
        self.links.iter().flat_map(|link| [link.mac_bytes(), made_with(link)]).flatten().collect()
    }
}

/// An address that nobody described. The service that renews it does what is to be done.
pub(super) struct Lent {
    link: String,
    /// It is the node's own.
    pub own: bool,
    /// What.
    pub address: IpNet,
}

/// What servers and routers gave. What is damaged is told by the service that keeps it.
pub(super) fn lent(root: &Path) -> Vec<Lent> {
    let leases = Lease::all(root).unwrap_or_default();
    let four = leases.into_iter().filter_map(|lease| {
        Some(Lent { link: lease.link, own: lease.own, address: lease.held?.lease.address.into() })
    });
    let six = dhcp6::kept::Kept::all(root).unwrap_or_default();
    let six = six
        .into_iter()
        .filter_map(|kept| Some(Lent { link: kept.link, own: kept.own, address: kept.held?.address.into() }));
    four.chain(six).collect()
}

/// The links of lent addresses, where nobody describes any.
fn of_lent(lent: &[Lent], links: &[Link]) -> Vec<Followed> {
    let names: BTreeSet<&str> = lent.iter().map(|lent| lent.link.as_str()).collect();
    let followed = names.into_iter().map(|name| {
        let on_link = || lent.iter().filter(|lent| lent.link == name);
        let index = links.iter().find(|link| link.name == name).map(|link| link.index);
        let addresses = on_link().map(|lent| lent.address).collect();
        Followed::new(name, on_link().any(|lent| lent.own), addresses, links, index)
    });
    followed.collect()
}

/// What was done about a plan.
struct Applied {
    plan: Plan,
    /// Of its links, where they are there.
    indexes: Vec<Option<u32>>,
    done: Vec<String>,
    problems: Vec<Problem>,
    hopeless: BTreeSet<usize>,
}

impl Applied {
    fn by(root: &Path, wanted: &Wanted, hopeless: &BTreeSet<usize>) -> Result<Applied, LinkError> {
        let mut work = Work::new(root, plan::plan(wanted)?, false)?;
        for &place in hopeless {
            work.states[place].given_up = true;
        }
        work.loopback_up()?;
        // It ends: a link that never becomes what is wanted is given up after some rounds.
        let links = loop {
            let links = work.links()?;
            if !work.shape_all(&links)? {
                break links;
            }
        };
        for &place in hopeless {
            work.states[place].index = work.find(place, &links)?.map(|link| link.index);
        }
        let link = |work: &Work<'_>, place: usize| {
            let state = &work.states[place];
            links.iter().find(|link| Some(link.index) == state.index && !state.given_up)
        };
        let there = (0..work.states.len()).filter(|&place| link(&work, place).is_some_and(|link| link.up));
        let (with_carrier, without): (Vec<usize>, Vec<usize>) =
            there.partition(|&place| link(&work, place).is_some_and(|link| link.carrier));
        work.address(&links, &with_carrier, true)?;
        let missing = work.missing_addresses(&without)?;
        let is_complete = |place: &usize| missing.iter().all(|(missing, ..)| missing != place);
        // Where an address is missing the kernel refuses routes that need it.
        let ready: Vec<usize> =
            with_carrier.into_iter().chain(without.into_iter().filter(is_complete)).collect();
        work.routes_and_rules(&ready)?;
        let indexes = work.states.iter().map(|state| state.index).collect();
        let not_taken = (0..work.states.len()).filter(|&place| work.states[place].not_taken);
        let hopeless = hopeless.iter().copied().chain(not_taken).collect();
        Ok(Applied { plan: work.plan, indexes, done: work.done, problems: work.problems, hopeless })
    }
}
