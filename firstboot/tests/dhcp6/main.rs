//! IPv6 addresses from real routers and servers, radvd and dnsmasq, in network namespaces: what the stage of first boot and
//! the service do, compared with what `ip` shows and what the servers log.
//!
//! Run as root, or by a user who may make user namespaces. A test that gets no namespace, or no server, fails.

// Clippy allows it in functions marked as tests only; here every function is part of one.
#![allow(clippy::unwrap_used)]

mod both;
mod described;
mod kept;
mod liar;
mod refused;
mod world;

use std::net::IpAddr;

use firstboot::identity::Identity;
use network_namespaces::process::isolated;
use serde_json::json;
use world::{MADE, World};

/// What radvd says of the network that the tests are in.
pub const NETWORK: &str =
    "AdvDefaultLifetime 600; prefix fd00:9::/64 { AdvValidLifetime 3600; AdvPreferredLifetime 1800; };";
/// dnsmasq lends and advertises; the least time that it takes.
pub const LENDS: [&str; 2] = ["--enable-ra", "--dhcp-range=fd00:9::50,fd00:9::60,64,120"];

#[test]
fn an_address_is_made_of_what_a_router_advertises() {
    isolated("an_address_is_made_of_what_a_router_advertises", || {
        let world = World::new();
        let words = "AdvLinkMTU 1400; RDNSS fd00:9::53 fd00:9::54 { }; DNSSL lab.example { };";
        let _router = world.radvd(&format!("{NETWORK} {words}"));
        let (facts, summary) = world.stage().unwrap();
        println!("{summary}");
        let router = world.router();
        assert_eq!(facts.address.to_string(), format!("{MADE}/64"));
        assert_eq!(facts.gateway.unwrap().primary(), IpAddr::V6(router));
        assert_eq!((facts.link.as_str(), facts.layer.file.network.mtu), ("eth0", 1400));
        assert!(summary.contains(&format!(", made of what {router} advertises")), "{summary}");

        let shown = world.addresses();
        assert_eq!(shown.len(), 1, "{shown:?}");
        assert_eq!((&shown[0]["local"], &shown[0]["prefixlen"]), (&json!(MADE), &json!(64)));
        assert_ne!(shown[0]["tentative"], json!(true));
        assert_eq!(world.machine.ip("link show dev eth0")[0]["mtu"], 1400);
        assert_eq!(world.gateways(), [router.to_string()]);
        assert_eq!(
            world.read("/etc/resolv.conf"),
            "nameserver fd00:9::53\nnameserver fd00:9::54\nnameserver fd00:20::53\nsearch lab.example\n"
        );
        assert!(world.read("/etc/hosts").contains(&format!("{MADE} w9\n")));
        assert!(world.machine.reaches("fd00:9::1".parse().unwrap()));

        // At the next start the machine is known, and what is set already is no conflict.
        assert_eq!(world.stage().unwrap().0.address, facts.address);
        assert_eq!(world.addresses().len(), 1);
    });
}

#[test]
fn a_lease_brings_what_the_server_knows() {
    isolated("a_lease_brings_what_the_server_knows", || {
        let world = World::new();
        let options = [
            "--dhcp-option=option6:dns-server,[fd00:9::53]",
            "--dhcp-option=option6:domain-search,lab.example",
            "--dhcp-option=option6:ntp-server,[fd00:9::7b]",
        ];
        let server = world.dnsmasq(&[&LENDS[..], &options].concat());
        let (facts, summary) = world.stage().unwrap();
        println!("{summary}; the server said\n{}", server.log());
        let address = facts.address.addr().to_string();
        // The network is that of the router.
        assert_eq!(facts.address.primary().prefix_len(), 64);
        assert!(address.starts_with("fd00:9::5") || address == "fd00:9::60", "{address}");
        assert!(summary.contains(&format!(", lent by {} for 120 s", world.router())), "{summary}");
        assert_eq!(facts.time_servers, ["fd00:9::7b"]);
        let shown = world.addresses();
        assert_eq!((shown.len(), &shown[0]["local"]), (1, &json!(address)), "{shown:?}");
        let valid = shown[0]["valid_life_time"].as_u64().unwrap();
        assert!((60..=120).contains(&valid), "{valid}: the kernel would keep it too long or too short");
        assert_eq!(world.gateways(), [world.router().to_string()]);
        assert_eq!(
            world.read("/etc/resolv.conf"),
            "nameserver fd00:9::53\nnameserver fd00:20::53\nsearch lab.example\n"
        );
        assert!(world.machine.reaches("fd00:9::1".parse().unwrap()), "the kernel has the way to the network");
        let log = server.log();
        // DUID-LL of the card, as there is no firmware.
        assert!(log.contains("00:03:00:01:52:54:00:09:00:01"), "{log}");

        assert_eq!(world.stage().unwrap().0.address, facts.address);
        assert_eq!(world.addresses().len(), 1);
        assert!(!server.log().contains("DHCPDECLINE"), "{}", server.log());
    });
}

#[test]
fn without_the_flag_m_a_server_is_asked_for_the_rest_alone() {
    isolated("without_the_flag_m_a_server_is_asked_for_the_rest_alone", || {
        let world = World::new();
        let server = world.dnsmasq(&[
            "--enable-ra",
            "--dhcp-range=fd00:9::,ra-stateless,64,600",
            "--dhcp-option=option6:ntp-server,[fd00:9::7b]",
        ]);
        let (facts, _) = world.stage().unwrap();
        assert_eq!(facts.address.to_string(), format!("{MADE}/64"));
        assert_eq!(facts.time_servers, ["fd00:9::7b"]);
        let log = server.log();
        assert!(log.contains("DHCPINFORMATION-REQUEST") && !log.contains("DHCPSOLICIT"), "{log}");
    });
}

#[test]
fn of_several_networks_the_clusters_is_the_nodes() {
    isolated("of_several_networks_the_clusters_is_the_nodes", || {
        let world = World::new();
        let others = "prefix 2001:db8:9::/64 { }; prefix fd00:8::/64 { };";
        let _router = world.radvd(&format!("AdvDefaultLifetime 600; {others} prefix fd00:9::/64 {{ }};"));
        let (facts, _) = world.stage().unwrap();
        assert_eq!(facts.address.to_string(), format!("{MADE}/64"));
        assert_eq!(world.addresses().len(), 3);
    });
}

#[test]
fn a_described_card_says_that_a_server_is_to_be_asked() {
    isolated("a_described_card_says_that_a_server_is_to_be_asked", || {
        let world = World::new();
        // It lends addresses, and the router does not say so.
        let _router = world.radvd(NETWORK);
        let server = world.dnsmasq(&LENDS[1..]);
        let card = toml::from_str(
            "name = 'ens3'\nmtu = 1450\nmetric = 77\ndhcp6 = true\naccept-ra = true\nresolvers = ['fd00:9::99']",
        );
        let identity = Identity { links: vec![card.unwrap()], ..World::identity() };
        let done = world.run(identity, "fd00:10::/56").unwrap();
        assert_eq!(done.problems, []);
        let facts = done.value;
        assert_ne!(facts.address.addr().to_string(), MADE, "{}", server.log());
        assert!(done.summary.contains(", lent by "), "{}", done.summary);
        assert_eq!(facts.layer.file.network.mtu, 1450);
        assert_eq!(world.machine.ip("-6 route show default")[0]["metric"], 77);
        assert!(world.read("/etc/resolv.conf").starts_with("nameserver fd00:9::99\n"));
    });
}
