//! Links that are described, and whose addresses DHCP servers lend or routers advertise.

use std::fs::{self, File};
use std::sync::atomic::{AtomicBool, Ordering};

use bootwright::lab::Firmware;
use bootwright::lab::spec::Network;
use bootwright_model::layout::SEED_LABEL;
use bootwright_model::report::Outcome;
use qemu_tests::{FIRST_SERVICES, Image, partition, reports, write_seed};

use super::cables::{Cable, TAG};
use super::{CARDS, VLAN};

/// A switch between the cables, whose ports have the packets of the VLAN alone, tagged, and one that has them untagged.
fn switch(tagged: &[Cable], untagged: &Cable, stop: &AtomicBool) {
    // It learns where the machine is, as a bond sends by one card at a time.
    let mut port = &tagged[0];
    let tag = [&TAG[..], &VLAN.to_be_bytes()].concat();
    while !stop.load(Ordering::Relaxed) {
        for cable in tagged {
            for frame in cable.frames() {
                // Twelve bytes of addresses, and the tag.
                if frame.get(12..16) == Some(&tag[..]) {
                    port = cable;
                    untagged.send(&[&frame[..12], &frame[16..]].concat());
                }
            }
        }
        for frame in untagged.frames().iter().filter(|frame| frame.len() > 12) {
            port.send(&[&frame[..12], &tag[..], &frame[12..]].concat());
        }
    }
}

/// What a worker that no cluster file knows is told of its links.
const LENT: &str = r#"
name = "w9"
pod-cidr = ["10.10.9.0/24", "fd00:10:10:9::/64"]

[[link]]
name = "left"
mac = "52:54:00:20:01:01"

[[link]]
name = "right"
mac = "52:54:00:20:01:02"

[[link]]
name = "bond0"
bond = { members = ["left", "right"], primary = "left" }

[[link]]
name = "lan"
dhcp4 = true
accept-ra = true
vlan = { id = 20, link = "bond0" }

[[link]]
name = "storage"
mac = "52:54:00:20:01:03"
dhcp4 = true
"#;

/// Two of QEMU's networks, each with a server of its own: one is reached through the VLAN, and has a router too.
#[test]
fn a_vlan_on_a_bond_and_a_further_card_are_lent_addresses() {
    let image = Image::of_dual();
    let mut spec = image.spec("links-lent", Firmware::Bios);
    spec.image = spec.folder.join("worker-with-seed.raw");
    fs::copy(image.root().join("worker.raw"), &spec.image).unwrap();
    let (offset, length) = partition(&spec.image, SEED_LABEL);
    write_seed(&File::options().read(true).write(true).open(&spec.image).unwrap(), offset, length, LENT);
    // A card that nobody describes is not asked on.
    spec.mac = "52:54:00:20:01:05".to_owned();
    if let Network::User { ports, .. } = &mut spec.network {
        ports.clear();
    }
    let folder = spec.folder.clone();
    let cables = ["left", "right", "uplink"].map(|card| Cable::new(&folder, card));
    let (tagged, untagged) = (&cables[..2], &cables[2]);
    for (cable, (_, mac)) in tagged.iter().zip(CARDS) {
        spec.arguments.extend(cable.arguments());
        spec.arguments.extend(cable.card_arguments(mac));
    }
    spec.arguments.extend(untagged.arguments());
    let network = |name: &str, net: &str| format!("user,id={name},restrict=on,net={net}");
    let lan = network("lan", "10.20.0.0/24,ipv4=on,ipv6=on,ipv6-prefix=fd00:20::,ipv6-prefixlen=64");
    let card = format!("virtio-net-pci,netdev=storage,romfile=,mac={}", CARDS[2].1);
    for (kind, value) in [
        ("-netdev", lan),
        ("-netdev", "hubport,id=lan-port,hubid=7,netdev=lan".to_owned()),
        ("-netdev", "hubport,id=uplink-port,hubid=7,netdev=cable-uplink".to_owned()),
        ("-netdev", network("storage", "10.30.0.0/24,ipv6=off")),
        ("-device", card),
    ] {
        spec.arguments.extend([kind.to_owned(), value]);
    }
    let mut boot = image.boot(spec);
    let stop = AtomicBool::new(false);
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| switch(tagged, untagged, &stop));
        let outcome =
            boot.session.wait_report("the service that renews the leases", FIRST_SERVICES, |report| {
                reports::is_ready(report, "dhcp")
            });
        stop.store(true, Ordering::Relaxed);
        outcome
    });
    let report = boot.expect("the boot report", outcome);
    // The control planes that have the time are not there.
    for stage in report.stages.iter().filter(|stage| stage.name != "clock") {
        assert_eq!(stage.outcome, Outcome::Passed, "stage {}", stage.name);
    }
    let stage = report.stages.iter().find(|stage| stage.name == "network").unwrap();
    println!("network after {} ms: {}", stage.duration_us / 1000, stage.summary);
    let lan = "10.20.0.15/24, fd00:20::5054:ff:fe20:101/64 on lan (52:54:00:20:01:01, MTU 1500), gateway fe80::2, \
               lent by 10.20.0.2 for 86400 s, made of what fe80::2 advertises, online after ";
    assert!(stage.summary.starts_with(lan), "{}", stage.summary);
    let storage = "; lent 10.30.0.15/24 on eth";
    assert!(stage.summary.contains(storage), "{}", stage.summary);
    assert!(stage.summary.ends_with(" by 10.30.0.2 for 86400 s"), "{}", stage.summary);
}
