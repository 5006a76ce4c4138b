//! Links whose addresses a DHCPv4 server lends: which of them is the node's, and which metric the routes of each lease get.

use bootwright_model::links::Link;

use super::plan::{Plan, Planned};
use super::{Asking, LinkError, Wanted, metrics};
use crate::network::netlink::Link as Present;

/// Metric of the routes of the first lease beside the node's own, if none is described: what networkd gives those of DHCP.
/// Each further one gets the next that is free.
const FURTHER_METRIC: u32 = 1024;

/// A link of the plan that a server is asked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asks {
    /// Its place in the plan.
    pub place: usize,
    /// Of the routes of its lease.
    pub metric: u32,
}

/// The link that the node's address is to be lent on: the one that the node's MAC address names, else the one whose
/// routes have the smallest metric, else the one that is described first. Not a member, whose packets are the master's;
/// and one that the node can be without only if there is no other.
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
    let asking = (0..links.len()).filter(|&place| links[place].dhcp4 && masters[place].is_none());
    let best = asking.min_by_key(|&place| {
        let link = &links[place];
        (!has_mac(link), link.optional, link.metric.unwrap_or(0), order[place])
    });
    best.ok_or_else(|| {
        let names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
        LinkError::NoneAsks { links: names.join(", ") }
    })
}

/// Says in the plan on which links a server is asked. Routes of a lease get a metric of their own: a described default route
/// has its own before, as it was written by somebody who knew of it.
pub(super) fn choose(plan: &mut Plan) {
    let is_own = |place: usize| place == plan.node && plan.address.is_none();
    // The address of the node's link is known, and DHCP would give it another one.
    let is_known = |place: usize| place == plan.node && plan.address.is_some();
    let mut places: Vec<usize> =
        (0..plan.links.len()).filter(|&place| plan.links[place].link.dhcp4 && !is_known(place)).collect();
    places.sort_by_key(|&place| (!is_own(place), plan.links[place].number));
    let mut used = described_metrics(plan);
    let (mut asking, mut changed) = (Vec::new(), Vec::new());
    for place in places {
        let Planned { link, master, .. } = &plan.links[place];
        if let Some(master) = *master {
            let (link, master) = (link.name.clone(), plan.links[master].link.name.clone());
            changed.push(LinkError::MemberAsks { link, master });
            continue;
        }
        let asked = link.metric.unwrap_or(if is_own(place) { 0 } else { FURTHER_METRIC });
        let Some(metric) = (asked..=u32::MAX).find(|metric| used.iter().all(|(one, _)| one != metric)) else {
            continue;
        };
        if link.metric.is_some_and(|described| described != metric)
            && let Some((_, first)) = used.iter().find(|(one, _)| *one == asked)
        {
            let (later, first) = (told(&link.name), first.clone());
            changed.push(LinkError::SameMetric { later, first, metric });
        }
        used.push((metric, told(&link.name)));
        asking.push(Asks { place, metric });
    }
    plan.asking = asking;
    plan.changed.extend(changed);
}

/// Metrics of described IPv4 default routes, each with the route.
fn described_metrics(plan: &Plan) -> Vec<(u32, String)> {
    let routes = plan
        .links
        .iter()
        .flat_map(|planned| planned.link.routes.iter().map(|route| (route, planned.link.name.as_str())));
    let default = routes.filter(|(route, _)| {
        route.to.prefix_len() == 0 && route.to.addr().is_ipv4() && metrics::is_main(route)
    });
    default.map(|(route, link)| (metrics::metric(route), super::traffic::told(route, link))).collect()
}

fn told(link: &str) -> String {
    format!("the default route of the lease on {link}")
}

/// The links that are asked on, with what is there of them.
pub(super) fn found(plan: &Plan, links: &[Present], indices: &[Option<u32>]) -> Vec<Asking> {
    let asking = plan.asking.iter().map(|asks| {
        let Planned { link, mtu, .. } = &plan.links[asks.place];
        // Without one IPv4 has 0.
        let metric = Some(asks.metric).filter(|metric| *metric != 0);
        let present = links.iter().find(|link| Some(link.index) == indices[asks.place]);
        Asking { described: Link { mtu: Some(*mtu), metric, ..link.clone() }, present: present.cloned() }
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
        let plan =
            plan(&Wanted { address: address.map(|address| address.parse().unwrap()), gateway, ..known })?;
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
            @"the link a asks for DHCP, and is a member of b, which has its packets"
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
}
