//! Links that are described: the node's address on one of them, and those of further ones.

use std::time::{Duration, Instant};

use bootwright_model::layout;
use bootwright_model::links::Link;
use firstboot::identity::Identity;
use firstboot::network::dhcp6::kept::Kept;
use firstboot::network::links::follow::{self, Follower, Teller};
use firstboot::report::{chain, uptime_ms};
use network_namespaces::process::isolated;
use serde::Deserialize;
use serde_json::json;

use crate::world::World;
use crate::{LENDS, NETWORK};

const PODS: &str = "10.10.0.0/16,fd00:10::/56";
const IPV4: &str = "10.10.0.0/16";
const IPV6: &str = "fd00:10::/56";
/// What the kernel makes of the second card's MAC address in the second network.
const FURTHER: &str = "fd00:8::5054:ff:fe09:2";
/// The second network, which leads nowhere else.
const FURTHER_NETWORK: &str =
    "AdvDefaultLifetime 0; prefix fd00:8::/64 { AdvValidLifetime 3600; AdvPreferredLifetime 1800; };";
const FURTHER_LENDS: [&str; 2] = ["--enable-ra", "--dhcp-range=fd00:8::50,fd00:8::60,64,120"];
/// An address that somebody gave on the first card, and a second card that asks.
const STORAGE: &str = r#"
    [[link]]
    name = "lan"
    mac = "52:54:00:09:00:01"
    addresses = ["10.9.0.77/24"]
    [[link]]
    name = "storage"
    mac = "52:54:00:09:00:02"
    dhcp6 = true
    "#;

fn links(text: &str) -> Vec<Link> {
    #[derive(Deserialize)]
    struct File {
        link: Vec<Link>,
    }
    toml::from_str::<File>(text).unwrap().link
}

/// A node of a cluster of IPv4 that somebody gave its address.
fn given(text: &str) -> Identity {
    Identity {
        address: "10.9.0.77/24".parse().ok(),
        gateway: "10.9.0.1".parse().ok(),
        pod_cidr: "10.10.9.0/24".parse().ok(),
        links: links(text),
        ..World::identity()
    }
}

/// Hears nothing.
struct Deaf;

impl Teller for Deaf {
    fn log(&mut self, line: &str) {
        println!("links: {line}");
    }

    fn console(&mut self, line: &str) {
        println!("links: {line}");
    }
}

/// What the service that follows the links makes of them, in a few looks.
fn follow(world: &World) {
    world.machine.enter(|| {
        let kept = follow::Kept::read(world.root()).unwrap();
        let mut follower = Follower::open(world.root(), kept, None, Deaf).unwrap();
        let end = Instant::now() + Duration::from_secs(2);
        while Instant::now() < end {
            follower.step(Some(end)).unwrap();
        }
    });
}

#[test]
fn an_address_is_made_on_a_bridge() {
    isolated("described::an_address_is_made_on_a_bridge", || {
        let world = World::new();
        let _router = world.radvd(&format!("{NETWORK} AdvLinkMTU 1400;"));
        let text = r#"
            [[link]]
            name = "port"
            mac = "52:54:00:09:00:01"
            [[link]]
            name = "lan"
            mac = "52:54:00:09:00:0b"
            metric = 77
            accept-ra = true
            bridge = { members = ["port"] }
            "#;
        let address = "fd00:9::5054:ff:fe09:b";
        for _ in 0..2 {
            let done = world.run(Identity { links: links(text), ..World::identity() }, IPV6).unwrap();
            assert_eq!(done.problems, []);
            let facts = done.value;
            assert_eq!((facts.address.to_string(), facts.link.as_str()), (format!("{address}/64"), "lan"));
            assert_eq!(facts.layer.file.network.mtu, 1400);
            assert_eq!(facts.gateway.unwrap().to_string(), world.router().to_string());
            assert_eq!(world.addresses_of("lan")[0]["local"], json!(address));
            assert_eq!(world.addresses(), [] as [serde_json::Value; 0]);
            assert_eq!(world.ways_out(), [("lan".to_owned(), 77)]);
            assert!(world.read("/etc/hosts").contains(&format!("{address} w9\n")));
            // It takes nothing of that away.
            follow(&world);
            assert_eq!(world.addresses_of("lan")[0]["local"], json!(address));
            assert_eq!(world.ways_out(), [("lan".to_owned(), 77)]);
            assert_eq!(world.machine.ip("link show dev lan")[0]["mtu"], 1400);
        }
        let kept = Kept::own(world.root()).unwrap().unwrap();
        assert_eq!((kept.link.as_str(), kept.described.mtu), ("lan", Some(1400)));
    });
}

#[test]
fn a_lease_is_taken_on_a_described_card_beside_an_address_that_somebody_gave() {
    let name = "described::a_lease_is_taken_on_a_described_card_beside_an_address_that_somebody_gave";
    isolated(name, || {
        let world = World::new();
        let server = world.dnsmasq(&LENDS);
        let text = r#"
            [[link]]
            name = "lan"
            mac = "52:54:00:09:00:01"
            addresses = ["10.9.0.77/24"]
            dhcp6 = true
            "#;
        let pod_cidr = "10.10.9.0/24,fd00:10:0:9::/64".parse().ok();
        let done = world.run(Identity { pod_cidr, ..given(text) }, PODS).unwrap();
        assert_eq!(done.problems, []);
        let facts = done.value;
        let address = facts.address.to_string();
        assert!(address.starts_with("10.9.0.77/24,fd00:9::"), "{address}");
        assert_eq!(facts.gateway.unwrap().to_string(), format!("10.9.0.1,{}", world.router()));
        assert!(done.summary.contains(", lent by "), "{}", done.summary);
        follow(&world);
        assert_eq!(world.addresses().len(), 1);
        assert_eq!(world.ways_out(), [("eth0".to_owned(), 1024)]);

        // In a cluster of IPv4 it is the link's, and not the node's, which waits for none.
        let done = world.run(given(text), IPV4).unwrap();
        assert_eq!(done.problems, []);
        assert_eq!(done.value.address.to_string(), "10.9.0.77/24");
        // That of the node's is from the first run.
        let mut keeper = world.keepers(&done.value).into_iter().find(|one| !one.kept().own).unwrap();
        assert_eq!(keeper.kept().held, None);
        world.machine.enter(|| keeper.step()).unwrap();
        let held = keeper.kept().held.clone().unwrap();
        assert!(held.lease.is_some() && held.address.to_string().starts_with("fd00:9::"), "{held:?}");
        assert!(!server.log().contains("DHCPDECLINE"), "{}", server.log());
    });
}

#[test]
fn both_addresses_are_lent_on_a_bridge() {
    isolated("described::both_addresses_are_lent_on_a_bridge", || {
        let world = World::new();
        let ipv4 = ["--dhcp-range=10.9.0.50,10.9.0.60,255.255.255.0,120", "--dhcp-option=option:mtu,1400"];
        let _server = world.dnsmasq(&[&LENDS[..], &ipv4].concat());
        let text = r#"
            [[link]]
            name = "port"
            mac = "52:54:00:09:00:01"
            [[link]]
            name = "lan"
            dhcp4 = true
            bridge = { members = ["port"] }
            "#;
        let pod_cidr = "10.10.9.0/24,fd00:10:0:9::/64".parse().ok();
        let done = world.run(Identity { links: links(text), pod_cidr, ..World::identity() }, PODS).unwrap();
        assert_eq!(done.problems, []);
        let facts = done.value;
        let address = facts.address.to_string();
        assert!(address.starts_with("10.9.0.") && address.contains("/24,fd00:9::"), "{address}");
        assert_eq!(facts.link, "lan");
        // What one family says of the MTU holds for the other too.
        assert_eq!(facts.layer.file.network.mtu, 1400);
        assert_eq!(world.machine.ip("link show dev lan")[0]["mtu"], 1400);
        for lease in [layout::LEASE, layout::LEASE_IPV6] {
            assert!(world.read(lease).contains("\"mtu\":1400"), "{lease}");
        }
    });
}

#[test]
fn a_further_link_is_kept_beside_the_nodes_own() {
    isolated("described::a_further_link_is_kept_beside_the_nodes_own", || {
        let world = World::new();
        let second = world.further();
        let server = second.dnsmasq(&FURTHER_LENDS);
        let done = world.run(given(STORAGE), IPV4).unwrap();
        assert_eq!(done.problems, []);
        assert_eq!(done.value.address.to_string(), "10.9.0.77/24");
        assert!(done.summary.contains("; fd00:8::"), "{}", done.summary);
        assert_eq!(world.ways_out(), [("eth1".to_owned(), 2048)]);
        assert!(!world.root().join(&layout::LEASE_IPV6[1..]).exists());
        let mut kept = Kept::all(world.root()).unwrap().remove(0);
        assert!(world.root().join(&layout::LEASES_IPV6[1..]).join("storage.json").exists());
        assert_eq!((kept.own, kept.link.as_str()), (false, "eth1"));
        follow(&world);
        assert_eq!(world.addresses_of("eth1").len(), 1);

        let began = uptime_ms();
        kept.held.as_mut().unwrap().since_ms = began.saturating_sub(61_000);
        kept.write(world.root()).unwrap();
        let mut keeper = world.keepers(&done.value).remove(0);
        world.machine.enter(|| keeper.step()).unwrap();
        assert!(server.log().contains("DHCPRENEW"), "{}", server.log());
        assert!(keeper.kept().held.as_ref().unwrap().since_ms >= began);
        assert_eq!(Kept::all(world.root()).unwrap(), std::slice::from_ref(keeper.kept()));
        // The consoles are for what the node is none without.
        assert_eq!(world.read("/dev/console"), "");
    });
}

#[test]
fn a_further_link_where_nobody_answers_is_a_problem_and_no_end() {
    isolated("described::a_further_link_where_nobody_answers_is_a_problem_and_no_end", || {
        let world = World::new();
        let second = world.further();
        let done = world.run(given(STORAGE), IPV4).unwrap();
        assert_eq!(done.value.address.to_string(), "10.9.0.77/24");
        let told: Vec<String> = done.problems.iter().map(|problem| problem.chain.join(": ")).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with("the link storage has no IPv6 address of a router or by DHCPv6 yet: ")
                && told[0].contains("no router answers "),
            "{told:?}"
        );
        // It goes on asking, and a network that leads nowhere else will do.
        let _router = second.radvd(FURTHER_NETWORK);
        let mut keeper = world.keepers(&done.value).remove(0);
        world.machine.enter(|| keeper.step()).unwrap();
        assert_eq!(world.addresses_of("eth1")[0]["local"], json!(FURTHER));
        assert_eq!(world.ways_out(), []);
        assert_eq!(world.read("/dev/console"), "");

        // Nobody waits for one that is optional.
        let text = format!("{STORAGE}optional = true");
        world.machine.ip("-6 address flush dev eth1 scope global");
        assert_eq!(world.run(given(&text), IPV4).unwrap().problems, []);
        let kept = Kept::all(world.root()).unwrap();
        // Although there is a router again.
        assert_eq!((kept.len(), kept[0].held.as_ref()), (1, None));
    });
}

#[test]
fn the_nodes_own_link_must_get_an_address() {
    isolated("described::the_nodes_own_link_must_get_an_address", || {
        let world = World::new();
        let second = world.further();
        // The first lends what a node of the cluster has; that the other would do is not asked.
        let _servers = (
            world.dnsmasq(&["--enable-ra", "--dhcp-range=fd00:9::c1,fd00:9::c1,64,120"]),
            second.dnsmasq(&FURTHER_LENDS),
        );
        let text = r#"
            [[link]]
            name = "lan"
            mac = "52:54:00:09:00:01"
            dhcp6 = true
            [[link]]
            name = "storage"
            mac = "52:54:00:09:00:02"
            dhcp6 = true
            "#;
        let error = world.run(Identity { links: links(text), ..World::identity() }, IPV6).unwrap_err();
        let text = chain(&error).join(": ");
        assert!(text.contains(", is the address of cp1 in"), "{text}");
    });
}

#[test]
fn a_member_that_asks_and_a_link_that_hears_no_router_are_told() {
    isolated("described::a_member_that_asks_and_a_link_that_hears_no_router_are_told", || {
        let world = World::new();
        let _second = world.further();
        let text = r#"
            [[link]]
            name = "port"
            mac = "52:54:00:09:00:01"
            dhcp6 = true
            [[link]]
            name = "lan"
            addresses = ["10.9.0.77/24"]
            bridge = { members = ["port"] }
            [[link]]
            name = "storage"
            mac = "52:54:00:09:00:02"
            dhcp6 = true
            accept-ra = false
            "#;
        let done = world.run(given(text), IPV4).unwrap();
        let told: Vec<String> = done.problems.iter().map(|problem| problem.chain.join(": ")).collect();
        let expected =
            ["the link port asks for an address, and is a member of lan", "the link storage is to get"];
        assert_eq!(told.len(), expected.len(), "{told:?}");
        for (told, what) in told.iter().zip(expected) {
            assert!(told.starts_with(what), "{told}");
        }
        assert!(!world.root().join(&layout::LEASES_IPV6[1..]).exists());
    });
}

#[test]
fn the_only_card_has_a_lease_beside_an_address_that_somebody_gave() {
    isolated("described::the_only_card_has_a_lease_beside_an_address_that_somebody_gave", || {
        let world = World::new();
        let _server = world.dnsmasq(&LENDS);
        // As clouds call it.
        let done = world.run(given("[[link]]\nname = 'ens3'\ndhcp6 = true"), IPV4).unwrap();
        assert_eq!(done.problems, []);
        assert_eq!(done.value.address.to_string(), "10.9.0.77/24");
        // The boot waits for what the node needs: this one is the service's.
        let kept = Kept::all(world.root()).unwrap();
        assert_eq!((kept.len(), kept[0].own, kept[0].link.as_str()), (1, false, "eth0"));
        assert_eq!(kept[0].held, None);
        let mut keeper = world.keepers(&done.value).remove(0);
        world.machine.enter(|| keeper.step()).unwrap();
        assert_eq!(world.addresses().len(), 1);
    });
}

#[test]
fn a_further_link_without_a_server_has_the_address_that_is_made() {
    isolated("described::a_further_link_without_a_server_has_the_address_that_is_made", || {
        let world = World::new();
        let second = world.further();
        let _router = second.radvd(FURTHER_NETWORK);
        let done = world.run(given(STORAGE), IPV4).unwrap();
        // A server is asked first, as it is described so; nobody promised that there is one.
        assert_eq!(done.problems, []);
        assert!(done.summary.contains(&format!("; {FURTHER}/64 on eth1 made of what ")), "{}", done.summary);
        assert_eq!(world.addresses_of("eth1").len(), 1);
    });
}
