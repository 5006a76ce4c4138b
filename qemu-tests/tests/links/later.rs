//! Cables and cards that come after the boot.

use std::time::{Duration, Instant};

use bootwright::lab::Firmware;
use qemu_tests::{Boot, FIRST_SERVICES, Image, reports};
use serde_json::{Value, json};

use super::cables::{Cable, answering};
use super::{CARDS, NODE, PATIENCE, STORAGE, VLAN, monitor, plug, wait_console};

/// A slot that a card can be plugged into while the machine runs.
const SLOT: &str = "plug";

/// Plugs a device into the slot.
fn plug_device(boot: &mut Boot<'_>, device: &Value) {
    monitor(boot, "device_add", device.clone());
}

/// Pulls it out, and waits until the machine has let go of it.
fn pull_device(boot: &mut Boot<'_>, name: &str) {
    monitor(boot, "device_del", json!({"id": name}));
    let outcome = boot.session.machine().qmp().and_then(|qmp| {
        let end = Instant::now() + PATIENCE;
        // Its parts are told one by one, the device last.
        while let Some(event) = qmp.event("DEVICE_DELETED", end)? {
            if event["data"]["device"] == name {
                return Ok(true);
            }
        }
        Ok(false)
    });
    assert!(boot.expect("the monitor", outcome), "the machine does not let go of {name}");
}

/// Waits until a driver of the machine works with a virtio device.
fn wait_driver(boot: &mut Boot<'_>, name: &str) {
    let end = Instant::now() + PATIENCE;
    let path = format!("/machine/peripheral/{name}/virtio-backend");
    loop {
        let status = boot
            .session
            .machine()
            .qmp()
            .and_then(|qmp| qmp.execute("x-query-virtio-status", json!({"path": path})));
        let status = boot.expect("the monitor", status)["status"].to_string();
        if status.contains("DRIVER_OK") {
            return;
        }
        assert!(Instant::now() < end, "no driver for {name}: {status}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn cables_and_cards_that_come_after_the_boot_are_taken_in() {
    let image = Image::of_bond();
    let mut spec = image.spec("links-later", Firmware::Bios);
    let cables = CARDS.map(|(card, _)| Cable::new(&spec.folder, card));
    for (cable, (_, mac)) in cables.iter().zip(CARDS) {
        spec.arguments.extend(cable.arguments());
        if ["left", "right"].contains(&cable.card.as_str()) {
            spec.arguments.extend(cable.card_arguments(mac));
        }
    }
    spec.arguments.extend(["-device".to_owned(), format!("pcie-root-port,id={SLOT},chassis=1,slot=1")]);
    spec.mac = "52:54:00:20:01:05".to_owned();
    let mut boot = image.boot(spec);
    // Before the kernel has begun.
    plug(&mut boot, "left", false);
    plug(&mut boot, "right", false);
    let outcome =
        boot.session.wait_report("the links", FIRST_SERVICES, |report| reports::is_ready(report, "links"));
    let report = boot.expect("the boot report", outcome);
    let stage = report.stages.iter().find(|stage| stage.name == "network").unwrap();
    assert!(stage.summary.contains(", not online"), "{}", stage.summary);

    let (lan, storage) = cables.split_at(2);
    plug(&mut boot, "right", true);
    let end = Instant::now() + PATIENCE;
    while !lan[1].is_announced(Some(VLAN), NODE) {
        assert!(Instant::now() < end, "nobody is told where {NODE} is");
    }
    assert_eq!(answering(lan, Some(VLAN), NODE), "right");
    // What happened before the service's first look is told by nobody.
    plug(&mut boot, "right", false);
    wait_console(&mut boot, "links: carrier lost on lan", 1);
    plug(&mut boot, "right", true);
    wait_console(&mut boot, "links: carrier on lan", 1);

    // Virtio's driver of cards is there, as two have it.
    let (card, mac) = CARDS[2];
    let netdev = format!("cable-{card}");
    let device = json!({
        "driver": "virtio-net-pci", "id": card, "bus": SLOT, "netdev": netdev, "mac": mac, "romfile": "",
        "speed": 1000, "duplex": "full",
    });
    for round in 1..=2 {
        plug_device(&mut boot, &device);
        println!("round {round}: {STORAGE} answers through {}", answering(storage, None, STORAGE));
        pull_device(&mut boot, card);
    }
    // And that of SCSI is not: nothing has asked for it.
    plug_device(&mut boot, &json!({"driver": "virtio-scsi-pci", "id": "scsi", "bus": SLOT}));
    wait_driver(&mut boot, "scsi");
}
