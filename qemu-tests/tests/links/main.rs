//! Links that are made of others: bonds, a VLAN and a bridge, whose cables end in these tests, are plugged in late, or have
//! a DHCP server at the other end. What the host's kernel has is in `firstboot/src/network/links/tests/`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod cables;
mod later;
mod lent;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use bootwright::lab::Firmware;
use qemu_tests::{Boot, FIRST_SERVICES, Image, reports};
use serde_json::{Value, json};

use cables::{Cable, SLOW, answer_from, answering};

/// As `examples/bond.toml` has them.
const NODE: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 10);
const STORAGE: Ipv4Addr = Ipv4Addr::new(10, 30, 0, 10);
const VLAN: u16 = 20;
const CARDS: [(&str, &str); 4] = [
    ("left", "52:54:00:20:01:01"),
    ("right", "52:54:00:20:01:02"),
    ("storage1", "52:54:00:20:01:03"),
    ("storage2", "52:54:00:20:01:04"),
];

/// How long a bond may take to use another member, with its `miimon` and `up-delay` a fraction of a second, and the
/// node's kernel to answer under emulation.
const PATIENCE: Duration = Duration::from_secs(20);

fn plug(boot: &mut Boot<'_>, card: &str, up: bool) {
    monitor(boot, "set_link", json!({"name": card, "up": up}));
}

/// Tells QEMU to do something.
fn monitor(boot: &mut Boot<'_>, command: &str, arguments: Value) {
    let outcome = boot.session.machine().qmp().and_then(|qmp| qmp.execute(command, arguments));
    boot.expect("the monitor", outcome);
}

/// Waits until the machine has said `line` so many times.
fn wait_console(boot: &mut Boot<'_>, line: &str, times: usize) {
    let end = Instant::now() + PATIENCE;
    while boot.console().matches(line).count() < times {
        assert!(Instant::now() < end, "not {times} times {line:?} on the console");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_bond_with_a_vlan_outlives_a_pulled_cable_and_a_bridge_answers() {
    let image = Image::of_bond();
    let mut spec = image.spec("links", Firmware::Bios);
    let cables = CARDS.map(|(card, _)| Cable::new(&spec.folder, card));
    for (cable, (_, mac)) in cables.iter().zip(CARDS) {
        spec.arguments.extend(cable.arguments());
        spec.arguments.extend(cable.card_arguments(mac));
    }
    // A fifth card that nobody describes, on the network that the machine has in other tests.
    spec.mac = "52:54:00:20:01:05".to_owned();
    let mut boot = image.boot(spec);
    let outcome = boot.session.wait_report("the network", FIRST_SERVICES, |report| {
        report.stages.iter().any(|stage| stage.name == "network")
    });
    let report = boot.expect("the boot report", outcome);
    reports::assert_passed(&report);
    let stage = report.stages.iter().find(|stage| stage.name == "network").unwrap();
    println!("network after {} ms: {}", stage.duration_us / 1000, stage.summary);
    let expected = "10.20.0.10/24 on lan (52:54:00:20:01:01, MTU 1500), gateway 10.20.0.1, online after ";
    assert!(stage.summary.starts_with(expected), "{}", stage.summary);

    let (lan, storage) = cables.split_at(2);
    assert_eq!(answering(lan, Some(VLAN), NODE), "left", "the primary");
    plug(&mut boot, "left", false);
    answer_from(lan, Some(VLAN), NODE, |card| card == "right");
    plug(&mut boot, "left", true);
    answer_from(lan, Some(VLAN), NODE, |card| card == "left");

    // The bridge, also where nobody speaks LACP.
    let (_, mac) = CARDS[2];
    println!("{STORAGE} answers through {}", answering(storage, None, STORAGE));
    let lacp = storage.iter().find_map(|cable| {
        let end = Instant::now() + PATIENCE;
        std::iter::from_fn(|| (Instant::now() < end).then(|| cable.frames()))
            .flatten()
            .find(|frame| frame.get(12..14) == Some(&SLOW) && frame.get(14) == Some(&1))
    });
    let lacp = lacp.expect("a bond of mode 802.3ad sends LACP");
    // Of the actor's part (IEEE 802.1AX, section 6.4.2.3) the system, and in its state that it wants to hear often.
    let system: Vec<String> = lacp[20..26].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(system.join(":"), mac);
    assert_eq!(lacp[32] & 0b10, 0b10, "LACP_Timeout: short, as lacp-rate = \"fast\" says");
}
