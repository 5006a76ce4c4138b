//! Routes that the kernel would take for one: it knows them by destination, table and metric, and keeps the one that was set
//! last. A cloud that describes two cards, each with a default route, means that both work.

use bootwright_model::links::Route;
use ipnet::IpNet;

use super::LinkError;
use super::plan::Plan;
use super::traffic::told;
use crate::network::netlink::main_table;

/// Metric of an IPv6 route that was given none (`IP6_RT_PRIO_USER` of the kernel). An IPv4 route has none, 0.
pub(super) const IPV6_METRIC: u32 = 1024;

/// What the kernel tells routes apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    to: IpNet,
    table: u32,
    metric: u32,
}

impl Key {
    fn of(route: &Route) -> Key {
        Key { to: route.to.trunc(), table: table(route), metric: metric(route) }
    }
}

/// The table that the kernel puts a route in.
pub(super) fn table(route: &Route) -> u32 {
    route.table.unwrap_or_else(main_table)
}

/// Whether it is in the table that is looked into if no rule says another.
pub(super) fn is_main(route: &Route) -> bool {
    table(route) == main_table()
}

/// The metric that the kernel gives a route.
pub(super) fn metric(route: &Route) -> u32 {
    match route.metric {
        // To IPv6 0 is none.
        None | Some(0) if route.to.addr().is_ipv6() => IPV6_METRIC,
        metric => metric.unwrap_or(0),
    }
}

/// Gives every route a key of its own: the way out of the node's network keeps its metric, then routes of the node's link,
/// then the one that is described first; each other one gets the next higher metric that is free, so that it is there
/// when the first is not. What was changed, for the report.
pub(super) fn tell_apart(plan: &mut Plan) -> Vec<LinkError> {
    let places = 0..plan.links.len();
    let mut routes: Vec<(usize, usize)> = places
        .flat_map(|place| (0..plan.links[place].link.routes.len()).map(move |at| (place, at)))
        .collect();
    // Stable: as described, among those of one kind.
    routes.sort_by_key(|&(place, at)| {
        (!plan.is_way_out(place, &plan.links[place].link.routes[at]), place != plan.node)
    });
    let mut known: Vec<(Key, usize, Route)> = Vec::new();
    let mut later = Vec::new();
    for (place, at) in routes {
        let route = plan.links[place].link.routes[at];
        let key = Key::of(&route);
        match known.iter().find(|(other, ..)| *other == key) {
            None => known.push((key, place, route)),
            // The same once more.
            Some((_, link, first)) if *link == place && is_same(first, &route) => {}
            Some((_, link, first)) => later.push((place, at, told(first, &plan.links[*link].link.name))),
        }
    }
    let mut changed = Vec::new();
    // After all that are as described: a metric that somebody wrote down is kept.
    for (place, at, first) in later {
        let link = &mut plan.links[place].link;
        let route = &mut link.routes[at];
        let key = Key::of(route);
        let is_free = |metric: &u32| known.iter().all(|(other, ..)| *other != Key { metric: *metric, ..key });
        let Some(metric) = (key.metric..=u32::MAX).find(is_free) else { continue };
        route.metric = Some(metric);
        let route = *route;
        known.push((Key { metric, ..key }, place, route));
        changed.push(LinkError::SameMetric { later: told(&route, &link.name), first, metric });
    }
    changed
}

/// Whether two routes of one link and one key are the same in the kernel.
fn is_same(one: &Route, other: &Route) -> bool {
    one.via == other.via && one.on_link == other.on_link && one.source == other.source
}

#[cfg(test)]
mod tests {
    use super::super::plan::plan;
    use super::super::plan::tests::wanted;

    /// Link, next hop and metric of all routes, and what is told.
    fn planned(links: &str) -> (Vec<String>, Vec<String>) {
        let plan = plan(&wanted(links)).unwrap();
        let routes = plan.links.iter().flat_map(|planned| {
            planned.link.routes.iter().map(|route| {
                let via = route.via.map_or("-".to_owned(), |via| via.to_string());
                format!("{} {via} {:?}", planned.link.name, route.metric)
            })
        });
        (routes.collect(), plan.changed.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_nodes_default_route_wins_and_others_get_the_next_metric() {
        let (routes, changed) = planned(
            r#"
            [[link]]
            name = "eth1"
            route = [{ to = "0.0.0.0/0", via = "10.30.0.1" }, { to = "0.0.0.0/0", via = "10.30.0.2", metric = 1 }]
            [[link]]
            name = "eth0"
            addresses = ["10.20.0.10/24"]
            [[link]]
            name = "eth2"
            route = [{ to = "0.0.0.0/0", via = "10.40.0.1", metric = 0 }]
            "#,
        );
        assert_eq!(
            routes,
            [
                "eth1 10.30.0.1 Some(2)",
                "eth1 10.30.0.2 Some(1)",
                "eth0 10.20.0.1 None",
                "eth2 10.40.0.1 Some(3)",
            ]
        );
        insta::assert_snapshot!(
            changed.join("\n"),
            @r"
        the default route through 10.30.0.1 on eth1 has the metric of the default route through 10.20.0.1 on eth0, and gets 2
        the default route through 10.40.0.1 on eth2 has the metric of the default route through 10.20.0.1 on eth0, and gets 3
        "
        );
    }

    #[test]
    fn routes_of_other_tables_metrics_and_families_are_left_alone() {
        let (routes, changed) = planned(
            r#"
            [[link]]
            name = "eth0"
            addresses = ["10.20.0.10/24"]
            route = [{ to = "::/0", via = "fe80::1" }, { to = "::/0", via = "fe80::1" }]
            [[link]]
            name = "eth1"
            metric = 700
            route = [{ to = "0.0.0.0/0", via = "10.30.0.1" }, { to = "0.0.0.0/0", via = "10.30.0.1", table = 100 }]
            [[link]]
            name = "eth2"
            route = [{ to = "::/0", via = "fe80::2", metric = 1024 }, { to = "0.0.0.0/0", via = "10.40.0.1", table = 101 }]
            "#,
        );
        assert_eq!(
            routes,
            [
                "eth0 fe80::1 None",
                "eth0 fe80::1 None",
                "eth0 10.20.0.1 None",
                "eth1 10.30.0.1 Some(700)",
                "eth1 10.30.0.1 Some(700)",
                "eth2 fe80::2 Some(1025)",
                "eth2 10.40.0.1 None",
            ]
        );
        assert_eq!(changed.len(), 1, "{changed:?}");
    }
}
