//! The service on several links: what becomes of one is nothing to the others, and cables and cards come and go.

use std::time::{Duration, Instant};

use firstboot::network::dhcp::keep;
use network_namespaces::process::isolated;

use crate::described::{BOTH, FIRST, SECOND, identity};
use crate::held;
use crate::world::{MAC, World};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_server_that_is_dead_holds_up_no_other() {
    isolated("followed::a_server_that_is_dead_holds_up_no_other", || {
        let world = World::new();
        let second = world.further("eth1", SECOND, 8);
        let first = world.server(&FIRST);
        let server = second.server(&[]);
        let done = world.run_as(identity(BOTH)).unwrap();
        assert_eq!(done.problems, []);
        let addresses = [world.address_of("eth0"), world.address_of("eth1")];
        // The node's own server is gone, and does not answer when it is asked for more.
        drop(first);
        let renewals = || server.log().matches("DHCPACK(").count();
        assert_eq!(renewals(), 1);
        // It runs as long as the test.
        let root = world.root().to_owned();
        world.machine.enter(|| std::thread::spawn(move || keep::main(&root)));
        eventually("the other is renewed twice", || renewals() >= 3);
        let first = world.server(&FIRST);
        // Asked again after a minute at the earliest (RFC 2131), so not here; but nothing is lost.
        assert_eq!([world.address_of("eth0"), world.address_of("eth1")], addresses, "{}", first.log());
        assert_eq!(world.ways_out().len(), 2);
    });
}

#[test]
fn a_cable_in_another_network_brings_its_address() {
    isolated("followed::a_cable_in_another_network_brings_its_address", || {
        let world = World::new();
        let long = |range: &str| format!("--dhcp-range={range},255.255.255.0,3600");
        let server = world.server(&[&long("10.9.0.50,10.9.0.60")]);
        let (facts, _) = world.stage().unwrap();
        let mut keeper = world.keeper(&facts);
        let before = held(&keeper).lease.address;
        drop(server);
        let _server = std::thread::scope(|scope| {
            let moved = scope.spawn(|| {
                // The service rests by then: there is half an hour to the next request.
                std::thread::sleep(Duration::from_secs(1));
                world.other.ip("link set srv down");
                let server = world.server(&[&long("10.9.0.70,10.9.0.80")]);
                std::thread::sleep(Duration::from_secs(1));
                world.other.ip("link set srv up");
                server
            });
            world.machine.enter(|| keeper.step()).unwrap();
            moved.join().unwrap()
        });
        let now = held(&keeper).lease.address;
        assert!(now != before && (70..=80).contains(&now.addr().octets()[3]), "{before} {now}");
        assert_eq!(world.address_of("eth0"), Some(now.addr().to_string()));
    });
}

#[test]
fn a_card_that_comes_back_is_lent_its_address_at_once() {
    isolated("followed::a_card_that_comes_back_is_lent_its_address_at_once", || {
        let world = World::new();
        let server = world.server(&["--dhcp-range=10.9.0.50,10.9.0.60,255.255.255.0,3600"]);
        let (facts, _) = world.stage().unwrap();
        let mut keeper = world.keeper(&facts);
        drop(server);
        let _server = std::thread::scope(|scope| {
            let plugged = scope.spawn(|| {
                std::thread::sleep(Duration::from_secs(1));
                world.machine.ip("link delete eth0");
                world.cable("eth0", MAC, "srv");
                world.other.ip("address add 10.9.0.1/24 dev srv");
                world.other.ip("link set srv up");
                world.server(&["--dhcp-range=10.9.0.50,10.9.0.60,255.255.255.0,3600"])
            });
            world.machine.enter(|| keeper.step()).unwrap();
            plugged.join().unwrap()
        });
        assert_eq!(world.address_of("eth0"), Some(held(&keeper).lease.address.addr().to_string()));
    });
}

#[test]
fn a_described_card_that_comes_later_is_lent_an_address() {
    isolated("followed::a_described_card_that_comes_later_is_lent_an_address", || {
        let world = World::new();
        let _server = world.server(&FIRST);
        let done = world.run_as(identity(BOTH)).unwrap();
        let told: Vec<String> = done.problems.iter().map(|problem| problem.chain.join(": ")).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("no link has the MAC address 52:54:00:09:00:02"), "{told:?}");
        let second = world.further("eth7", SECOND, 8);
        let _second = second.server(&[]);
        let mut keeper = world.keepers(&done.value).remove(1);
        world.machine.enter(|| keeper.step()).unwrap();
        assert!(world.address_of("eth7").unwrap().starts_with("10.8.0."));
        assert_eq!(keeper.kept().link, "eth7");
    });
}
