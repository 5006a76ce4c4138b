//! Advertisements and addresses that cannot be used, and nobody who answers.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use firstboot::network::dhcp6::NoAddress;
use firstboot::network::dhcp6::cards::{Cards, Choice};
use firstboot::network::dhcp6::found::{Found, Wanted};
use firstboot::network::links::{Before, LinkError};
use firstboot::report::chain;
use network_namespaces::process::isolated;

use crate::liar::{advertise, prefix};
use crate::world::{MADE, World};
use crate::{LENDS, NETWORK};

#[derive(Debug, thiserror::Error)]
enum Missing {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Address(#[from] NoAddress),
}

/// Looks for an address for some seconds.
fn search(world: &World, seconds: u64) -> Result<Found, Missing> {
    let wanted = Wanted::default();
    let (root, before) = (world.root(), Before::default());
    let mut cards =
        Cards { root, mac: None, before, wanted: &wanted, known: Vec::new(), refused: Vec::new() };
    world.machine.enter(|| cards.search(Duration::from_secs(seconds), &Mutex::new(Choice::First)))
}

fn why(world: &World, seconds: u64) -> String {
    chain(&search(world, seconds).unwrap_err()).join(": ")
}

#[test]
fn without_a_router_it_ends_in_time_and_says_what_was_seen() {
    isolated("refused::without_a_router_it_ends_in_time_and_says_what_was_seen", || {
        let world = World::new();
        let text = why(&world, 4);
        let starts = "no router or DHCPv6 server gave this machine an IPv6 address within 4 s; eth0 (52:54:00:09:00:01): \
                      no router answers ";
        assert!(text.starts_with(starts), "{text}");
        // The card is as it was.
        let accepts =
            world.machine.enter(|| std::fs::read_to_string("/proc/sys/net/ipv6/conf/eth0/accept_ra"));
        assert_eq!(accepts.unwrap(), "1\n");

        world.other.ip("link set srv down");
        let text = why(&world, 1);
        assert!(text.contains("no carrier"), "{text}");
    });
}

#[test]
fn a_server_that_is_gone_is_told_and_does_not_hold_up_an_address_that_can_be_made() {
    let name = "refused::a_server_that_is_gone_is_told_and_does_not_hold_up_an_address_that_can_be_made";
    isolated(name, || {
        let world = World::new();
        let managed = "AdvManagedFlag on; AdvDefaultLifetime 600;";
        let router = world.radvd(&format!("{managed} prefix fd00:9::/64 {{ AdvAutonomous off; }};"));
        let text = why(&world, 6);
        assert!(text.contains(" advertises DHCPv6, and no server answers"), "{text}");
        assert_eq!(world.addresses(), Vec::<serde_json::Value>::new());
        drop(router);

        let _router = world.radvd(&format!("{managed} prefix fd00:9::/64 {{ }};"));
        let done = world.run(World::identity(), "fd00:10::/56").unwrap();
        assert_eq!(done.value.address.to_string(), format!("{MADE}/64"));
        let told: Vec<String> = done.problems.iter().map(|problem| problem.chain.join(": ")).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].ends_with("advertises DHCPv6, and no server lent an address"), "{told:?}");
    });
}

#[test]
fn an_address_that_another_machine_has_is_declined() {
    isolated("refused::an_address_that_another_machine_has_is_declined", || {
        let world = World::new();
        let server = world.dnsmasq(&LENDS);
        let address = world.stage().unwrap().0.address.addr();
        drop(server);
        world.machine.ip("-6 address flush dev eth0 scope global");
        world.other.ip(&format!("address add {address}/128 dev srv nodad"));
        let server = world.dnsmasq(&LENDS);
        let (facts, _) = world.stage().unwrap();
        let log = server.log();
        assert_ne!(facts.address.addr(), address, "{log}");
        assert!(log.contains("DHCPDECLINE") && world.has(facts.address.addr()), "{log}");
        assert!(!world.has(address));
    });
}

#[test]
fn a_made_address_that_another_machine_has_is_told() {
    isolated("refused::a_made_address_that_another_machine_has_is_told", || {
        let world = World::new();
        let _router = world.radvd(NETWORK);
        world.other.ip(&format!("address add {MADE}/128 dev srv nodad"));
        let text = why(&world, 6);
        let told = format!("{MADE} is made of this card's MAC address, and another machine has it already");
        assert!(text.contains(&told), "{text}");
    });
}

#[test]
fn an_address_of_the_cluster_is_refused() {
    isolated("refused::an_address_of_the_cluster_is_refused", || {
        let world = World::new();
        let _server = world.dnsmasq(&["--enable-ra", "--dhcp-range=fd00:9::c1,fd00:9::c1,64,120"]);
        let text = chain(&world.stage().unwrap_err()).join(": ");
        assert!(
            text.contains("fd00:9::c1/64, lent by ") && text.contains(", is the address of cp1 in"),
            "{text}"
        );
    });
}

#[test]
fn hostile_advertisements_are_passed_over() {
    isolated("refused::hostile_advertisements_are_passed_over", || {
        let world = World::new();
        let stop = AtomicBool::new(false);
        let text = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let good = prefix("fd00:9::", 3600, 1800);
                    // From beyond the link, of a router that is none, without a length, and longer than the message.
                    advertise(&world.other, 64, 0, 600, std::slice::from_ref(&good));
                    advertise(&world.other, 255, 0, 0, &[]);
                    advertise(&world.other, 255, 0, 600, &[good.clone(), vec![3, 0, 0, 0, 0, 0, 0, 0]]);
                    advertise(&world.other, 255, 0, 600, &[good, vec![25, 255, 0, 0, 0, 0, 0, 9]]);
                    std::thread::sleep(Duration::from_millis(200));
                }
            });
            let text = why(&world, 6);
            stop.store(true, Ordering::Relaxed);
            text
        });
        for why in [
            "a hop limit of 64, so that it is not from this link",
            "advertises that it is no default router",
            "an option with a length that cannot be",
        ] {
            assert!(text.contains(why), "{text}");
        }
        assert!(!world.has(MADE));
    });
}
