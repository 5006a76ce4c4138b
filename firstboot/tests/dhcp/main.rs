//! Addresses by DHCP from a real server, dnsmasq, in network namespaces: what the stage of first boot and the service do,
//! compared with what `ip` shows and what the server logs; and what is asked with an address that is borrowed so.
//!
//! Run as root, or by a user who may make user namespaces. A test that gets no namespace, or no dnsmasq, fails.

// Clippy allows it in functions marked as tests only; here every function is part of one.
#![allow(clippy::unwrap_used)]

mod described;
mod followed;
mod liar;
mod metadata;
mod unusual;
mod world;

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bootwright_model::layout;
use firstboot::network::dhcp;
use firstboot::network::dhcp::acquire::Card;
use firstboot::network::dhcp::held::Held;
use firstboot::network::dhcp::keep::Keeper;
use firstboot::network::links;
use firstboot::report::{chain, uptime_ms};
use network_namespaces::process::isolated;
use serde_json::json;
use world::{MAC, World};

/// What it has a lease of.
fn held(keeper: &Keeper) -> &Held {
    keeper.kept().held.as_ref().unwrap()
}

#[test]
fn a_lease_brings_all_that_the_server_knows() {
    isolated("a_lease_brings_all_that_the_server_knows", || {
        let world = World::new();
        let server = world.server(&[
            "--dhcp-range=10.9.0.50,10.9.0.60,255.255.255.0,600",
            "--dhcp-option=option:router,10.9.0.1",
            "--dhcp-option=121,0.0.0.0/0,10.9.0.1,192.0.2.0/24,10.9.0.9",
            "--dhcp-option=option:dns-server,10.9.0.2,10.9.0.3",
            "--dhcp-option=option:domain-search,example.com,lab.example",
            "--dhcp-option=option:ntp-server,10.9.0.4",
            "--dhcp-option=option:mtu,1400",
        ]);
        let begin = Instant::now();
        let (facts, summary) = world.stage().unwrap();
        let took = begin.elapsed();
        println!("{summary} after {took:?}; the server said\n{}", server.log());
        // The bound of a boot, with room for a busy machine: a second try alone takes half a second.
        assert!(took < Duration::from_secs(5), "{took:?}");
        let address = facts.address.addr().to_string();
        assert!(summary.contains(", gateway 10.9.0.1, lent by 10.9.0.1 for 600 s"), "{summary}");
        assert_eq!((facts.link.as_str(), facts.layer.file.network.mtu), ("eth0", 1400));
        assert_eq!(facts.time_servers, ["10.9.0.4"]);

        let link = &world.machine.ip("address show dev eth0")[0];
        assert_eq!(link["mtu"], 1400);
        let shown = world.address().unwrap();
        assert_eq!((&shown["local"], &shown["prefixlen"]), (&json!(address), &json!(24)));
        assert_eq!(shown["broadcast"], "10.9.0.255");
        let valid = shown["valid_life_time"].as_u64().unwrap();
        assert!((500..=600).contains(&valid), "{valid}: the kernel would keep it too long or too short");
        let routes = world.machine.ip("route show proto dhcp");
        let mut routes: Vec<_> =
            routes.as_array().unwrap().iter().map(|r| (&r["dst"], &r["gateway"], &r["prefsrc"])).collect();
        routes.sort_by_key(|route| route.0.to_string());
        let source = json!(address);
        assert_eq!(
            routes,
            [
                (&json!("192.0.2.0/24"), &json!("10.9.0.9"), &source),
                (&json!("default"), &json!("10.9.0.1"), &source),
            ]
        );
        assert_eq!(
            world.read("/etc/resolv.conf"),
            "nameserver 10.9.0.2\nnameserver 10.9.0.3\nnameserver 10.20.0.53\nsearch example.com lab.example\n"
        );
        assert!(world.read("/etc/hosts").contains(&format!("{address} w9\n")));

        // At the next start the machine is known, and what is set already is no conflict.
        let (again, _) = world.stage().unwrap();
        assert_eq!(again.address, facts.address);
        assert_eq!(world.machine.ip("-4 address show dev eth0")[0]["addr_info"].as_array().unwrap().len(), 1);
        assert!(server.log().contains("w9"), "the server is told the name: {}", server.log());
        assert!(!server.log().contains("DHCPDECLINE"), "{}", server.log());
    });
}

#[test]
fn a_lease_is_renewed_and_another_address_is_taken_and_told() {
    isolated("a_lease_is_renewed_and_another_address_is_taken_and_told", || {
        let world = World::new();
        // The least that dnsmasq takes for T1.
        let soon = ["--dhcp-option=option:T1,3", "--dhcp-option=option:T2,100"];
        let server =
            world.server(&[&["--dhcp-range=10.9.0.50,10.9.0.60,255.255.255.0,120"][..], &soon].concat());
        let (facts, _) = world.stage().unwrap();
        let mut keeper = world.keeper(&facts);
        let first = held(&keeper).clone();
        assert_eq!(
            (first.lease.renewal_seconds, first.lease.rebinding_seconds),
            (3, 100),
            "{}",
            server.log()
        );

        world.machine.enter(|| keeper.step()).unwrap();
        assert_eq!(held(&keeper).lease.address, first.lease.address);
        assert!(held(&keeper).since_ms >= first.since_ms + 3_000);
        let log = server.log();
        assert_eq!((log.matches("DHCPDISCOVER(").count(), log.matches("DHCPACK(").count()), (1, 2), "{log}");

        // The server's administrator has changed the range.
        drop(server);
        let server =
            world.server(&[&["--dhcp-range=10.9.0.70,10.9.0.80,255.255.255.0,120"][..], &soon].concat());
        world.machine.enter(|| keeper.step()).unwrap();
        assert!(server.log().contains("DHCPNAK("), "{}", server.log());
        let moved = held(&keeper).lease.address.addr();
        assert!((70..=80).contains(&moved.octets()[3]), "{moved}");
        assert_eq!(world.address().unwrap()["local"], json!(moved.to_string()));
        assert_eq!(world.machine.ip("-4 address show dev eth0")[0]["addr_info"].as_array().unwrap().len(), 1);
        assert!(world.read(layout::LEASE).contains(&moved.to_string()));
        let told = world.read("/dev/console");
        let was = facts.address.addr();
        assert!(told.contains(&format!("address was {was} when it started")), "{told}");
        assert!(
            told.contains(&format!("lends it {moved}")) && told.contains("restart the machine"),
            "{told}"
        );
    });
}

#[test]
fn a_lease_that_is_over_is_given_up_and_asked_for_again() {
    isolated("a_lease_that_is_over_is_given_up_and_asked_for_again", || {
        let world = World::new();
        let _server = world.server(&["--dhcp-range=10.9.0.50,10.9.0.60,255.255.255.0,120"]);
        let (facts, _) = world.stage().unwrap();
        // As after a day without a server; the kernel has taken the address away meanwhile.
        let mut kept = world.keeper(&facts).kept().clone();
        kept.held.as_mut().unwrap().since_ms = uptime_ms() - 200_000;
        kept.write(world.root()).unwrap();
        world.machine.ip("address flush dev eth0");
        let mut keeper = world.keeper(&facts);
        world.machine.enter(|| keeper.step()).unwrap();
        assert_eq!(std::net::IpAddr::V4(held(&keeper).lease.address.addr()), facts.address.addr());
        assert_eq!(world.address().unwrap()["local"], json!(facts.address.addr().to_string()));
        assert_eq!(world.machine.ip("route show default")[0]["gateway"], "10.9.0.1");
        assert!(!world.read("/dev/console").contains("restart"), "the same address is no trouble");
    });
}

#[test]
fn an_address_that_another_machine_has_is_declined() {
    isolated("an_address_that_another_machine_has_is_declined", || {
        let world = World::new();
        // The server does not look itself before it lends (`--no-ping`, in World).
        let range = ["--dhcp-range=10.9.0.50,10.9.0.60,255.255.255.0,120"];
        let server = world.server(&range);
        let (facts, _) = world.stage().unwrap();
        let address = facts.address.addr();
        drop(server);
        world.machine.ip("address flush dev eth0");
        // Linux answers for addresses of all its links on each of them.
        world.other.ip(&format!("address add {address}/32 dev lo"));
        let server = world.server(&range);
        let began = uptime_ms();
        let (facts, _) = world.stage().unwrap();
        assert_ne!(facts.address.addr(), address, "{}", server.log());
        // The lease counts from its own request, and that before it was looked at for 50 ms.
        let since = held(&world.keeper(&facts)).since_ms;
        assert!(since >= began + 50, "{began} {since}");
        assert!(server.log().contains(&format!("DHCPDECLINE(srv) {address} {MAC}")), "{}", server.log());
    });
}

#[test]
fn another_address_is_not_used_before_somebody_looked_who_has_it() {
    isolated("another_address_is_not_used_before_somebody_looked_who_has_it", || {
        let world = World::new();
        let server = world.server(&[
            "--dhcp-range=10.9.0.50,10.9.0.60,255.255.255.0,120",
            "--dhcp-option=option:T1,3",
            "--dhcp-option=option:T2,100",
        ]);
        let (facts, _) = world.stage().unwrap();
        let mut keeper = world.keeper(&facts);
        drop(server);
        let (taken, free) = (Ipv4Addr::new(10, 9, 0, 98), Ipv4Addr::new(10, 9, 0, 99));
        world.other.ip(&format!("address add {taken}/32 dev lo"));
        let socket = world.other.enter(liar::socket);
        let stop = AtomicBool::new(false);
        let mut heard = std::thread::scope(|scope| {
            let server = scope.spawn(|| liar::serve(&socket, &[taken, free], &stop));
            let stepped = world.machine.enter(|| keeper.step());
            stop.store(true, Ordering::Relaxed);
            stepped.unwrap();
            server.join().unwrap()
        });
        assert_eq!(held(&keeper).lease.address.addr(), free);
        assert_eq!(world.address().unwrap()["local"], json!(free.to_string()));
        // A message may have come twice on a busy machine.
        heard.dedup();
        let (ask, take, decline) = (liar::DISCOVER, liar::REQUEST, liar::DECLINE);
        assert_eq!(heard, [take, ask, take, decline, ask, take]);
    });
}

#[test]
fn a_route_that_the_kernel_refuses_is_told_and_only_the_default_route_is_needed() {
    isolated("a_route_that_the_kernel_refuses_is_told_and_only_the_default_route_is_needed", || {
        let world = World::new();
        let range = "--dhcp-range=10.9.0.50,10.9.0.60,255.255.255.0,120";
        // The address of everybody is nobody's.
        let routes = "198.51.100.0/24,10.9.0.255,0.0.0.0/0,10.9.0.1,192.0.2.0/24,10.9.0.9";
        let server = world.server(&[range, &format!("--dhcp-option=121,{routes}")]);
        let done = world.run().unwrap();
        assert_eq!(done.problems.len(), 1, "{:?}", done.problems);
        let told = done.problems[0].chain.join(": ");
        assert!(told.contains("did not set the route to 198.51.100.0/24 through 10.9.0.255"), "{told}");
        assert_eq!(world.machine.ip("route show default")[0]["gateway"], "10.9.0.1");
        assert_eq!(world.machine.ip("route show 192.0.2.0/24")[0]["gateway"], "10.9.0.9");

        drop(server);
        world.machine.ip("address flush dev eth0");
        let _server = world.server(&[range, "--dhcp-option=121,0.0.0.0/0,10.9.0.255"]);
        let told = chain(&world.run().unwrap_err()).join(": ");
        assert!(told.contains("did not set the route to 0.0.0.0/0 through 10.9.0.255"), "{told}");
        assert_eq!(world.address(), None);
    });
}

#[test]
fn a_card_that_comes_late_is_asked_too() {
    isolated("a_card_that_comes_late_is_asked_too", || {
        let world = World::new();
        world.cable("aaa0", "52:54:00:09:00:03", "far");
        world.other.ip("link set far up");
        let _server = world.server(&["--dhcp-range=10.9.0.50,10.9.0.60,255.255.255.0,120"]);
        world.machine.ip(&format!("link set eth0 netns {}", world.other.path()));
        let (facts, _) = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_secs(1));
                world.other.ip(&format!("link set eth0 netns {}", world.machine.path()));
            });
            world.stage().unwrap()
        });
        assert_eq!(facts.link, "eth0");
        let flags = &world.machine.ip("link show dev aaa0")[0]["flags"];
        assert!(!flags.as_array().unwrap().contains(&json!("UP")), "{flags}");
    });
}

#[test]
fn without_a_server_or_a_cable_it_ends_in_time_and_says_what_was_seen() {
    isolated("without_a_server_or_a_cable_it_ends_in_time_and_says_what_was_seen", || {
        let world = World::new();
        world.cable("eth1", "52:54:00:09:00:02", "out");
        let begin = Instant::now();
        let error = world.machine.enter(|| {
            let up = links::set_up(world.root(), None, links::Before::default()).unwrap();
            let cards: Vec<Card> = up.cards.iter().filter_map(Card::of).collect();
            dhcp::first(world.root(), &cards, "w9", Duration::from_secs(2)).unwrap_err()
        });
        let took = begin.elapsed();
        assert!(took < Duration::from_secs(6), "{took:?}");
        let text = chain(&error).join(": ");
        assert!(text.starts_with("no DHCP server lent this machine an address within 2 s; "), "{text}");
        for seen in ["eth0 (52:54:00:09:00:01): no answer to ", "eth1 (52:54:00:09:00:02): no carrier"] {
            assert!(text.contains(seen), "{text}");
        }
    });
}

#[test]
fn all_links_are_asked_at_once_and_the_others_are_left_as_they_were() {
    isolated("all_links_are_asked_at_once_and_the_others_are_left_as_they_were", || {
        let world = World::new();
        // One to a switch where nobody lends addresses, and one that is not plugged in.
        world.cable("aaa0", "52:54:00:09:00:03", "far");
        world.machine.ip("link set aaa0 mtu 1400");
        world.other.ip("link set far up");
        world.cable("aaa1", "52:54:00:09:00:04", "out");
        // As some clouds lend it: the router is on no network of the address.
        let _server = world.server(&[
            "--dhcp-range=10.9.0.50,10.9.0.60,255.255.255.0,120",
            "--dhcp-option=option:netmask,255.255.255.255",
            "--dhcp-option=121,10.9.0.1/32,0.0.0.0,0.0.0.0/0,10.9.0.1",
        ]);
        let (facts, _) = world.stage().unwrap();
        assert_eq!(facts.link, "eth0");
        assert_eq!(facts.address.primary().prefix_len(), 32);
        assert_eq!(world.machine.ip("route show default")[0]["gateway"], "10.9.0.1");
        for link in ["aaa0", "aaa1"] {
            let flags = &world.machine.ip(&format!("link show dev {link}"))[0]["flags"];
            assert!(!flags.as_array().unwrap().contains(&json!("UP")), "{link}: {flags}");
        }
        assert_eq!(world.machine.ip("link show dev aaa0")[0]["mtu"], 1400);
    });
}
