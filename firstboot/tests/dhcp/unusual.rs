//! Late servers, cards that somebody described or pulled out, and leases that a cluster cannot use.

use std::fs;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bootwright_model::links::Link;
use firstboot::identity::Identity;
use firstboot::report::uptime_ms;
use network_namespaces::process::isolated;
use serde_json::json;

use crate::held;
use crate::liar::{self, DECLINE, DISCOVER, REQUEST};
use crate::world::{MAC, World};

const RANGE: &str = "--dhcp-range=10.9.0.50,10.9.0.60,255.255.255.0,120";
/// The least that dnsmasq takes for T1.
const SOON: [&str; 2] = ["--dhcp-option=option:T1,3", "--dhcp-option=option:T2,100"];

#[test]
fn an_offer_that_comes_after_the_next_question_is_taken() {
    isolated("unusual::an_offer_that_comes_after_the_next_question_is_taken", || {
        let world = World::new();
        let socket = world.other.enter(liar::socket);
        let stop = AtomicBool::new(false);
        let address = Ipv4Addr::new(10, 9, 0, 50);
        let (stage, mut heard) = std::thread::scope(|scope| {
            let server = scope.spawn(|| liar::serve_late(&socket, address, &stop));
            let stage = world.stage();
            stop.store(true, Ordering::Relaxed);
            (stage, server.join().unwrap())
        });
        assert_eq!(stage.unwrap().0.address.addr(), address);
        assert_eq!(heard[..2], [DISCOVER, DISCOVER]);
        heard.dedup();
        assert_eq!(heard, [DISCOVER, REQUEST]);
    });
}

#[test]
fn a_replacement_that_is_anothers_in_the_cluster_is_told_and_declined() {
    isolated("unusual::a_replacement_that_is_anothers_in_the_cluster_is_told_and_declined", || {
        let world = World::new();
        let server = world.server(&[&[RANGE][..], &SOON].concat());
        let (facts, _) = world.stage().unwrap();
        let mut keeper = world.keeper(&facts);
        drop(server);
        let (of_cp1, free) = (Ipv4Addr::new(10, 20, 0, 10), Ipv4Addr::new(10, 9, 0, 99));
        let socket = world.other.enter(liar::socket);
        let stop = AtomicBool::new(false);
        let mut heard = std::thread::scope(|scope| {
            let server = scope.spawn(|| liar::serve(&socket, &[of_cp1, free], &stop));
            let stepped = world.machine.enter(|| keeper.step());
            stop.store(true, Ordering::Relaxed);
            stepped.unwrap();
            server.join().unwrap()
        });
        assert_eq!(world.address().unwrap()["local"], json!(free.to_string()));
        heard.dedup();
        assert_eq!(heard, [REQUEST, DISCOVER, REQUEST, DECLINE, DISCOVER, REQUEST]);
        let told = world.read("/dev/console");
        let why = "10.9.0.1 lent 10.20.0.10/24, which is the address of cp1 in the cluster file: take the cluster's";
        assert!(told.contains(why), "{told}");
    });
}

#[test]
fn a_card_that_was_pulled_out_is_found_by_its_name() {
    isolated("unusual::a_card_that_was_pulled_out_is_found_by_its_name", || {
        let world = World::new();
        let server = world.server(&[RANGE]);
        let (facts, _) = world.stage().unwrap();
        let mut kept = world.keeper(&facts).kept().clone();
        // As after a day without a server.
        kept.held.as_mut().unwrap().since_ms = uptime_ms() - 200_000;
        kept.write(world.root()).unwrap();
        let mut keeper = world.keeper(&facts);
        drop(server);
        world.machine.ip("link delete eth0");
        let _server = std::thread::scope(|scope| {
            let plugged = scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(1500));
                world.cable("eth0", MAC, "srv");
                world.other.ip("address add 10.9.0.1/24 dev srv");
                world.other.ip("link set srv up");
                world.server(&[RANGE])
            });
            let stepped = world.machine.enter(|| keeper.step());
            let server = plugged.join().unwrap();
            stepped.unwrap();
            server
        });
        let lent = held(&keeper).lease.address.addr();
        assert_eq!(world.address().unwrap()["local"], json!(lent.to_string()));
        let told = world.read("/dev/console");
        // Once, and not at every look.
        assert_eq!(told.matches("there is no link eth0 any more").count(), 1, "{told}");
    });
}

#[test]
fn what_a_described_card_says_holds_for_its_lease() {
    isolated("unusual::what_a_described_card_says_holds_for_its_lease", || {
        let world = World::new();
        let options =
            ["--dhcp-option=option:dns-server,10.9.0.2", "--dhcp-option=option:domain-search,lab.example"];
        let _server = world.server(&[&[RANGE][..], &SOON, &options].concat());
        let conf = world.root().join("proc/sys/net/ipv6/conf/eth0");
        fs::create_dir_all(&conf).unwrap();
        for file in ["accept_ra", "autoconf"] {
            fs::write(conf.join(file), "1\n").unwrap();
        }
        let card: Link = toml::from_str(
            "name = 'ens3'\nmtu = 1450\nmetric = 77\naccept-ra = false\nresolvers = ['10.9.0.53']\nsearch = ['described.example']",
        )
        .unwrap();
        let done = world.run_as(Identity { links: vec![card], ..World::identity() }).unwrap();
        assert_eq!(done.problems, []);
        let facts = done.value;
        assert_eq!(facts.layer.file.network.mtu, 1450);
        assert_eq!(fs::read_to_string(conf.join("accept_ra")).unwrap(), "0");

        let resolvers = "nameserver 10.9.0.53\nnameserver 10.9.0.2\nnameserver 10.20.0.53\nsearch described.example lab.example\n";
        let is_kept = || {
            assert_eq!(world.read("/etc/resolv.conf"), resolvers);
            let routes = world.machine.ip("route show default");
            assert_eq!((routes.as_array().unwrap().len(), &routes[0]["metric"]), (1, &json!(77)));
            assert_eq!(world.machine.ip("link show dev eth0")[0]["mtu"], 1450);
        };
        is_kept();
        let mut keeper = world.keeper(&facts);
        world.machine.enter(|| keeper.step()).unwrap();
        is_kept();
    });
}

#[test]
fn pods_are_made_for_a_described_link_of_a_given_address() {
    isolated("unusual::pods_are_made_for_a_described_link_of_a_given_address", || {
        let world = World::new();
        let link = Link { name: "eth0".to_owned(), mtu: Some(1400), ..Link::default() };
        let address = "10.9.0.77/24".parse().ok();
        let done = world.run_as(Identity { address, links: vec![link], ..World::identity() }).unwrap();
        assert_eq!(done.value.layer.file.network.mtu, 1400);
        assert_eq!(world.address().unwrap()["local"], "10.9.0.77");
    });
}
