//! Links that somebody is asked on for an address, a DHCPv4 server, or a router and a DHCPv6 server: which of them is the
//! node's, and which metric the routes get that come with each address.

use bootwright_model::families::Family;
use bootwright_model::links::Link;
use ipnet::{IpNet, Ipv4Net};

use super::metrics::IPV6_METRIC;
use super::plan::{Plan, Planned};
use super::{Asking, LinkError, Missing, Wanted, metrics};
use crate::network::netlink::Link as Present;

/// Metric of the routes of the first lease beside the node's own, if none is described: what networkd gives those of DHCP.
/// Each further one gets the next that is free.
const FURTHER_METRIC: u32 = 1024;
/// The same of IPv6, where the kernel gives 1024 to what has none.
const FURTHER_IPV6_METRIC: u32 = 2048;

/// A link of the plan that somebody is asked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asks {
    /// Its place in the plan.
    pub place: usize,
    /// Of the routes that come with the address.
    pub metric: u32,
    /// The node's own address is to come.
    pub own: bool,
}

/// The link that the node's address is to be lent on: the one that the node's MAC address names, else the one whose
/// routes have the smallest metric, else the one that is described first. Not a member, whose packets are the master's;
/// and one that the node can be without only if there is no other. That of IPv4 says it: a node has one link.
pub(super) fn node_link(
    links: &[Link],
    masters: &[Option<usize>],
    order: &[usize],
    wanted: &Wanted,
) -> Result<usize, LinkError> {
    let has_mac = |link: &Link| match (&link.mac, &wanted.mac) {
        (Some(mac), Some(wanted)) => mac.eq_ignore_ascii_case(wanted),
        _ => false,
    };
    let ipv6_alone = wanted.missing.ipv6 && !wanted.missing.ipv4;
    let asks = |link: &Link| match ipv6_alone {
        true => link.dhcp6 || link.accept_ra == Some(true),
        false => link.dhcp4,
    };
    let asking = (0..links.len()).filter(|&place| asks(&links[place]) && masters[place].is_none());
    let best = asking.min_by_key(|&place| {
        let link = &links[place];
        (!has_mac(link), link.optional, link.metric.unwrap_or(0), order[place])
    });
    best.ok_or_else(|| {
        let names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
        let by = if ipv6_alone { "dhcp6 or accept-ra" } else { "dhcp4" };
        LinkError::NoneAsks { by, links: names.join(", ") }
    })
}

/// Says in the plan on which links somebody is asked. Routes of a lease get a metric of their own: a described default route
/// has its own before, as it was written by somebody who knew of it.
///
/// # Errors
/// The node's address cannot come on its link.
pub(super) fn choose(plan: &mut Plan, missing: Missing) -> Result<(), LinkError> {
    plan.asking = choose_of(plan, Family::V4, missing.ipv4)?;
    plan.asking_ipv6 = choose_of(plan, Family::V6, missing.ipv6)?;
    for Asks { place, metric, .. } in plan.asking_ipv6.clone() {
        let planned = &mut plan.links[place];
        // As whoever asks a router wants it, from when the link is set up.
        (planned.link.accept_ra, planned.ra_metric) = (Some(true), Some(metric));
    }
    Ok(())
}

/// Of one family; with the node's link first if its address is `missing`.
fn choose_of(plan: &mut Plan, family: Family, missing: bool) -> Result<Vec<Asks>, LinkError> {
    let is_own = |place: usize| place == plan.node && missing;
    // The address of the node's link is known, and a server would give it another one.
    let is_known = |place: usize| {
        let given = plan.address.is_some_and(|given| given.of(family).is_some());
        place == plan.node && given && !missing
    };
    let asks = |link: &Link| if family == Family::V4 { link.dhcp4 } else { link.dhcp6 };
    let is_asked = |place: usize| is_own(place) || asks(&plan.links[place].link) && !is_known(place);
    let mut places: Vec<usize> = (0..plan.links.len()).filter(|&place| is_asked(place)).collect();
    places.sort_by_key(|&place| (!is_own(place), plan.links[place].number));
    let mut used = described_metrics(plan, family);
    let (mut asking, mut changed) = (Vec::new(), Vec::new());
    for place in places {
        let Planned { link, master, .. } = &plan.links[place];
        if let Some(master) = *master {
            let master = plan.links[master].link.name.clone();
            let error = LinkError::MemberAsks { link: link.name.clone(), master };
            if is_own(place) {
                return Err(error);
            }
            // Once, of a link that asks for both.
            if family == Family::V4 || !link.dhcp4 {
                changed.push(error);
            }
            continue;
        }
        if family == Family::V6 && link.accept_ra == Some(false) {
            let error = LinkError::NoRouters { link: link.name.clone() };
            if is_own(place) {
                return Err(error);
            }
            changed.push(error);
            continue;
        }
        let asked = asked_metric(link, family, is_own(place));
        let Some(metric) = (asked..=u32::MAX).find(|metric| used.iter().all(|(one, _)| one != metric)) else {
            continue;
        };
        if link.metric.is_some()
            && asked != metric
            && let Some((_, first)) = used.iter().find(|(one, _)| *one == asked)
        {
            let (later, first) = (told(&link.name, family), first.clone());
            changed.push(LinkError::SameMetric { later, first, metric });
        }
        used.push((metric, told(&link.name, family)));
        asking.push(Asks { place, metric, own: is_own(place) });
    }
    plan.changed.extend(changed);
    Ok(asking)
}

/// The metric that the routes of a link's address would have.
fn asked_metric(link: &Link, family: Family, own: bool) -> u32 {
    match (link.metric, family) {
        (Some(metric), Family::V4) => metric,
        // To IPv6 0 is none.
        (Some(0), Family::V6) => IPV6_METRIC,
        (Some(metric), Family::V6) => metric,
        (None, Family::V4) if own => 0,
        (None, Family::V4) => FURTHER_METRIC,
        (None, Family::V6) if own => IPV6_METRIC,
        (None, Family::V6) => FURTHER_IPV6_METRIC,
    }
}

/// Metrics of described default routes of a family, each with the route.
fn described_metrics(plan: &Plan, family: Family) -> Vec<(u32, String)> {
    let routes = plan
        .links
        .iter()
        .flat_map(|planned| planned.link.routes.iter().map(|route| (route, planned.link.name.as_str())));
    let default = routes.filter(|(route, _)| {
        route.to.prefix_len() == 0 && Family::of(route.to.addr()) == family && metrics::is_main(route)
    });
    default.map(|(route, link)| (metrics::metric(route), super::traffic::told(route, link))).collect()
}

/// Destinations of described IPv4 routes with a metric, on any link.
fn described_to(plan: &Plan, metric: u32) -> Vec<Ipv4Net> {
    let routes = plan.links.iter().flat_map(|planned| &planned.link.routes);
    let same = routes.filter(|route| metrics::is_main(route) && metrics::metric(route) == metric);
    let to = same.filter_map(|route| match route.to.trunc() {
        IpNet::V4(to) => Some(to),
        IpNet::V6(_) => None,
    });
    to.collect()
}

fn told(link: &str, family: Family) -> String {
    match family {
        Family::V4 => format!("the default route of the lease on {link}"),
        Family::V6 => format!("the IPv6 default route of the router on {link}"),
    }
}

/// The links of a plan that are asked on, with what is there of them.
pub(super) fn found(plan: &Plan, asking: &[Asks], links: &[Present], indices: &[Option<u32>]) -> Vec<Asking> {
    let asking = asking.iter().map(|asks| {
        let Planned { link, mtu, .. } = &plan.links[asks.place];
        // Without one IPv4 has 0.
        let metric = Some(asks.metric).filter(|metric| *metric != 0);
        let present = links.iter().find(|link| Some(link.index) == indices[asks.place]);
        let described_to = described_to(plan, asks.metric);
        // On the link of an address that is known the node can do without: clouds ask for both families wherever they are.
        let optional = link.optional || asks.place == plan.node && !asks.own;
        let described = Link { mtu: Some(*mtu), metric, optional, ..link.clone() };
        Asking { own: asks.own, described, described_to, present: present.cloned() }
    });
    asking.collect()
}

#[cfg(test)]
mod tests {
    use super::super::plan::plan;
    use super::super::plan::tests::wanted;
    use super::*;

    /// Names and metrics of links.
    type Metrics = Vec<(String, u32)>;

    /// The links that are asked on, and what is told.
    fn asking(links: &str, address: Option<&str>) -> Result<(Metrics, Vec<String>), LinkError> {
        let known = wanted(links);
        let gateway = known.gateway.filter(|_| address.is_some());
        let missing = Missing { ipv4: address.is_none(), ipv6: false };
        let address = address.map(|address| address.parse().unwrap());
        let plan = plan(&Wanted { address, gateway, missing, ..known })?;
        let name = |place: usize| plan.links[place].link.name.clone();
        let asking = plan.asking.iter().map(|asks| (name(asks.place), asks.metric)).collect();
        Ok((asking, plan.changed.iter().map(ToString::to_string).collect()))
    }

    fn pairs<const N: usize>(of: [(&str, u32); N]) -> Vec<(String, u32)> {
        of.map(|(name, metric)| (name.to_owned(), metric)).to_vec()
    }

    const THREE: &str = r#"
        [[link]]
        name = "first"
        dhcp4 = true
        [[link]]
        name = "second"
        mac = "52:54:00:00:00:01"
        dhcp4 = true
        [[link]]
        name = "third"
        vlan = { id = 7, link = "first" }
        dhcp4 = true
        "#;

    #[test]
    fn the_nodes_address_is_lent_on_the_link_of_its_mac_and_others_have_higher_metrics() {
        let expected = pairs([("second", 0), ("first", 1024), ("third", 1025)]);
        assert_eq!(asking(THREE, None).unwrap(), (expected, vec![]));
    }

    #[test]
    fn without_a_mac_the_smallest_metric_or_the_first_is_the_nodes() {
        let other = THREE.replace("00:01", "00:02");
        let expected = pairs([("first", 0), ("second", 1024), ("third", 1025)]);
        assert_eq!(asking(&other, None).unwrap().0, expected);
        let text = "[[link]]\nname = 'a'\ndhcp4 = true\nmetric = 200\n[[link]]\nname = 'b'\ndhcp4 = true\nmetric = 100";
        assert_eq!(asking(text, None).unwrap().0, pairs([("b", 100), ("a", 200)]));
        let optional =
            "[[link]]\nname = 'a'\ndhcp4 = true\noptional = true\n[[link]]\nname = 'b'\ndhcp4 = true";
        assert_eq!(asking(optional, None).unwrap().0, pairs([("b", 0), ("a", 1024)]));
    }

    #[test]
    fn a_link_of_a_known_address_is_not_asked_on() {
        let expected = pairs([("first", 1024), ("third", 1025)]);
        assert_eq!(asking(THREE, Some("10.20.0.10/24")).unwrap(), (expected, vec![]));
    }

    #[test]
    fn a_described_default_route_keeps_its_metric() {
        let text = r#"
            [[link]]
            name = "a"
            dhcp4 = true
            metric = 100
            [[link]]
            name = "b"
            route = [{ to = "0.0.0.0/0", via = "10.30.0.1", metric = 100 }]
            "#;
        let (asking, told) = asking(text, None).unwrap();
        assert_eq!(asking, pairs([("a", 101)]));
        insta::assert_snapshot!(
            told.join("\n"),
            @"the default route of the lease on a has the metric of the default route through 10.30.0.1 on b, and gets 101"
        );
    }

    #[test]
    fn a_member_is_not_asked_on() {
        let text =
            "[[link]]\nname = 'a'\ndhcp4 = true\n[[link]]\nname = 'b'\ndhcp4 = true\nbridge.members = ['a']";
        let (found, told) = asking(text, None).unwrap();
        assert_eq!(found, pairs([("b", 0)]));
        insta::assert_snapshot!(
            told.join("\n"),
            @"the link a asks for an address, and is a member of b, which has its packets"
        );
    }

    #[test]
    fn without_a_link_that_asks_there_is_no_address() {
        let error = asking("[[link]]\nname = 'a'\n[[link]]\nname = 'b'\ndhcp6 = true", None).unwrap_err();
        insta::assert_snapshot!(
            error.to_string(),
            @"nobody gives this node an address, and none of the described links asks for one by dhcp4: a, b"
        );
    }

    /// The links that routers are asked on in a cluster of both families, and what is told.
    fn asking_ipv6(links: &str, missing: Missing) -> Result<(Metrics, Vec<String>), LinkError> {
        let address = (!missing.ipv4).then(|| "10.20.0.10/24".parse().unwrap());
        let plan = plan(&Wanted { address, missing, gateway: None, ..wanted(links) })?;
        let name = |place: usize| plan.links[place].link.name.clone();
        let asking = plan.asking_ipv6.iter().map(|asks| (name(asks.place), asks.metric)).collect();
        for Asks { place, metric, .. } in &plan.asking_ipv6 {
            let planned = &plan.links[*place];
            assert_eq!((planned.link.accept_ra, planned.ra_metric), (Some(true), Some(*metric)));
        }
        Ok((asking, plan.changed.iter().map(ToString::to_string).collect()))
    }

    #[test]
    fn the_nodes_ipv6_address_is_on_the_link_of_its_ipv4_address() {
        let text = r#"
            [[link]]
            name = "a"
            dhcp6 = true
            [[link]]
            name = "b"
            dhcp4 = true
            metric = 50
            "#;
        let both = Missing { ipv4: true, ipv6: true };
        assert_eq!(asking_ipv6(text, both).unwrap().0, pairs([("b", 50), ("a", 2048)]));
        let given = format!("{text}addresses = ['10.20.0.10/24']");
        let one = Missing { ipv4: false, ipv6: true };
        assert_eq!(asking_ipv6(&given, one).unwrap().0, pairs([("b", 50), ("a", 2048)]));
        // In a cluster of IPv4 alone only who asks.
        assert_eq!(asking_ipv6(&given, Missing::default()).unwrap().0, pairs([("a", 2048)]));
    }

    #[test]
    fn a_vlan_of_a_bond_is_asked_on_and_its_cards_are_not() {
        let text = r#"
            [[link]]
            name = "left"
            [[link]]
            name = "right"
            [[link]]
            name = "bond0"
            bond = { members = ["left", "right"] }
            [[link]]
            name = "lan"
            accept-ra = true
            vlan = { id = 20, link = "bond0" }
            "#;
        let missing = Missing { ipv4: false, ipv6: true };
        let plan = plan(&Wanted { address: None, missing, gateway: None, ..wanted(text) }).unwrap();
        let asking = plan.asking_ipv6.iter().map(|asks| plan.links[asks.place].link.name.as_str());
        assert_eq!(asking.collect::<Vec<_>>(), ["lan"]);
        assert_eq!(plan.links[plan.node].link.name, "lan");
    }

    #[test]
    fn an_ipv6_node_has_its_address_on_a_link_that_hears_routers() {
        let missing = Missing { ipv4: false, ipv6: true };
        let plan = |links: &str| plan(&Wanted { address: None, missing, gateway: None, ..wanted(links) });
        let node = |links: &str| plan(links).map(|plan| plan.links[plan.node].link.name.clone());
        let text = "[[link]]\nname = 'a'\ndhcp4 = true\n[[link]]\nname = 'b'\naccept-ra = true";
        assert_eq!(node(text).unwrap(), "b");
        let error = node("[[link]]\nname = 'a'\ndhcp4 = true\n[[link]]\nname = 'b'").unwrap_err();
        insta::assert_snapshot!(
            error.to_string(),
            @"nobody gives this node an address, and none of the described links asks for one by dhcp6 or accept-ra: a, b"
        );
    }

    #[test]
    fn a_link_that_is_to_hear_no_router_gets_no_ipv6_address() {
        let text = "[[link]]\nname = 'a'\naddresses = ['10.20.0.10/24']\n[[link]]\nname = 'b'\naccept-ra = false\ndhcp6 = true";
        let (asking, told) = asking_ipv6(text, Missing::default()).unwrap();
        assert_eq!(asking, []);
        insta::assert_snapshot!(
            told.join("\n"),
            @"the link b is to get an IPv6 address, and is described with accept-ra = false: without router advertisements there is none"
        );
        let own = "[[link]]\nname = 'a'\naccept-ra = false\naddresses = ['10.20.0.10/24']";
        assert!(asking_ipv6(own, Missing { ipv4: false, ipv6: true }).is_err());
    }
}
