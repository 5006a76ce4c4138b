//! What the service does once there is an address.

use bootwright_model::layout;
use firstboot::network::dhcp6::held::Held;
use firstboot::network::dhcp6::keep::Keeper;
use firstboot::network::dhcp6::kept::Kept;
use firstboot::report::uptime_ms;
use network_namespaces::process::isolated;

use crate::liar::{advertise, prefix};
use crate::world::{MADE, World, until};
use crate::{LENDS, NETWORK};

/// As if the lease were so much older, and `change`d.
fn age(world: &World, seconds: u64, change: impl FnOnce(&mut Held)) {
    let mut kept = Kept::own(world.root()).unwrap().unwrap();
    let held = kept.held.as_mut().unwrap();
    held.since_ms = uptime_ms() - seconds * 1000;
    change(held);
    kept.write(world.root()).unwrap();
}

fn held(keeper: &Keeper) -> &Held {
    keeper.kept().held.as_ref().unwrap()
}

#[test]
fn a_lease_is_renewed_and_rebound() {
    isolated("kept::a_lease_is_renewed_and_rebound", || {
        let world = World::new();
        let server = world.dnsmasq(&LENDS);
        let (facts, _) = world.stage().unwrap();
        let began = uptime_ms();
        age(&world, 61, |_| {});
        let mut keeper = world.keeper(&facts);
        world.machine.enter(|| keeper.step()).unwrap();
        assert_eq!(held(&keeper).lease.as_ref().unwrap().seconds, 120);
        assert!(held(&keeper).since_ms >= began);
        assert!(server.log().contains("DHCPRENEW"), "{}", server.log());

        // The server that lent it is gone, and this one has another name.
        age(&world, 110, |held| held.lease.as_mut().unwrap().server = vec![0, 3, 0, 1, 1, 2, 3, 4, 5, 6]);
        let mut keeper = world.keeper(&facts);
        world.machine.enter(|| keeper.step()).unwrap();
        assert!(server.log().contains("DHCPREBIND"), "{}", server.log());
        assert!(held(&keeper).since_ms >= began);
        assert_ne!(held(&keeper).lease.as_ref().unwrap().server, [0, 3, 0, 1, 1, 2, 3, 4, 5, 6]);
        assert!(world.has(facts.address.addr()));
        let valid = world.addresses()[0]["valid_life_time"].as_u64().unwrap();
        assert!((60..=120).contains(&valid), "{valid}");
        assert_eq!(world.read("/dev/console"), "", "there is nothing to tell");
    });
}

#[test]
fn a_lease_that_is_over_is_given_up_and_another_is_taken_and_told() {
    isolated("kept::a_lease_that_is_over_is_given_up_and_another_is_taken_and_told", || {
        let world = World::new();
        let server = world.dnsmasq(&LENDS);
        let (facts, _) = world.stage().unwrap();
        let was = facts.address.addr();
        drop(server);
        // As after a day without a server, who lends other addresses now.
        age(&world, 200, |_| {});
        let mut keeper = world.keeper(&facts);
        let _server = world.dnsmasq(&["--enable-ra", "--dhcp-range=fd00:9::70,fd00:9::80,64,120"]);
        world.machine.enter(|| keeper.step()).unwrap();
        let now = held(&keeper).address.addr();
        assert!(world.has(now) && !world.has(was), "{:?}", world.addresses());
        assert!(world.read(layout::LEASE_IPV6).contains(&now.to_string()));
        let told = world.read("/dev/console");
        assert!(
            told.contains(&format!("{was}/64 is lost: its time is over, and no server answers")),
            "{told}"
        );
        assert!(
            told.contains(&format!("address was {was} when it started, and it has now got {now}")),
            "{told}"
        );
        assert!(told.contains("restart the machine"), "{told}");
    });
}

#[test]
fn an_address_that_is_gone_before_its_time_is_set_again() {
    isolated("kept::an_address_that_is_gone_before_its_time_is_set_again", || {
        let world = World::new();
        let _server = world.dnsmasq(&LENDS);
        let (facts, _) = world.stage().unwrap();
        let address = facts.address.addr();
        // It rests for ten seconds more before it renews.
        age(&world, 50, |_| {});
        let mut keeper = world.keeper(&facts);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                world.machine.ip(&format!("address delete {address}/64 dev eth0"));
                until("the address is there again", || world.has(address));
            });
            world.machine.enter(|| keeper.step()).unwrap();
        });
        assert!(world.has(address));
        assert_eq!(world.read("/dev/console"), "");
    });
}

#[test]
fn an_address_that_another_machine_took_meanwhile_is_declined() {
    isolated("kept::an_address_that_another_machine_took_meanwhile_is_declined", || {
        let world = World::new();
        let server = world.dnsmasq(&LENDS);
        let (facts, _) = world.stage().unwrap();
        let was = facts.address.addr();
        world.machine.ip(&format!("address delete {was}/64 dev eth0"));
        world.other.ip(&format!("address add {was}/128 dev srv nodad"));
        let mut keeper = world.keeper(&facts);
        world.machine.enter(|| keeper.step()).unwrap();
        let now = held(&keeper).address.addr();
        assert!(world.has(now) && !world.has(was), "{:?}", world.addresses());
        assert!(server.log().contains("DHCPDECLINE"), "{}", server.log());
        let told = world.read("/dev/console");
        assert!(told.contains(&format!("{was}/64 is lost: another machine has it")), "{told}");
    });
}

#[test]
fn a_card_that_is_plugged_in_elsewhere_asks_whether_its_address_is_right() {
    isolated("kept::a_card_that_is_plugged_in_elsewhere_asks_whether_its_address_is_right", || {
        let world = World::new();
        let server = world.dnsmasq(&LENDS);
        let (facts, _) = world.stage().unwrap();
        drop(server);
        let mut keeper = world.keeper(&facts);
        let server = std::thread::scope(|scope| {
            let stepped = scope.spawn(|| world.machine.enter(|| keeper.step()));
            // The keeper rests, as the lease is young. So short that the kernel tells of nothing: it waits up to a second.
            world.other.ip("link set srv down");
            world.other.ip("address flush dev srv");
            world.other.ip("link set srv up");
            world.other.ip("address add fd00:7::1/64 dev srv nodad");
            let server = world.dnsmasq(&["--enable-ra", "--dhcp-range=fd00:7::50,fd00:7::60,64,120"]);
            stepped.join().unwrap().unwrap();
            server
        });
        assert!(server.log().contains("DHCPCONFIRM"), "{}", server.log());
        let told = world.read("/dev/console");
        assert!(told.contains("is lost: the server says that it is of another network"), "{told}");
        assert!(held(&keeper).address.to_string().starts_with("fd00:7::"), "{}", held(&keeper).address);
    });
}

#[test]
fn a_network_that_goes_away_is_told() {
    isolated("kept::a_network_that_goes_away_is_told", || {
        let world = World::new();
        let router = world.radvd(NETWORK);
        let (facts, _) = world.stage().unwrap();
        drop(router);
        let mut keeper = world.keeper(&facts);
        let stepped = |world: &World, keeper: &mut Keeper, change: &(dyn Fn() + Sync)| {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    std::thread::sleep(std::time::Duration::from_millis(500));
                    change();
                });
                world.machine.enter(|| keeper.step()).unwrap();
            });
            world.read("/dev/console").lines().last().unwrap_or_default().to_owned()
        };
        // Another network, then the own one for nothing new, then not at all.
        let other = || advertise(&world.other, 255, 0, 600, &[prefix("fd00:7::", 3600, 1800)]);
        let told = stepped(&world, &mut keeper, &other);
        assert!(told.contains("of another network too; this node goes on with"), "{told}");
        let old = || advertise(&world.other, 255, 0, 600, &[prefix("fd00:9::", 3600, 0)]);
        let told = stepped(&world, &mut keeper, &old);
        assert!(
            told.contains(&format!("{MADE} on eth0 (52:54:00:09:00:01) is used for nothing new")),
            "{told}"
        );
        let gone = || drop(world.machine.ip(&format!("address delete {MADE}/64 dev eth0")));
        let told = stepped(&world, &mut keeper, &gone);
        assert!(told.contains(&format!("{MADE} on eth0 (52:54:00:09:00:01) is gone")), "{told}");
        assert!(told.contains("fd00:7::"), "{told}");
        let back = || advertise(&world.other, 255, 0, 600, &[prefix("fd00:9::", 3600, 1800)]);
        let told = stepped(&world, &mut keeper, &back);
        assert!(told.contains("is in order again"), "{told}");
        until("the address is there", || world.has(MADE));
    });
}
