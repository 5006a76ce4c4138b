//! What is described, put in an order in which it can be made, with what the node adds to it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bootwright_model::families::{Family, PerFamily};
use bootwright_model::links::{Link, Route};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::asking::{self, Asks};
use super::{LinkError, Wanted, metrics};

/// All links of the node, each after those that it is made of.
#[derive(Debug)]
pub(super) struct Plan {
    pub links: Vec<Planned>,
    /// Which of them carries the node's address.
    pub node: usize,
    /// The node's address, if it is known.
    pub address: Option<PerFamily<IpNet>>,
    /// Its default gateway.
    pub gateway: Option<PerFamily<IpAddr>>,
    /// Links that a DHCPv4 server is asked on, that of the node first if its address is lent.
    pub asking: Vec<Asks>,
    /// Links that routers and DHCPv6 servers are asked on, in the same order.
    pub asking_ipv6: Vec<Asks>,
    /// What is planned otherwise than it is described.
    pub changed: Vec<LinkError>,
}

/// One link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Planned {
    /// As described, with what the node adds; the metric of the link is in its routes. Not optional if it carries the
    /// node: a node is not online without its address.
    pub link: Link,
    /// Its number in the description.
    pub number: usize,
    /// Of the default route that the kernel takes of a router, if one is asked.
    pub ra_metric: Option<u32>,
    /// Bytes.
    pub mtu: u16,
    /// Place of the bond or bridge that it is a member of.
    pub master: Option<usize>,
    /// The node's address depends on it: it is the link of the address, or that one is a VLAN of it. Not a member: a
    /// bond or bridge works with those that are left.
    pub carries_node: bool,
}

impl Plan {
    /// Whether somebody is asked for an address on the link at `place`.
    pub fn asks_on(&self, place: usize) -> bool {
        self.asking.iter().chain(&self.asking_ipv6).any(|asks| asks.place == place)
    }

    /// The place of a link by its name.
    pub fn place(&self, name: &str) -> Option<usize> {
        self.links.iter().position(|planned| planned.link.name == name)
    }

    /// Whether a route of the link at `place` is the one that the node leaves its network by: the default route through
    /// its gateway.
    pub fn is_way_out(&self, place: usize, route: &Route) -> bool {
        let through = |gateways: PerFamily<IpAddr>| route.via.is_some_and(|via| gateways.contains(&via));
        place == self.node
            && route.to.prefix_len() == 0
            && metrics::is_main(route)
            && self.gateway.is_some_and(through)
    }
}

/// The plan. A node without described links has one, for its address.
pub(super) fn plan(wanted: &Wanted) -> Result<Plan, LinkError> {
    let mut links = wanted.links.clone();
    if links.is_empty() {
        links.push(Link { mac: wanted.mac.clone(), ..Link::default() });
        links[0].addresses = wanted.address.iter().flat_map(PerFamily::iter).collect();
    }
    let depths = depths(&links)?;
    let mut order: Vec<usize> = (0..links.len()).collect();
    // Stable: as described, among those of one depth.
    order.sort_by_key(|&place| depths[place]);
    let mut links: Vec<Link> = order.iter().map(|&place| links[place].clone()).collect();
    let masters = masters(&links)?;
    let node = match wanted.address {
        Some(address) => node_link(&links, address, wanted)?,
        None => asking::node_link(&links, &masters, &order, wanted)?,
    };
    add_node(&mut links[node], wanted);
    let carriers = carriers(&links, node);
    let mtus: Vec<u16> = (0..links.len()).map(|place| mtu(&links, &masters, place, wanted.mtu)).collect();
    let planned = links.into_iter().enumerate().map(|(place, mut link)| {
        for route in &mut link.routes {
            route.metric = route.metric.or(link.metric);
        }
        link.optional &= !carriers[place];
        let (number, mtu, master, carries_node) =
            (order[place], mtus[place], masters[place], carriers[place]);
        Planned { link, number, ra_metric: None, mtu, master, carries_node }
    });
    let (address, gateway) = (wanted.address, wanted.gateway);
    let links = planned.collect();
    let (asking, asking_ipv6, changed) = (Vec::new(), Vec::new(), Vec::new());
    let mut plan = Plan { links, node, address, gateway, asking, asking_ipv6, changed };
    plan.changed = metrics::tell_apart(&mut plan);
    asking::choose(&mut plan, wanted.missing)?;
    Ok(plan)
}

/// Names of the links that a link is made of.
fn parts(link: &Link) -> impl Iterator<Item = &String> {
    let vlan = link.vlan.iter().map(|vlan| &vlan.link);
    let bond = link.bond.iter().flat_map(|bond| &bond.members);
    vlan.chain(bond).chain(link.bridge.iter().flat_map(|bridge| &bridge.members))
}

/// How many links lie below each: those with the same number need nothing of each other.
fn depths(links: &[Link]) -> Result<Vec<usize>, LinkError> {
    let mut places = BTreeMap::new();
    for (place, link) in links.iter().enumerate() {
        if places.insert(link.name.as_str(), place).is_some() {
            return Err(wrong(link, "there are two of that name"));
        }
    }
    let mut depths = vec![0; links.len()];
    // A chain has at most as many links as there are: deeper is a circle.
    for _ in 0..=links.len() {
        let mut changed = false;
        for (place, link) in links.iter().enumerate() {
            for part in parts(link) {
                let Some(&below) = places.get(part.as_str()) else {
                    return Err(wrong(link, &format!("{part} is not described")));
                };
                if depths[place] <= depths[below] {
                    depths[place] = depths[below] + 1;
                    changed = true;
                }
            }
        }
        if !changed {
            return Ok(depths);
        }
    }
    let deepest = (0..links.len()).max_by_key(|&place| depths[place]).unwrap_or(0);
    Err(wrong(&links[deepest], "it is made of itself"))
}

fn masters(links: &[Link]) -> Result<Vec<Option<usize>>, LinkError> {
    let mut masters = vec![None; links.len()];
    for (master, link) in links.iter().enumerate().filter(|(_, link)| link.vlan.is_none()) {
        for part in parts(link) {
            let Some(member) = links.iter().position(|link| link.name == *part) else { continue };
            if masters[member].replace(master).is_some() {
                return Err(wrong(&links[member], "it is a member twice"));
            }
        }
    }
    Ok(masters)
}

/// The link that has the node's address, else the one that its `mac` names, else the only one, unless its MAC is another.
fn node_link(links: &[Link], address: PerFamily<IpNet>, wanted: &Wanted) -> Result<usize, LinkError> {
    let primary = address.primary();
    let has_address = |link: &Link| link.addresses.iter().any(|address| address.addr() == primary.addr());
    let has_mac = |link: &Link| match (&link.mac, &wanted.mac) {
        (Some(mac), Some(wanted)) => mac.eq_ignore_ascii_case(wanted),
        _ => false,
    };
    let only = || match links {
        [link] => (link.mac.is_none() || wanted.mac.is_none()).then_some(0),
        _ => None,
    };
    let found = links.iter().position(has_address).or_else(|| links.iter().position(has_mac)).or_else(only);
    found.ok_or_else(|| {
        let names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
        LinkError::NoPlace { address, links: names.join(", ") }
    })
}

fn add_node(link: &mut Link, wanted: &Wanted) {
    for address in wanted.address.iter().flat_map(PerFamily::iter) {
        if link.addresses.iter().all(|one| one.addr() != address.addr()) {
            link.addresses.push(address);
        }
    }
    for gateway in wanted.gateway.iter().flat_map(PerFamily::iter) {
        let to = default_of(Family::of(gateway));
        if link.routes.iter().all(|route| route.to != to || route.table.is_some()) {
            let (via, metric) = (Some(gateway), None);
            link.routes.push(Route { to, via, metric, table: None, on_link: false, source: None });
        }
    }
}

/// The network of all addresses.
pub(super) fn default_of(family: Family) -> IpNet {
    match family {
        Family::V4 => Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0).into(),
        Family::V6 => Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// Which links the link at `place` cannot be without: itself, the one that carries it as a VLAN, and so on down.
fn carriers(links: &[Link], place: usize) -> Vec<bool> {
    let mut carriers = vec![false; links.len()];
    let mut next = Some(place);
    // What a VLAN lies on comes before it, so that this ends.
    while let Some(place) = next {
        carriers[place] = true;
        next =
            links[place].vlan.as_ref().and_then(|vlan| links.iter().position(|link| link.name == vlan.link));
    }
    carriers
}

/// Bytes. A bond gives its members its own; a bridge has the smallest of its members'.
fn mtu(links: &[Link], masters: &[Option<usize>], place: usize, default: u16) -> u16 {
    let of_master =
        masters[place].filter(|&master| links[master].bond.is_some() || links[place].mtu.is_none());
    match of_master {
        Some(master) => links[master].mtu.unwrap_or(default),
        None => links[place].mtu.unwrap_or(default),
    }
}

fn wrong(link: &Link, what: &str) -> LinkError {
    LinkError::Description { link: link.name.clone(), what: what.to_owned() }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::Missing;
    use super::*;

    /// A node's links as a cluster file describes them.
    pub fn wanted(links: &str) -> Wanted {
        #[derive(serde::Deserialize)]
        struct File {
            link: Vec<Link>,
        }
        let file: File = toml::from_str(links).unwrap();
        Wanted {
            mac: Some("52:54:00:00:00:01".into()),
            address: "10.20.0.10/24".parse().ok(),
            gateway: Some("10.20.0.1".parse().unwrap()),
            missing: Missing::default(),
            mtu: 1500,
            links: file.link,
        }
    }

    fn refused(links: &str) -> String {
        plan(&wanted(links)).unwrap_err().to_string()
    }

    #[test]
    fn links_come_after_what_they_are_made_of() {
        let plan = plan(&wanted(
            r#"
            [[link]]
            name = "lan"
            addresses = ["10.20.0.10/24"]
            metric = 50
            vlan = { id = 20, link = "bond0" }
            [[link]]
            name = "bond0"
            mtu = 9000
            bond.members = ["eth0", "eth1"]
            [[link]]
            name = "eth0"
            [[link]]
            name = "eth1"
            [[link]]
            name = "eth2"
            mtu = 4000
            "#,
        ))
        .unwrap();
        let shown: Vec<_> = plan
            .links
            .iter()
            .map(|one| (one.link.name.as_str(), one.mtu, one.master, one.carries_node))
            .collect();
        assert_eq!(
            shown,
            [
                ("eth0", 9000, Some(3), false),
                ("eth1", 9000, Some(3), false),
                ("eth2", 4000, None, false),
                ("bond0", 9000, None, true),
                ("lan", 1500, None, true),
            ]
        );
        assert_eq!(plan.node, 4);
        // The node's gateway is a route of its link.
        let route = plan.links[4].link.routes[0];
        assert_eq!((route.to, route.metric), ("0.0.0.0/0".parse().unwrap(), Some(50)));
    }

    #[test]
    fn a_link_that_carries_the_node_is_waited_for_whatever_is_described() {
        let text = r#"
            [[link]]
            name = "eth0"
            optional = true
            [[link]]
            name = "lan"
            optional = true
            addresses = ["10.20.0.10/24"]
            vlan = { id = 20, link = "eth0" }
            [[link]]
            name = "storage"
            optional = true
            "#;
        let plan = plan(&wanted(text)).unwrap();
        let optional: Vec<_> =
            plan.links.iter().map(|one| (one.link.name.as_str(), one.link.optional)).collect();
        assert_eq!(optional, [("eth0", false), ("storage", true), ("lan", false)]);
    }

    #[test]
    fn the_nodes_address_goes_to_the_link_of_its_mac() {
        let links = "[[link]]\nname = 'a'\n[[link]]\nname = 'b'\nmac = '52:54:00:00:00:01'";
        let plan = plan(&wanted(links)).unwrap();
        assert_eq!(plan.links[plan.node].link.name, "b");
        assert_eq!(plan.links[plan.node].link.addresses, ["10.20.0.10/24".parse().unwrap()]);
    }

    #[test]
    fn the_nodes_address_goes_to_the_only_link() {
        let only = plan(&wanted("[[link]]\nname = 'a'\nmtu = 9000")).unwrap();
        assert_eq!((only.node, only.links[0].mtu), (0, 9000));
        assert_eq!(only.links[0].link.addresses, ["10.20.0.10/24".parse().unwrap()]);
        let other = refused("[[link]]\nname = 'a'\nmac = '52:54:00:00:00:0a'");
        assert!(other.contains("is on none of the described links: a"), "{other}");
    }

    #[test]
    fn only_the_way_through_the_nodes_gateway_is_the_way_out() {
        let text = "[[link]]\nname = 'a'\nmac = '52:54:00:00:00:01'\n[[link]]\nname = 'b'";
        let plan = plan(&wanted(text)).unwrap();
        let own = plan.links[plan.node].link.routes[0];
        assert!(plan.is_way_out(plan.node, &own));
        assert!(!plan.is_way_out(1 - plan.node, &own));
        let others = [
            Route { to: "10.0.0.0/8".parse().unwrap(), ..own },
            Route { via: "10.20.0.2".parse().ok(), ..own },
            Route { via: None, ..own },
            Route { table: Some(100), ..own },
        ];
        assert!(others.iter().all(|other| !plan.is_way_out(plan.node, other)));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let none = refused("[[link]]\nname = 'a'\n[[link]]\nname = 'b'");
        assert!(none.contains("10.20.0.10/24 is on none of the described links: a, b"), "{none}");
        let twice = refused("[[link]]\nname = 'a'\n[[link]]\nname = 'a'");
        assert!(twice.contains("two of that name"), "{twice}");
        let unknown = refused("[[link]]\nname = 'a'\nvlan = { id = 2, link = 'eth9' }");
        assert!(unknown.contains("eth9 is not described"), "{unknown}");
        let circle = refused(
            "[[link]]\nname = 'a'\nvlan = { id = 2, link = 'b' }\n[[link]]\nname = 'b'\nvlan = { id = 2, link = 'a' }",
        );
        assert!(circle.contains("made of itself"), "{circle}");
        let member = refused(
            "[[link]]\nname = 'a'\nmac = '52:54:00:00:00:01'\n[[link]]\nname = 'b'\nbond.members = ['a']\n[[link]]\nname = 'c'\nbridge.members = ['a']",
        );
        assert!(member.contains("member twice"), "{member}");
    }
}
