//! What is written into links of `[[node.link]]`: addresses, routes, rules, resolvers and search domains.

use std::net::IpAddr;

use bootwright_model::cluster::{ClusterFile, Node};
use bootwright_model::families::{Family, PerFamily};
use bootwright_model::host_address::{reserved_in, unusable};
use bootwright_model::links::{Link, Route, Rule};

use super::links::Place;
use super::names::dns_name;
use super::{each, node};
use crate::cluster::text::finding::{Finding, KeyPath};

/// Priority of the kernel's own rule for the main table (ip-rule(8)); its first is 0.
const MAIN_PRIORITY: u32 = 32766;

pub fn check(place: Place, one: &Node, link: &Link, findings: &mut Vec<Finding>) {
    for (at, network) in link.addresses.iter().enumerate() {
        let address = network.addr();
        // Link-local addresses of a link are a link's own business, unlike a node's.
        let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let why = unusable(address).filter(|_| !link_local).map(str::to_owned);
        let why = why.or_else(|| {
            reserved_in(*network, address).map(|why| format!("the {why} address of its network"))
        });
        if let Some(why) = why {
            findings.push(
                Finding::new("link-address", format!("{address} cannot be an address of {}: it is {why}", link.name))
                    .at_value(place.key("addresses").index(at), why)
                    .help("write the address that other machines reach this one at, and its network's prefix length"),
            );
        }
        let own = each(&node(place.index, "address"), &one.address);
        for (path, own) in own.filter(|(_, own)| own.addr() == address && own != network) {
            findings.push(
                Finding::new("link-prefix", format!("{address} has two prefix lengths"))
                    .at_value(place.key("addresses").index(at), format!("/{}", network.prefix_len()))
                    .at_value(path, format!("/{}", own.prefix_len()))
                    .help("write the prefix length of the network in both places"),
            );
        }
    }
    if link.dhcp6 && link.accept_ra == Some(false) {
        findings.push(
            Finding::new(
                "link-dhcp6",
                format!("{} is to get an IPv6 address, and to hear no router", link.name),
            )
            .at_key(place.key("dhcp6"), "a router says whether there is a server")
            .at_value(place.key("accept-ra"), "not heard")
            .help("leave one of the two out"),
        );
    }
    for (at, one) in link.routes.iter().enumerate() {
        route(&place.key("route").index(at), link, one, findings);
    }
    for (at, one) in link.rules.iter().enumerate() {
        rule(&place.key("rule").index(at), one, findings);
    }
    for (at, resolver) in link.resolvers.iter().enumerate() {
        if resolver.is_unspecified() || resolver.is_multicast() {
            findings.push(
                Finding::new("link-resolver", format!("{resolver} is not the address of a resolver"))
                    .at_value(place.key("resolvers").index(at), "not a machine")
                    .help("write the address of a DNS server"),
            );
        }
    }
    for (at, domain) in link.search.iter().enumerate() {
        if let Err(why) = dns_name(domain) {
            findings.push(
                Finding::new("link-search", format!("\"{domain}\" is not a domain: {why}"))
                    .at_value(place.key("search").index(at), "not a domain")
                    .help("write a domain, as harbor.example"),
            );
        }
    }
}

fn route(path: &KeyPath, link: &Link, route: &Route, findings: &mut Vec<Finding>) {
    let family = Family::of(route.to.addr());
    for (key, address) in [("via", route.via), ("source", route.source)] {
        if let Some(address) = address.filter(|address| Family::of(*address) != family) {
            findings.push(
                Finding::new(
                    "link-route-family",
                    format!("{address} and {} are of different families", route.to),
                )
                .at_value(path.key(key), "another family")
                .at_value(path.key("to"), family.to_string())
                .help("write an address of the same family"),
            );
            return;
        }
    }
    if route.to != route.to.trunc() {
        findings.push(
            Finding::new("link-route-to", format!("{} is an address in a network, not a network", route.to))
                .at_value(path.key("to"), "not a network")
                .help(format!("write {}", route.to.trunc())),
        );
    }
    let Some(via) = route.via else { return };
    let link_local = matches!(via, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let near = link.addresses.iter().any(|address| address.contains(&via) && address.addr() != via);
    // The node's own address need not be written at its link, and advertisements bring networks too.
    let hears_routers = link.accept_ra == Some(true) || link.dhcp6;
    let unknown = link.addresses.is_empty() || hears_routers && via.is_ipv6();
    if !near && !link_local && !route.on_link && !unknown {
        findings.push(
            Finding::new("link-route-via", format!("{via} is no neighbour of {}", link.name))
                .at_value(path.key("via"), "in none of the networks")
                .at_value(path.key("to"), "the route")
                .help("write a router in a network of the link's addresses, or on-link = true if it is reached all the same"),
        );
    }
}

fn rule(path: &KeyPath, rule: &Rule, findings: &mut Vec<Finding>) {
    if let (Some(from), Some(to)) = (rule.from, rule.to)
        && from.addr().is_ipv4() != to.addr().is_ipv4()
    {
        findings.push(
            Finding::new("link-rule-family", format!("no packet goes from {from} to {to}"))
                .at_value(path.key("to"), "another family")
                .at_value(path.key("from"), "one family")
                .help("write two rules, one of each family"),
        );
    }
    if rule.from.is_none() && rule.to.is_none() && rule.mark.is_none() {
        findings.push(
            Finding::new("link-rule-all", "a rule that names no packets is for all of them")
                .at_value(path.key("table"), "for all packets")
                .help("write from, to or mark; routes for all packets belong into the main table"),
        );
    }
    if let Some(priority) = rule.priority.filter(|priority| !(1..MAIN_PRIORITY).contains(priority)) {
        findings.push(
            Finding::new("link-rule-priority", format!("a rule with priority {priority} does nothing"))
                .at_value(path.key("priority"), "out of range")
                .help("write a number between 1 and 32765: the main table is looked into at 32766"),
        );
    }
}

/// Two routes to one place, with one metric in one table: the kernel keeps the last.
pub(super) fn same_routes(index: usize, one: &Node, findings: &mut Vec<Finding>) {
    let mut known = Vec::new();
    let links = one.links.iter().enumerate();
    let routes = links.flat_map(|(number, link)| {
        link.routes.iter().enumerate().map(move |(at, route)| {
            let metric = route.metric.or(link.metric);
            (Place { index, number }.key("route").index(at), (route.to, metric, route.table), route.via)
        })
    });
    for (path, route, via) in routes {
        let (to, metric, table) = route;
        if let Some((earlier, _)) = known.iter().find(|(_, other)| *other == route) {
            findings.push(
                Finding::new("link-route-twice", format!("there are two routes to {to}"))
                    .at_value(path.key("to"), "again")
                    .at_value(KeyPath::clone(earlier).key("to"), "first here")
                    .help("give one of them a metric or a table of its own, or leave it out"),
            );
        }
        let mut own = one.gateway.iter().flat_map(PerFamily::iter);
        let other_gateway = own.find(|gateway| {
            to.prefix_len() == 0 && gateway.is_ipv4() == to.addr().is_ipv4() && Some(*gateway) != via
        });
        if let Some(gateway) = other_gateway.filter(|_| metric.is_none() && table.is_none()) {
            findings.push(
                Finding::new(
                    "link-gateway",
                    format!("the node's gateway is {gateway}, and there is another default route"),
                )
                .at_value(path.key("to"), "a default route")
                .at_value(node(index, "gateway"), "the node's")
                .help("leave one of them out, or give the route a metric"),
            );
        }
        known.push((path, route));
    }
}

/// Addresses of links that a link of any node, or a node, has too.
pub(super) fn same_addresses(file: &ClusterFile, findings: &mut Vec<Finding>) {
    let mut known: Vec<(IpAddr, KeyPath, Option<usize>)> = Vec::new();
    for (index, one) in file.nodes.iter().enumerate() {
        let own = each(&node(index, "address"), &one.address);
        known.extend(own.map(|(path, address)| (address.addr(), path, Some(index))));
    }
    for (index, one) in file.nodes.iter().enumerate() {
        let links = one.links.iter().enumerate();
        let addresses = links.flat_map(|(number, link)| {
            let key = Place { index, number }.key("addresses");
            link.addresses.iter().enumerate().map(move |(at, address)| (key.index(at), address.addr()))
        });
        for (path, address) in addresses {
            // That a link carries the node's address is what it is for.
            let taken = known.iter().find(|(other, _, of)| *other == address && *of != Some(index));
            if let Some((_, first, _)) = taken {
                findings.push(
                    Finding::new("link-address-twice", format!("{address} is an address of two links"))
                        .at_value(path.clone(), "again")
                        .at_value(first.clone(), "first here")
                        .help("a link has its own: correct one of the two"),
                );
            }
            known.push((address, path, None));
        }
    }
}
