//! Clusters of both families: each address from where it is, at the same time and on the same card.

use std::net::IpAddr;

use bootwright_model::families::Family;
use bootwright_model::layout;
use firstboot::identity::Identity;
use firstboot::report::chain;
use network_namespaces::process::isolated;

use crate::world::{MADE, World};
use crate::{LENDS, NETWORK};

const PODS: &str = "10.10.0.0/16,fd00:10::/56";
const LENDS_IPV4: &str = "--dhcp-range=10.9.0.50,10.9.0.60,255.255.255.0,120";

fn node() -> Identity {
    Identity { pod_cidr: "10.10.9.0/24,fd00:10:0:9::/64".parse().ok(), ..World::identity() }
}

#[test]
fn both_are_lent_on_one_card() {
    isolated("both::both_are_lent_on_one_card", || {
        let world = World::new();
        let options = [
            LENDS_IPV4,
            "--dhcp-option=option:dns-server,10.9.0.2",
            "--dhcp-option=option6:dns-server,[fd00:9::53]",
        ];
        let server = world.dnsmasq(&[&LENDS[..], &options].concat());
        let done = world.run(node(), PODS).unwrap();
        println!("{}; the server said\n{}", done.summary, server.log());
        assert_eq!(done.problems, []);
        let facts = done.value;
        assert_eq!(facts.address.families().collect::<Vec<_>>(), [Family::V4, Family::V6]);
        for address in facts.address.addrs().iter() {
            let family = if address.is_ipv4() { "-4" } else { "-6" };
            let shown = world.machine.ip(&format!("{family} address show dev eth0"));
            assert!(shown.to_string().contains(&format!("\"{address}\"")), "{address}: {shown}");
            assert!(world.read("/etc/hosts").contains(&format!("{address} w9\n")));
        }
        let gateway = facts.gateway.unwrap();
        assert_eq!(gateway.of(Family::V6), Some(IpAddr::V6(world.router())));
        assert_eq!(gateway.of(Family::V4), "10.9.0.1".parse().ok());
        let resolvers = "nameserver 10.9.0.2\nnameserver fd00:9::53\nnameserver fd00:20::53\n";
        assert_eq!(world.read("/etc/resolv.conf"), resolvers);
        for lease in [layout::LEASE, layout::LEASE_IPV6] {
            assert!(world.read(lease).contains("\"eth0\""), "{lease}");
        }
    });
}

#[test]
fn an_address_is_made_beside_one_that_somebody_gave() {
    isolated("both::an_address_is_made_beside_one_that_somebody_gave", || {
        let world = World::new();
        let _router = world.radvd(NETWORK);
        let (address, gateway) = ("10.9.0.77/24".parse().ok(), "10.9.0.1".parse().ok());
        let done = world.run(Identity { address, gateway, ..node() }, PODS).unwrap();
        assert_eq!(done.problems, []);
        let facts = done.value;
        assert_eq!(facts.address.to_string(), format!("10.9.0.77/24,{MADE}/64"));
        assert_eq!(facts.gateway.unwrap().to_string(), format!("10.9.0.1,{}", world.router()));
        assert!(world.has(MADE));
    });
}

#[test]
fn a_lease_is_taken_beside_an_ipv6_address_that_somebody_gave() {
    isolated("both::a_lease_is_taken_beside_an_ipv6_address_that_somebody_gave", || {
        let world = World::new();
        let _server = world.dnsmasq(&[LENDS_IPV4]);
        let address = "fd00:9::77/64".parse().ok();
        let done = world.run(Identity { address, ..node() }, PODS).unwrap();
        assert_eq!(done.problems, []);
        let address = done.value.address.to_string();
        assert!(address.starts_with("10.9.0.") && address.ends_with(",fd00:9::77/64"), "{address}");
    });
}

#[test]
fn a_cluster_of_ipv4_waits_for_no_router() {
    isolated("both::a_cluster_of_ipv4_waits_for_no_router", || {
        let world = World::new();
        let _server = world.dnsmasq(&[LENDS_IPV4]);
        let identity = Identity { pod_cidr: "10.10.9.0/24".parse().ok(), ..World::identity() };
        let facts = world.run(identity, "10.10.0.0/16").unwrap().value;
        assert_eq!(facts.address.count(), 1);
        assert!(!world.root().join(&layout::LEASE_IPV6[1..]).exists());
    });
}

#[test]
fn what_is_missing_of_two_is_told() {
    isolated("both::what_is_missing_of_two_is_told", || {
        let world = World::new();
        let error = world.run(node(), PODS).unwrap_err();
        let text = chain(&error).join(": ");
        assert!(text.contains("no DHCP server lent this machine an address within 60 s"), "{text}");
        assert!(
            text.contains("no router or DHCPv6 server gave this machine an IPv6 address within"),
            "{text}"
        );
    });
}
