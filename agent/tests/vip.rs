//! The virtual address on real links: the kernel takes it away in time, and neighbours learn where it is.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::net::IpAddr;
use std::time::{Duration, Instant};

use agent::vip::address::Address;
use network_namespaces::Namespace;
use network_namespaces::process::isolated;

/// Short, for a short test: two seconds remain when the margin is taken off.
const LEASE: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn an_address_that_nobody_renews_goes_before_the_lease_is_over() {
    isolated("an_address_that_nobody_renews_goes_before_the_lease_is_over", || {
        for address in ["10.20.0.9", "fd00::9"] {
            let link = Link::new();
            let a = link.machine("a");
            let begin = Instant::now();
            a.enter(|| {
                let mut held = Address::new(address.parse().unwrap(), "eth0");
                held.hold(tokio::time::Instant::now() + LEASE).unwrap();
                // As an agent that is killed: nobody gives it back.
                std::mem::forget(held);
            });
            assert!(has(&a, address));
            loop {
                let asked = begin.elapsed();
                if !has(&a, address) {
                    break;
                }
                assert!(asked < LEASE, "{address} is still there after {asked:?}");
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    });
}

#[test]
fn an_address_that_is_renewed_stays_and_the_next_holder_is_believed() {
    isolated("an_address_that_is_renewed_stays_and_the_next_holder_is_believed", || {
        for address in ["10.20.0.9", "fd00::9"] {
            let link = Link::new();
            let (a, b) = (link.machine("a"), link.machine("b"));
            link.remembers(address, "02:00:00:00:00:99");
            a.ip("address add 10.20.0.2/24 dev eth0");
            a.ip("address add fd00::2/64 dev eth0 nodad");
            a.enter(|| {
                let mut held = Address::new(address.parse().unwrap(), "eth0");
                let begin = Instant::now();
                // Longer than one loan.
                while begin.elapsed() < LEASE {
                    held.hold(tokio::time::Instant::now() + LEASE).unwrap();
                    std::thread::sleep(LEASE / 8);
                }
                assert!(has(&a, address));
                // What this machine begins itself does not come from an address that moves.
                for client in ["10.20.0.1", "fd00::1"] {
                    let route = a.ip(&format!("route get {client}"));
                    assert!(
                        ["10.20.0.2", "fd00::2"].map(Into::into).contains(&route[0]["prefsrc"]),
                        "{route}"
                    );
                }
                link.eventually_remembers(address, &mac(&a));
                held.give_back().unwrap();
                assert!(!has(&a, address));
                // Again, and of one that is not there.
                held.give_back().unwrap();
                Address::new(address.parse().unwrap(), "eth0").give_back().unwrap();
            });
            b.enter(|| {
                let mut held = Address::new(address.parse().unwrap(), "eth0");
                held.hold(tokio::time::Instant::now() + LEASE).unwrap();
                link.eventually_remembers(address, &mac(&b));
                // It goes with the agent that ends well.
                drop(held);
                assert!(!has(&b, address));
            });
        }
    });
}

#[test]
fn a_lease_that_is_almost_over_and_a_link_that_is_not_there_are_told() {
    isolated("a_lease_that_is_almost_over_and_a_link_that_is_not_there_are_told", || {
        let link = Link::new();
        let a = link.machine("a");
        let told = |name: &'static str, lease| {
            a.enter(|| {
                let held = Address::new("10.20.0.9".parse().unwrap(), name)
                    .hold(tokio::time::Instant::now() + Duration::from_secs(lease));
                agent::chain(&held.unwrap_err())
            })
        };
        assert_eq!(told("eth0", 2), "the Lease was written too late to be of use");
        let no_link = told("eth9", 10);
        assert!(no_link.contains("10.20.0.9 (eth9)") && no_link.contains("No such device"), "{no_link}");
        assert!(!has(&a, "10.20.0.9"));
    });
}

/// One link with a client of the address on it.
struct Link(Namespace);

impl Link {
    fn new() -> Link {
        let client = Namespace::new();
        client.ip("link add bridge type bridge");
        client.ip("link set bridge up");
        client.ip("address add 10.20.0.1/24 dev bridge");
        client.ip("address add fd00::1/64 dev bridge nodad");
        Link(client)
    }

    /// One more machine, with `eth0` on the link.
    fn machine(&self, name: &str) -> Namespace {
        let machine = Namespace::new();
        machine.ip(&format!("link add eth0 type veth peer name {name} netns {}", self.0.path()));
        machine.ip("link set eth0 up");
        self.0.ip(&format!("link set dev {name} master bridge up"));
        machine
    }

    /// The client has sent something to the machine with this MAC address before.
    fn remembers(&self, address: &str, mac: &str) {
        self.0.ip(&format!("neighbour replace {address} lladdr {mac} dev bridge nud stale"));
    }

    fn eventually_remembers(&self, address: &str, mac: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            let shown = self.0.ip(&format!("neighbour show {address} dev bridge"));
            if shown[0]["lladdr"] == mac {
                return;
            }
            assert!(Instant::now() < end, "{shown} instead of {mac}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn has(machine: &Namespace, address: &str) -> bool {
    let wanted: IpAddr = address.parse().unwrap();
    let shown = machine.ip("address show dev eth0");
    let mut all = shown[0]["addr_info"].as_array().into_iter().flatten();
    all.any(|one| one["local"].as_str().and_then(|local| local.parse().ok()) == Some(wanted))
}

fn mac(machine: &Namespace) -> String {
    machine.ip("link show dev eth0")[0]["address"].as_str().unwrap().to_owned()
}
