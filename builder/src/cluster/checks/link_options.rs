//! Options of `[[node.link]]`: MTU, VLAN, bond and bridge.

use bootwright_model::cluster::{ClusterFile, Node};
use bootwright_model::links::{Bond, BondMode, Bridge, Link, Vlan};

use super::links::Place;
use super::network::{LEAST_MTU, MOST_MTU};
use crate::cluster::text::finding::{Finding, KeyPath};

/// Smallest MTU of IPv4 (RFC 791).
const LEAST_IPV4_MTU: u16 = 68;
/// Seconds that a bridge with STP may delay (IEEE 802.1D; `BR_MIN_FORWARD_DELAY` and its maximum in the kernel).
const FORWARD_DELAYS: std::ops::RangeInclusive<u32> = 2..=30;

pub fn check(place: Place, one: &Node, link: &Link, file: &ClusterFile, findings: &mut Vec<Finding>) {
    mtu(place, one, link, file, findings);
    if let Some(table) = &link.vlan {
        vlan(place, one, link, table, findings);
    }
    if let Some(table) = &link.bond {
        bond(place, link, table, findings);
    }
    if let Some(table) = &link.bridge {
        bridge(place, link, table, findings);
    }
}

fn mtu(place: Place, one: &Node, link: &Link, file: &ClusterFile, findings: &mut Vec<Finding>) {
    let Some(mtu) = link.mtu else { return };
    let own = one.address.addrs();
    let has_ipv6 =
        link.addresses.iter().any(|address| address.addr().is_ipv6()) || link.accept_ra == Some(true);
    let of_node = link.addresses.iter().any(|address| own.contains(&address.addr()));
    let least = if has_ipv6 { LEAST_MTU } else { LEAST_IPV4_MTU };
    let finding =
        |message: String, label: &str| Finding::new("link-mtu", message).at_value(place.key("mtu"), label);
    if !(least..=MOST_MTU).contains(&mtu) {
        let why = if has_ipv6 { " with IPv6" } else { "" };
        findings.push(
            finding(format!("{mtu} is not a possible MTU{why}"), "out of range")
                .help(format!("write a number of bytes between {least} and {MOST_MTU}")),
        );
    } else if of_node && mtu < file.network.mtu {
        findings.push(
            finding(
                format!(
                    "{} carries the node's address, and has a smaller MTU than the nodes' network",
                    link.name
                ),
                "too small",
            )
            .at_value(
                KeyPath::of("network").key("mtu"),
                format!("{} bytes, also if not written", file.network.mtu),
            )
            .help("pods' packets are made for [network] mtu: write the smallest of all nodes there"),
        );
    }
    let others = one.links.iter().enumerate();
    for (number, other) in others {
        let below = Place { number, ..place };
        let of_other = other.mtu.unwrap_or(file.network.mtu);
        if link.vlan.as_ref().is_some_and(|vlan| vlan.link == other.name) && of_other < mtu {
            findings.push(
                finding(format!("a VLAN cannot have a larger MTU than its link {}", other.name), "larger")
                    .at_value(below.key("mtu"), format!("{of_other} bytes, also if not written"))
                    .help("give the link that MTU too"),
            );
        }
        let bond = other.bond.as_ref().filter(|bond| bond.members.contains(&link.name));
        if bond.is_some() && of_other != mtu {
            findings.push(
                finding(format!("{} has the MTU of its bond", link.name), "another")
                    .at_value(below.key("mtu"), format!("{of_other} bytes, also if not written"))
                    .help("write it at the bond alone"),
            );
        }
    }
}

fn vlan(place: Place, one: &Node, link: &Link, vlan: &Vlan, findings: &mut Vec<Finding>) {
    let path = place.key("vlan").key("id");
    if !(1..=4094).contains(&vlan.id) {
        findings.push(
            Finding::new("vlan-id", format!("{} is not a VLAN identifier", vlan.id))
                .at_value(path, "out of range")
                .help(
                    "write a number between 1 and 4094; packets without a tag are those of the link itself",
                ),
        );
        return;
    }
    let earlier = one.links.iter().take(place.number).position(|other| other.vlan.as_ref() == Some(vlan));
    if let Some(number) = earlier {
        findings.push(
            Finding::new(
                "vlan-twice",
                format!("VLAN {} of {} is {} already", vlan.id, vlan.link, one.links[number].name),
            )
            .at_value(path, format!("{} again", link.name))
            .at_value(Place { number, ..place }.key("vlan").key("id"), "first here")
            .help("write both links' addresses into one"),
        );
    }
}

fn bond(place: Place, link: &Link, bond: &Bond, findings: &mut Vec<Finding>) {
    let key = |key: &str| place.key("bond").key(key);
    let mut of_no_use = |option: &str, written: bool, modes: &[BondMode], names: &str| {
        if written && !modes.contains(&bond.mode) {
            findings.push(
                Finding::new("bond-mode", format!("{option} of {} is for mode {names}", link.name))
                    .at_key(key(option), "of no use")
                    .at_value(key("mode"), "the mode, active-backup if not written")
                    .help("leave it out, or write the mode"),
            );
        }
    };
    let lacp = [BondMode::Lacp];
    of_no_use("lacp-rate", bond.lacp_rate.is_some(), &lacp, "802.3ad");
    of_no_use("min-links", bond.min_links.is_some(), &lacp, "802.3ad");
    let hashed = [BondMode::Lacp, BondMode::BalanceXor];
    of_no_use("transmit-hash-policy", bond.transmit_hash_policy.is_some(), &hashed, "802.3ad or balance-xor");
    of_no_use("primary", bond.primary.is_some(), &[BondMode::ActiveBackup], "active-backup");
    if let Some(primary) = bond.primary.as_ref().filter(|primary| !bond.members.contains(primary)) {
        findings.push(
            Finding::new("bond-primary", format!("{primary} is no member of {}", link.name))
                .at_value(key("primary"), "no member")
                .at_value(key("members"), "the members")
                .help("write one of the members"),
        );
    }
    if bond.miimon == 0 {
        findings.push(
            Finding::new("bond-miimon", format!("{} would not notice that a member has failed", link.name))
                .at_value(key("miimon"), "never")
                .help("leave it out: 100 milliseconds are usual"),
        );
        return;
    }
    for (name, delay) in [("up-delay", bond.up_delay), ("down-delay", bond.down_delay)] {
        if let Some(delay) = delay.filter(|delay| !delay.is_multiple_of(bond.miimon)) {
            findings.push(
                Finding::new(
                    "bond-delay",
                    format!("{name} {delay} is no multiple of miimon {}", bond.miimon),
                )
                .at_value(key(name), "between two looks")
                .help(format!("write {}", delay.next_multiple_of(bond.miimon))),
            );
        }
    }
    if let Some(least) = bond.min_links.filter(|least| u64::from(*least) > bond.members.len() as u64) {
        findings.push(
            Finding::new("bond-min-links", format!("{} never has {least} members that work", link.name))
                .at_value(key("min-links"), "more than there are")
                .at_value(key("members"), "the members")
                .help(format!("write at most {}", bond.members.len())),
        );
    }
}

fn bridge(place: Place, link: &Link, bridge: &Bridge, findings: &mut Vec<Finding>) {
    let path = place.key("bridge").key("forward-delay");
    let Some(delay) = bridge.forward_delay else { return };
    let (message, help) = if !bridge.stp {
        (format!("{} does not delay without stp", link.name), "leave it out, or write stp = true")
    } else if !FORWARD_DELAYS.contains(&delay) {
        (format!("a bridge cannot delay for {delay} s"), "write a number of seconds between 2 and 30")
    } else {
        return;
    };
    findings.push(Finding::new("bridge-delay", message).at_value(path, "not possible").help(help));
}
