//! What links are for: addresses that nobody else has, routes, and the rules that choose them.

use std::net::{IpAddr, Ipv4Addr};

use bootwright_model::families::Family;
use bootwright_model::links::{Route as DescribedRoute, Rule};
use ipnet::IpNet;

use super::LinkError;
use super::apply::Work;
use super::error::request;
use super::metrics;
use crate::network::arp::{self, Candidate};
use crate::network::netlink::{Link, Route};
use crate::stages::problem;

impl Work<'_> {
    /// Gives the links at `places` the addresses that they miss, and the routes that are possible then. With `probe`
    /// they have a carrier, and an IPv4 address that another machine has is not used.
    pub fn address(&mut self, links: &[Link], places: &[usize], probe: bool) -> Result<(), LinkError> {
        // At each change of any link: the kernel is asked only if there is something to do.
        if places.is_empty() {
            return Ok(());
        }
        let missing = self.missing_addresses(places)?;
        let candidates: Vec<Candidate> = missing
            .iter()
            .filter_map(|(_, index, address)| candidate(links, *index, address.addr()))
            .collect();
        let taken = if probe { self.probe(links, &candidates) } else { vec![None; candidates.len()] };
        let mut given = Vec::new();
        for (place, index, address) in missing {
            let name = || self.plan.links[place].link.name.clone();
            let name =
                links.iter().find(|link| link.index == index).map_or_else(name, |link| link.name.clone());
            let same =
                |candidate: &Candidate| candidate.index == index && candidate.address == address.addr();
            let number = candidates.iter().position(same);
            if let Some(mac) = number.and_then(|number| taken[number]) {
                self.conflict(address.addr(), name, mac)?;
                continue;
            }
            let added = self.netlink.add_address(index, address);
            if let Err(source) = added {
                let error = request(&format!("give {name} the address {address}"), source);
                self.refused(error, self.is_nodes(address.addr()))?;
                continue;
            }
            self.done.push(format!("give {name} the address {address}"));
            given.extend(number.map(|number| candidates[number]));
        }
        if probe {
            // Without it neighbours ask again a little later.
            let _ = arp::announce(&given);
        }
        for &place in places {
            self.states[place].addressed = true;
        }
        // One may need an address of a link that is not there yet: refusals count at the end.
        self.routes(places).map(drop)
    }

    /// The MACs of other machines that have the addresses. Where nobody can be asked the addresses are used all the same,
    /// as they are on a link without a carrier.
    fn probe(&mut self, links: &[Link], candidates: &[Candidate]) -> Vec<Option<[u8; 6]>> {
        let own: Vec<[u8; 6]> = links.iter().filter_map(Link::mac_bytes).collect();
        arp::probe(candidates, &own).unwrap_or_else(|source| {
            self.problems.push(problem(&LinkError::Unasked(source)));
            vec![None; candidates.len()]
        })
    }

    /// A request about one address, route or rule that the kernel refused: the boot ends if the node is none without it.
    fn refused(&mut self, error: LinkError, fatal: bool) -> Result<(), LinkError> {
        if self.strict && fatal {
            return Err(error);
        }
        self.problems.push(problem(&error));
        Ok(())
    }

    /// Whether the address is the node's own, of any family.
    fn is_nodes(&self, address: IpAddr) -> bool {
        self.plan.address.is_some_and(|own| own.addrs().contains(&address))
    }

    /// Place in the plan, index and address.
    pub fn missing_addresses(&mut self, places: &[usize]) -> Result<Vec<(usize, u32, IpNet)>, LinkError> {
        let present = self.netlink.addresses().map_err(|source| request("list the addresses", source))?;
        let mut missing = Vec::new();
        for &place in places {
            let Some(index) = self.states[place].index else { continue };
            for &address in &self.plan.links[place].link.addresses {
                if !present.contains(&(index, address)) {
                    missing.push((place, index, address));
                }
            }
        }
        Ok(missing)
    }

    /// An address that another machine has is left to it: both would be reached now and then. Without its own address
    /// the node is none.
    fn conflict(&mut self, address: IpAddr, link: String, mac: [u8; 6]) -> Result<(), LinkError> {
        let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
        let error = LinkError::Conflict { address, link, mac };
        self.refused(error, self.is_nodes(address))
    }

    /// The routes of links that have their addresses, and all rules.
    pub fn routes_and_rules(&mut self, places: &[usize]) -> Result<(), LinkError> {
        for (fatal, error) in self.routes(places)? {
            self.refused(error, fatal)?;
        }
        for place in 0..self.states.len() {
            for rule in self.plan.links[place].link.rules.clone() {
                if let Err(error) = self.rule(&rule) {
                    self.refused(error, false)?;
                }
            }
        }
        Ok(())
    }

    /// Sets the routes that are missing; those that the kernel refused, with whether the node is none without.
    fn routes(&mut self, places: &[usize]) -> Result<Vec<(bool, LinkError)>, LinkError> {
        let present = self.netlink.routes().map_err(|source| request("list the routes", source))?;
        let mut refused = Vec::new();
        for &place in places {
            let state = &self.states[place];
            let Some(index) = state.index.filter(|_| !state.given_up) else { continue };
            let planned = &self.plan.links[place].link;
            for described in &planned.routes {
                let route = route(index, described);
                if present.contains(&route) {
                    continue;
                }
                let what = format!("set {}", told(described, &planned.name));
                match self.netlink.set_route(&route) {
                    Ok(()) => self.done.push(what),
                    Err(source) => {
                        let error = request(&what, source);
                        refused.push((self.plan.is_way_out(place, described), error));
                    }
                }
            }
        }
        Ok(refused)
    }

    fn rule(&mut self, described: &Rule) -> Result<(), LinkError> {
        let network =
            |network: Option<IpNet>| network.map(|one| one.trunc()).filter(|one| one.prefix_len() > 0);
        let rule = Rule { from: network(described.from), to: network(described.to), ..*described };
        for family in self.families(described) {
            let present = self.netlink.rules(family).map_err(|source| request("list the rules", source))?;
            let same = |other: &Rule| Rule { priority: rule.priority.or(other.priority), ..rule } == *other;
            if present.iter().any(same) {
                continue;
            }
            let what = format!("add a rule for the table {}", rule.table);
            self.netlink.add_rule(family, &rule).map_err(|source| request(&what, source))?;
            self.done.push(what);
        }
        Ok(())
    }

    /// That of the rule's networks; of a rule that names none those that the links have addresses of.
    fn families(&self, rule: &Rule) -> Vec<Family> {
        if let Some(network) = rule.from.or(rule.to) {
            return vec![Family::of(network.addr())];
        }
        let addresses = self.plan.links.iter().flat_map(|planned| &planned.link.addresses);
        let families: Vec<Family> = addresses.map(|address| Family::of(address.addr())).collect();
        [Family::V4, Family::V6].into_iter().filter(|family| families.contains(family)).collect()
    }
}

/// Only IPv4 addresses of Ethernet links can be asked for by ARP.
fn candidate(links: &[Link], index: u32, address: IpAddr) -> Option<Candidate> {
    let link = links.iter().find(|link| link.index == index && link.ethernet)?;
    let IpAddr::V4(address) = address else { return None };
    (address != Ipv4Addr::UNSPECIFIED).then_some(Candidate { index, mac: link.mac_bytes()?, address })
}

/// As the kernel will list it.
fn route(index: u32, described: &DescribedRoute) -> Route {
    Route {
        index,
        to: described.to.trunc(),
        via: described.via,
        metric: metrics::metric(described),
        table: metrics::table(described),
        on_link: described.on_link,
        source: described.source,
    }
}

/// `the default route through 10.0.0.1 on eth0`
pub(super) fn told(route: &DescribedRoute, link: &str) -> String {
    let to = match route.to.prefix_len() {
        0 => "the default route".to_owned(),
        _ => format!("the route to {}", route.to),
    };
    let via = route.via.map_or(String::new(), |via| format!(" through {via}"));
    let on = if link.is_empty() { String::new() } else { format!(" on {link}") };
    format!("{to}{via}{on}")
}
