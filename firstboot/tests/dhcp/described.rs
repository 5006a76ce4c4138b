//! Leases on links that are described: made ones, several at once, and what is left out of them.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bootwright_model::layout;
use bootwright_model::links::Link;
use firstboot::identity::Identity;
use firstboot::network::dhcp::kept::Kept;
use firstboot::report::chain;
use network_namespaces::process::isolated;
use serde::Deserialize;
use serde_json::json;

use crate::liar::{self, DECLINE, DISCOVER, REQUEST};
use crate::world::{MAC, World};

/// Of the second card.
pub const SECOND: &str = "52:54:00:09:00:02";
/// The first network as [`crate::world::Network::server`] has its own.
pub const FIRST: [&str; 5] = [
    "--dhcp-range=10.9.0.50,10.9.0.60,255.255.255.0,120",
    "--dhcp-option=option:dns-server,10.9.0.2",
    "--dhcp-option=option:ntp-server,10.9.0.3",
    "--dhcp-option=option:T1,3",
    "--dhcp-option=option:T2,100",
];
pub const BOTH: &str = r#"
    [[link]]
    name = "lan"
    mac = "52:54:00:09:00:01"
    dhcp4 = true
    [[link]]
    name = "storage"
    mac = "52:54:00:09:00:02"
    dhcp4 = true
    "#;

/// A node that nobody gives an address, with links.
pub fn identity(links: &str) -> Identity {
    #[derive(Deserialize)]
    struct File {
        link: Vec<Link>,
    }
    let file: File = toml::from_str(links).unwrap();
    Identity { links: file.link, ..World::identity() }
}

#[test]
fn a_bridge_is_lent_the_nodes_address() {
    isolated("described::a_bridge_is_lent_the_nodes_address", || {
        let world = World::new();
        let server = world.server(&[&FIRST[..], &["--dhcp-option=option:mtu,1400"]].concat());
        let links = r#"
            [[link]]
            name = "port"
            mac = "52:54:00:09:00:01"
            [[link]]
            name = "lan"
            mac = "52:54:00:09:00:0b"
            metric = 50
            resolvers = ["10.9.0.53"]
            dhcp4 = true
            bridge = { members = ["port"] }
            "#;
        for _ in 0..2 {
            let done = world.run_as(identity(links)).unwrap();
            assert_eq!(done.problems, []);
            let facts = done.value;
            let address = facts.address.addr().to_string();
            let summary = format!(
                "{address}/24 on lan (52:54:00:09:00:0b, MTU 1400), gateway 10.9.0.1, lent by 10.9.0.1 for 120 s, \
                 online after "
            );
            assert!(done.summary.starts_with(&summary), "{}", done.summary);
            assert_eq!(world.address_of("lan"), Some(address));
            assert_eq!(world.address_of("eth0"), None);
            assert_eq!(world.ways_out(), [("lan".to_owned(), "10.9.0.1".to_owned(), 50)]);
            assert_eq!((facts.link.as_str(), facts.layer.file.network.mtu), ("lan", 1400));
            let resolvers = "nameserver 10.9.0.53\nnameserver 10.9.0.2\nnameserver 10.20.0.53\n";
            assert_eq!(world.read("/etc/resolv.conf"), resolvers);
            assert!(world.read("/etc/hosts").contains(" w9\n"));
            let mut keeper = world.keeper(&facts);
            world.machine.enter(|| keeper.step()).unwrap();
            assert_eq!(world.machine.ip("link show dev lan")[0]["mtu"], 1400);
        }
        let log = server.log();
        assert!(log.contains("DHCPACK(srv) 10.9.0.") && !log.contains("DHCPDECLINE"), "{log}");
    });
}

#[test]
fn two_links_are_lent_addresses_at_once() {
    isolated("described::two_links_are_lent_addresses_at_once", || {
        let world = World::new();
        let second = world.further("eth1", SECOND, 8);
        let _servers = (world.server(&FIRST), second.server(&["--dhcp-option=option:mtu,1400"]));
        let done = world.run_as(identity(BOTH)).unwrap();
        assert_eq!(done.problems, []);
        let facts = done.value;
        assert_eq!(facts.link, "eth0");
        assert_eq!(world.address_of("eth0"), Some(facts.address.addr().to_string()));
        assert!(world.address_of("eth1").unwrap().starts_with("10.8.0."));
        let ways = [("eth0", "10.9.0.1", 0), ("eth1", "10.8.0.1", 1024)];
        assert_eq!(
            world.ways_out(),
            ways.map(|(link, via, metric)| (link.to_owned(), via.to_owned(), metric))
        );
        let resolvers = "nameserver 10.9.0.2\nnameserver 10.8.0.2\nnameserver 10.20.0.53\n";
        assert_eq!(world.read("/etc/resolv.conf"), resolvers);
        assert_eq!(facts.time_servers, ["10.9.0.3", "10.8.0.3"]);
        // Pods leave by the node's own link.
        assert_eq!(facts.layer.file.network.mtu, 1500);
        assert_eq!(world.machine.ip("link show dev eth1")[0]["mtu"], 1400);
        let kept = Kept::all(world.root()).unwrap();
        let kept: Vec<_> =
            kept.iter().map(|kept| (kept.own, kept.link.as_str(), kept.held.is_some())).collect();
        assert_eq!(kept, [(true, "eth0", true), (false, "eth1", true)]);
        assert!(world.root().join(layout::LEASES.trim_start_matches('/')).join("storage.json").exists());
    });
}

#[test]
fn what_is_left_out_of_a_lease_is_not_taken() {
    isolated("described::what_is_left_out_of_a_lease_is_not_taken", || {
        let world = World::new();
        let second = world.further("eth1", SECOND, 8);
        let _servers = (world.server(&FIRST), second.server(&["--dhcp-option=option:mtu,1400"]));
        let without =
            "dhcp4-overrides = { use-routes = false, use-dns = false, use-mtu = false, use-ntp = false }";
        let done = world.run_as(identity(&format!("{BOTH}{without}"))).unwrap();
        assert_eq!(done.problems, []);
        let is_so = || {
            assert!(world.address_of("eth1").unwrap().starts_with("10.8.0."));
            assert_eq!(world.ways_out().len(), 1);
            assert_eq!(world.read("/etc/resolv.conf"), "nameserver 10.9.0.2\nnameserver 10.20.0.53\n");
            assert_eq!(world.machine.ip("link show dev eth1")[0]["mtu"], 1500);
        };
        is_so();
        assert_eq!(done.value.time_servers, ["10.9.0.3"]);
        let mut keeper = world.keepers(&done.value).remove(1);
        world.machine.enter(|| keeper.step()).unwrap();
        is_so();
    });
}

#[test]
fn a_node_with_an_address_has_leases_on_further_links() {
    isolated("described::a_node_with_an_address_has_leases_on_further_links", || {
        let world = World::new();
        let second = world.further("eth1", SECOND, 8);
        let _server = second.server(&[]);
        // What a cloud says of the first is passed over: somebody gave it an address.
        let identity = Identity {
            address: "10.9.0.77/24".parse().ok(),
            gateway: "10.9.0.1".parse().ok(),
            mac: Some(MAC.to_owned()),
            ..identity(BOTH)
        };
        let done = world.run_as(identity).unwrap();
        assert_eq!(done.problems, []);
        assert!(done.summary.starts_with("10.9.0.77/24 on eth0"), "{}", done.summary);
        assert!(done.summary.contains("; lent 10.8.0."), "{}", done.summary);
        assert_eq!(world.address_of("eth0").unwrap(), "10.9.0.77");
        assert!(world.address_of("eth1").unwrap().starts_with("10.8.0."));
        let ways = [("eth0", "10.9.0.1", 0), ("eth1", "10.8.0.1", 1024)];
        assert_eq!(
            world.ways_out(),
            ways.map(|(link, via, metric)| (link.to_owned(), via.to_owned(), metric))
        );
        assert_eq!(done.value.time_servers, ["10.8.0.3"]);
        assert_eq!(Kept::own(world.root()).unwrap(), None);
        assert_eq!(Kept::all(world.root()).unwrap().len(), 1);
    });
}

#[test]
fn two_cards_in_one_network_have_addresses_of_their_own() {
    isolated("described::two_cards_in_one_network_have_addresses_of_their_own", || {
        let world = World::new();
        world.cable("eth1", SECOND, "port");
        // The second cable ends in the same switch.
        for command in [
            "address flush dev srv",
            "link set srv name first",
            "link add name srv type bridge",
            "link set first master srv",
            "link set port master srv",
            "address add 10.9.0.1/24 dev srv",
            "link set srv up",
            "link set first up",
            "link set port up",
        ] {
            world.other.ip(command);
        }
        let _server = world.server(&FIRST);
        let done = world.run_as(identity(BOTH)).unwrap();
        assert_eq!(done.problems, []);
        let (first, second) = (world.address_of("eth0").unwrap(), world.address_of("eth1").unwrap());
        assert_ne!(first, second);
        let near = world.machine.ip("route show 10.9.0.0/24");
        assert_eq!((&near[0]["dev"], &near[0]["prefsrc"]), (&json!("eth0"), &json!(first)));
        assert_eq!(world.machine.ip("route get 10.9.0.1")[0]["dev"], "eth0");
    });
}

#[test]
fn a_further_link_without_a_lease_is_a_problem_and_no_end() {
    isolated("described::a_further_link_without_a_lease_is_a_problem_and_no_end", || {
        let world = World::new();
        let silent = world.further("eth1", SECOND, 8);
        let taken = world.further("eth2", "52:54:00:09:00:03", 10);
        world.cable("eth3", "52:54:00:09:00:04", "out");
        // 10.10.0.0/16 is the pods'.
        let servers = (world.server(&FIRST), taken.server(&[]));
        let links = format!(
            "{BOTH}
            [[link]]
            name = \"eth2\"
            dhcp4 = true
            [[link]]
            name = \"eth3\"
            dhcp4 = true
            [[link]]
            name = \"spare\"
            mac = \"52:54:00:09:00:05\"
            optional = true
            dhcp4 = true"
        );
        let begin = Instant::now();
        let done = world.run_as(identity(&links)).unwrap();
        let took = begin.elapsed();
        // Five for the carrier, five for a lease, and the processors may be busy. A missing card that is optional costs nothing.
        assert!(took < Duration::from_secs(25), "{took:?}");
        let told: Vec<String> = done.problems.iter().map(|problem| problem.chain.join(": ")).collect();
        let expected = [
            ("the link storage has no address by DHCP yet: ", "eth1 (52:54:00:09:00:02): no answer to "),
            (
                "the link eth2 has no address by DHCP yet: ",
                "lies in a network of the range 10.10.0.0/16 of pods",
            ),
            ("the link eth3 has no address by DHCP yet: ", "eth3 (52:54:00:09:00:04) has no carrier"),
        ];
        assert_eq!(told.len(), expected.len(), "{told:?}");
        for (told, (what, why)) in told.iter().zip(expected) {
            assert!(told.starts_with(what) && told.contains(why), "{told}");
        }
        assert!(servers.1.log().contains("DHCPDECLINE"), "{}", servers.1.log());
        assert_eq!((world.address_of("eth1"), world.address_of("eth2")), (None, None));

        // The service goes on asking.
        let _server = silent.server(&[]);
        let mut keeper = world.keepers(&done.value).remove(1);
        world.machine.enter(|| keeper.step()).unwrap();
        assert!(world.address_of("eth1").unwrap().starts_with("10.8.0."));
        let resolvers = "nameserver 10.9.0.2\nnameserver 10.8.0.2\nnameserver 10.20.0.53\n";
        assert_eq!(world.read("/etc/resolv.conf"), resolvers);
        // The consoles are for what the node is none without.
        assert_eq!(world.read("/dev/console"), "");
    });
}

#[test]
fn an_address_that_another_link_of_the_machine_has_is_refused() {
    isolated("described::an_address_that_another_link_of_the_machine_has_is_refused", || {
        let world = World::new();
        let second = world.further("eth1", SECOND, 9);
        let own = Ipv4Addr::new(10, 9, 0, 50);
        let (socket, stop) = (second.namespace.enter(liar::socket), AtomicBool::new(false));
        let identity =
            Identity { address: "10.9.0.50/24".parse().ok(), mac: Some(MAC.to_owned()), ..identity(BOTH) };
        let (done, mut heard) = std::thread::scope(|scope| {
            let server = scope.spawn(|| liar::serve(&socket, &[own, Ipv4Addr::new(10, 9, 0, 51)], &stop));
            let done = world.run_as(identity);
            stop.store(true, Ordering::Relaxed);
            (done, server.join().unwrap())
        });
        assert_eq!(done.unwrap().problems, []);
        assert_eq!(
            [world.address_of("eth0").unwrap(), world.address_of("eth1").unwrap()],
            ["10.9.0.50", "10.9.0.51"]
        );
        heard.dedup();
        assert_eq!(heard, [DISCOVER, REQUEST, DECLINE, DISCOVER, REQUEST]);
    });
}

#[test]
fn without_the_nodes_own_lease_it_ends_and_says_what_was_seen() {
    isolated("described::without_the_nodes_own_lease_it_ends_and_says_what_was_seen", || {
        let world = World::new();
        let second = world.further("eth1", SECOND, 8);
        // The first lends what a node of the cluster has.
        let range = "--dhcp-range=10.20.0.10,10.20.0.10,255.255.255.0,120";
        world.other.ip("address add 10.20.0.1/24 dev srv");
        let _servers = (world.server(&[range]), second.server(&[]));
        let error = world.run_as(identity(BOTH)).unwrap_err();
        let told = chain(&error).join(": ");
        assert!(
            told.contains("lent 10.20.0.10/24, which is the address of cp1 in the cluster file"),
            "{told}"
        );
        assert_eq!(world.address_of("eth0"), None);
    });
}

#[test]
fn a_described_route_is_not_replaced_by_one_of_a_lease() {
    isolated("described::a_described_route_is_not_replaced_by_one_of_a_lease", || {
        let world = World::new();
        let routes = "--dhcp-option=option:classless-static-route,10.40.0.0/16,10.9.0.3,10.50.0.0/16,10.9.0.4,0.0.0.0/0,10.9.0.1";
        let _server = world.server(&[&FIRST[..], &[routes]].concat());
        let links = r#"
            [[link]]
            name = "lan"
            mac = "52:54:00:09:00:01"
            dhcp4 = true
            route = [{ to = "10.40.0.0/16", via = "10.9.0.2", on-link = true }]
            "#;
        let done = world.run_as(identity(links)).unwrap();
        let told: Vec<String> = done.problems.iter().map(|problem| problem.chain.join(": ")).collect();
        let expected = "the route to 10.40.0.0/16 of the lease on eth0 is left out: a described one to the same has its \
                        metric, 0";
        assert_eq!(told, [expected]);
        let via = |to: &str| world.machine.ip(&format!("-4 route show {to}"))[0]["gateway"].clone();
        let ways = || ["10.40.0.0/16", "10.50.0.0/16", "default"].map(via);
        assert_eq!(ways(), ["10.9.0.2", "10.9.0.4", "10.9.0.1"]);
        // Nor when it is renewed.
        let mut keeper = world.keeper(&done.value);
        world.machine.enter(|| keeper.step()).unwrap();
        assert_eq!(ways(), ["10.9.0.2", "10.9.0.4", "10.9.0.1"]);
    });
}
