//! `[[node.link]]`: names, what links are made of, and where the node's own address is.

use std::collections::BTreeMap;

use bootwright_model::cluster::{ClusterFile, Node};
use bootwright_model::families::Family;
use bootwright_model::links::Link;

use super::recognition::parse_mac;
use super::{duplicates, each, link_options, link_traffic, node};
use crate::cluster::text::finding::{Finding, KeyPath};
use crate::cluster::text::similar;

/// Longest name of a link, bytes: `IFNAMSIZ` of the kernel without its end.
const MOST_NAME_BYTES: usize = 15;
/// Names that a node has without anybody's asking: loopback, the pods' bridge, and the links of the pod network.
const TAKEN_NAMES: [&str; 2] = ["lo", "cni0"];
/// Names that begin so are not taken for cards.
const TAKEN_PREFIXES: [&str; 7] = ["cni", "veth", "docker", "kube-", "vxlan", "flannel", "dummy"];

pub fn check(file: &ClusterFile, findings: &mut Vec<Finding>) {
    for (index, one) in file.nodes.iter().enumerate().filter(|(_, one)| !one.links.is_empty()) {
        for (number, link) in one.links.iter().enumerate() {
            let place = Place { index, number };
            name(place, link, findings);
            card_or_made(place, link, findings);
            members(place, one, link, findings);
            link_options::check(place, one, link, file, findings);
            link_traffic::check(place, one, link, findings);
        }
        same_values(index, one, findings);
        two_masters(index, one, findings);
        circle(index, one, findings);
        own_address(index, one, findings);
        link_traffic::same_routes(index, one, findings);
    }
    link_traffic::same_addresses(file, findings);
}

/// A link of a node.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Which node.
    pub index: usize,
    /// Which of its links.
    pub number: usize,
}

impl Place {
    /// `node[<index>].link[<number>]`
    pub fn link(self) -> KeyPath {
        node(self.index, "link").index(self.number)
    }

    /// `node[<index>].link[<number>].<key>`
    pub fn key(self, key: &str) -> KeyPath {
        self.link().key(key)
    }
}

/// Whether the link is made, and no card.
pub(super) fn is_made(link: &Link) -> bool {
    link.vlan.is_some() || link.bond.is_some() || link.bridge.is_some()
}

fn name(place: Place, link: &Link, findings: &mut Vec<Finding>) {
    let name = link.name.as_str();
    let odd = |c: char| c == '/' || c == ':' || c == '%' || c.is_whitespace() || c.is_control();
    let why = if name.is_empty() {
        "it is empty".to_owned()
    } else if name.len() > MOST_NAME_BYTES {
        format!("it is {} bytes long, and a link's name has at most {MOST_NAME_BYTES}", name.len())
    } else if name.contains(odd) || name == "." || name == ".." {
        "the kernel does not take it".to_owned()
    } else if TAKEN_NAMES.contains(&name) {
        "a node has such a link by itself".to_owned()
    } else if TAKEN_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        "such names are those of pods' links".to_owned()
    } else {
        return;
    };
    findings.push(
        Finding::new("link-name", format!("\"{name}\" cannot be the name of a link: {why}"))
            .at_value(place.key("name"), "not a name")
            .help("write a short name, as eth0, bond0 or lan"),
    );
}

/// A link is one thing, and a device that is made is not looked for.
fn card_or_made(place: Place, link: &Link, findings: &mut Vec<Finding>) {
    let kinds =
        [("vlan", link.vlan.is_some()), ("bond", link.bond.is_some()), ("bridge", link.bridge.is_some())];
    let kinds: Vec<&str> = kinds.into_iter().filter(|(_, there)| *there).map(|(kind, _)| kind).collect();
    if let [first, second, ..] = kinds[..] {
        findings.push(
            Finding::new("link-kind", format!("{} cannot be a {first} and a {second}", link.name))
                .at_key(place.key(second), "another kind")
                .at_key(place.key(first), "one kind")
                .help("leave one of them out, or describe two links"),
        );
    }
    if let Some(kind) = kinds.first() {
        for (key, _) in
            [("driver", &link.driver), ("path", &link.path)].iter().filter(|(_, value)| value.is_some())
        {
            findings.push(
                Finding::new(
                    "link-card",
                    format!("{} is made, as a {kind}: it is no card with a {key}", link.name),
                )
                .at_key(place.key(key), "for cards")
                .at_key(place.key(kind), "made")
                .help("leave it out"),
            );
        }
    }
    if let Some(mac) = &link.mac
        && parse_mac(mac).is_none_or(|bytes| bytes[0] & 1 == 1 || bytes == [0; 6])
    {
        findings.push(
            Finding::new("link-mac", format!("\"{mac}\" is not the MAC address of a link"))
                .at_value(place.key("mac"), "not a MAC address")
                .help("write six pairs of hexadecimal digits with colons, the first even: \"52:54:00:00:00:01\""),
        );
    }
}

/// What a link is made of, and the key of each.
fn parts(place: Place, link: &Link) -> Vec<(KeyPath, &str)> {
    let list = |key: &str, members: &[String]| -> Vec<KeyPath> {
        (0..members.len()).map(|at| place.key(key).key("members").index(at)).collect()
    };
    let mut parts = Vec::new();
    if let Some(vlan) = &link.vlan {
        parts.push((place.key("vlan").key("link"), vlan.link.as_str()));
    }
    if let Some(bond) = &link.bond {
        parts.extend(list("bond", &bond.members).into_iter().zip(bond.members.iter().map(String::as_str)));
    }
    if let Some(bridge) = &link.bridge {
        parts.extend(
            list("bridge", &bridge.members).into_iter().zip(bridge.members.iter().map(String::as_str)),
        );
    }
    parts
}

fn members(place: Place, one: &Node, link: &Link, findings: &mut Vec<Finding>) {
    for (path, name) in parts(place, link) {
        if one.links.iter().any(|other| other.name == name) {
            continue;
        }
        let others = one.links.iter().map(|other| other.name.as_str()).filter(|other| *other != link.name);
        let help = match similar(name, others) {
            Some(other) => format!("did you mean \"{other}\"?"),
            None => format!("describe it: a [[node.link]] with name = \"{name}\""),
        };
        findings.push(
            Finding::new("link-member", format!("{} of {} has no link {name}", link.name, one.name))
                .at_value(path, "not described")
                .help(help),
        );
    }
    if let Some(bond) = &link.bond
        && bond.members.is_empty()
    {
        findings.push(
            Finding::new("link-no-members", format!("the bond {} has no members", link.name))
                .at_value(place.key("bond").key("members"), "empty")
                .help("name two links or more"),
        );
    }
}

/// A link belongs to one bond or bridge, and has no addresses of its own then.
fn two_masters(index: usize, one: &Node, findings: &mut Vec<Finding>) {
    let mut first: BTreeMap<&str, KeyPath> = BTreeMap::new();
    let masters = one.links.iter().enumerate().filter(|(_, link)| link.vlan.is_none());
    for (path, name) in masters.flat_map(|(number, link)| parts(Place { index, number }, link)) {
        if let Some(earlier) = first.get(name) {
            findings.push(
                Finding::new("link-member-twice", format!("{name} is a member twice"))
                    .at_value(path, "again")
                    .at_value(earlier.clone(), "first here")
                    .help("a link belongs to one bond or bridge: leave one of them out"),
            );
            continue;
        }
        let member = one.links.iter().position(|link| link.name == name);
        let asks = |number: usize| {
            [("dhcp4", one.links[number].dhcp4), ("dhcp6", one.links[number].dhcp6)]
                .into_iter()
                .filter(|(_, asks)| *asks)
                .map(move |(key, _)| (number, key))
        };
        for (number, key) in member.into_iter().flat_map(asks) {
            findings.push(
                Finding::new(
                    "link-member-dhcp",
                    format!("{name} is a member, and cannot be lent an address itself"),
                )
                .at_key(Place { index, number }.key(key), "not answered")
                .at_value(path.clone(), "a member here")
                .help(format!("give {key} to the bond or bridge")),
            );
        }
        if let Some(number) = member.filter(|&number| !one.links[number].addresses.is_empty()) {
            findings.push(
                Finding::new(
                    "link-member-address",
                    format!("{name} is a member, and cannot use addresses itself"),
                )
                .at_value(Place { index, number }.key("addresses"), "not reached")
                .at_value(path.clone(), "a member here")
                .help("give the addresses to the bond or bridge"),
            );
        }
        first.insert(name, path);
    }
}

fn circle(index: usize, one: &Node, findings: &mut Vec<Finding>) {
    for (number, link) in one.links.iter().enumerate() {
        let mut below: Vec<&str> =
            parts(Place { index, number }, link).into_iter().map(|(_, name)| name).collect();
        // Each link once is the whole of what can lie below.
        let mut known = 0;
        while known < below.len() && known <= one.links.len() {
            let name = below[known];
            let found = one.links.iter().enumerate().filter(|(_, other)| other.name == name);
            for (number, other) in found {
                for (_, part) in parts(Place { index, number }, other) {
                    if !below.contains(&part) {
                        below.push(part);
                    }
                }
            }
            known += 1;
        }
        if below.contains(&link.name.as_str()) {
            findings.push(
                Finding::new("link-circle", format!("{} is made of itself", link.name))
                    .at_value(Place { index, number }.key("name"), "made of itself")
                    .help("one of the links that it is made of must be a card"),
            );
            return;
        }
    }
}

fn same_values(index: usize, one: &Node, findings: &mut Vec<Finding>) {
    let mut report = |what: &str, key: &str, first: usize, second: usize, value: &str| {
        findings.push(
            Finding::new("link-duplicate", format!("two links of {} have the {what} {value}", one.name))
                .at_value(Place { index, number: second }.key(key), "again")
                .at_value(Place { index, number: first }.key(key), "first here")
                .help("a link has its own: correct one of the two"),
        );
    };
    let links = &one.links;
    duplicates(links.iter().map(|link| Some(&link.name)), |a, b, name| report("name", "name", a, b, name));
    // A VLAN or bridge may have the MAC of what it is made of.
    let cards =
        links.iter().map(|link| link.mac.as_ref().filter(|_| !is_made(link)).map(|mac| mac.to_lowercase()));
    duplicates(cards, |a, b, mac| report("MAC address", "mac", a, b, mac));
}

/// The node's address is on one of its links, or goes to the one that its `mac` names.
fn own_address(index: usize, one: &Node, findings: &mut Vec<Finding>) {
    let carriers: Vec<Option<usize>> = one
        .address
        .iter()
        .map(|own| one.links.iter().position(|link| link.addresses.iter().any(|at| at.addr() == own.addr())))
        .collect();
    let by_mac = one.mac.as_ref().and_then(|mac| {
        one.links
            .iter()
            .position(|link| link.mac.as_ref().is_some_and(|other| other.eq_ignore_ascii_case(mac)))
    });
    let Some(number) = carriers[0].or(by_mac) else {
        findings.push(
            Finding::new("link-own-address", format!("the address of {} is on none of its links", one.name))
                .at_value(node(index, "address"), "on no link")
                .at_key(node(index, "link"), "the links")
                .help(
                    "write it into `addresses` of the link that carries it, or give that link the node's mac",
                ),
        );
        return;
    };
    let place = Place { index, number };
    let link = &one.links[number];
    let asked = [("dhcp4", link.dhcp4, Family::V4), ("dhcp6", link.dhcp6, Family::V6)];
    let given = |family| one.address.of(family).is_some();
    for (key, ..) in asked.into_iter().filter(|(_, asks, family)| *asks && given(*family)) {
        findings.push(
            Finding::new(
                "link-own-dhcp",
                format!("the address of {} is given, and no server lends it", one.name),
            )
            .at_key(place.key(key), "on the node's own link")
            .at_value(node(index, "address"), "the node's address")
            .help(format!("leave {key} out here; a further link may have it")),
        );
    }
    let other = each(&node(index, "address"), &one.address)
        .zip(&carriers)
        .find(|(_, carrier)| carrier.is_some_and(|carrier| carrier != number));
    if let Some(((path, own), Some(carrier))) = other.map(|(own, carrier)| (own, *carrier)) {
        findings.push(
            Finding::new(
                "link-own-addresses",
                format!("{own} is not on the link of the node's other address"),
            )
            .at_value(path, "the node's address")
            .at_value(Place { index, number: carrier }.key("addresses"), "on this link")
            .at_value(place.key("name"), "the node's link")
            .help("both addresses of a node are on one link"),
        );
    }
    let is_member = one
        .links
        .iter()
        .filter(|link| link.vlan.is_none())
        .any(|link| parts(place, link).iter().any(|(_, name)| *name == one.links[number].name));
    // With addresses of its own the member is told already.
    if is_member && one.links[number].addresses.is_empty() {
        findings.push(
            Finding::new("link-own-member", format!("the link with the mac of {} is a member", one.name))
                .at_value(place.key("mac"), "the node's mac")
                .at_value(node(index, "address"), "on no link")
                .help("write the node's address into `addresses` of the bond or bridge"),
        );
    }
}
