//! Links that are made of others: bonds and a VLAN, whose cables end in this test, and are plugged in late. What the
//! host's kernel has is in `firstboot/src/network/links/tests/`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::net::Ipv4Addr;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use bootwright::lab::Firmware;
use qemu_tests::{Boot, FIRST_SERVICES, Image, reports};
use serde_json::{Value, json};

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

/// MAC of the neighbour that the test is.
const NEIGHBOUR: [u8; 6] = [0x52, 0x54, 0, 0x20, 1, 0xff];
/// Ethernet types (IEEE): ARP, 802.1Q tags, and the slow protocols, of which LACP is one.
const ARP: [u8; 2] = [0x08, 0x06];
const TAG: [u8; 2] = [0x81, 0x00];
const SLOW: [u8; 2] = [0x88, 0x09];

/// The other end of a card's cable: each frame is a datagram.
struct Cable {
    socket: UnixDatagram,
    card: String,
    to: std::path::PathBuf,
}

impl Cable {
    fn new(folder: &Path, card: &str) -> Cable {
        let socket = UnixDatagram::bind(folder.join(format!("{card}.here"))).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        Cable { socket, card: card.to_owned(), to: folder.join(format!("{card}.there")) }
    }

    /// QEMU's arguments for the cable alone.
    fn arguments(&self) -> Vec<String> {
        let card = &self.card;
        let unix =
            format!("local.type=unix,local.path={card}.there,remote.type=unix,remote.path={card}.here");
        vec!["-netdev".to_owned(), format!("dgram,id=cable-{card},{unix}")]
    }

    /// QEMU's arguments for the card at its end.
    fn card_arguments(&self, mac: &str) -> Vec<String> {
        let card = &self.card;
        vec![
            "-device".to_owned(),
            // Bonds of mode 802.3ad leave a card that does not know its speed alone.
            format!("virtio-net-pci,id={card},netdev=cable-{card},romfile=,speed=1000,duplex=full,mac={mac}"),
        ]
    }

    /// Asks who has `address`, in a VLAN if one is given.
    fn ask(&self, vlan: Option<u16>, address: Ipv4Addr) {
        let mut frame = [[0xff; 6], NEIGHBOUR].concat();
        if let Some(vlan) = vlan {
            frame.extend(TAG);
            frame.extend(vlan.to_be_bytes());
        }
        frame.extend(ARP);
        frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
        frame.extend(NEIGHBOUR);
        // A neighbour in the address's network.
        let [a, b, c, _] = address.octets();
        frame.extend([a, b, c, 1]);
        frame.extend([0; 6]);
        frame.extend(address.octets());
        frame.resize(64, 0);
        // QEMU may not read yet.
        let _ = self.socket.send_to(&frame, &self.to);
    }

    /// Frames that have come.
    fn frames(&self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut bytes = [0; 2048];
        while frames.len() < 1000
            && let Ok(length) = self.socket.recv(&mut bytes)
        {
            frames.push(bytes[..length].to_vec());
        }
        frames
    }

    /// Whether the answer to [`Cable::ask`] has come through this cable.
    fn is_answered(&self, vlan: Option<u16>, address: Ipv4Addr) -> bool {
        self.frames().iter().any(|frame| {
            let is_reply =
                |arp: &[u8]| arp.get(6..8) == Some(&[0, 2]) && arp.get(14..18) == Some(&address.octets());
            frame.starts_with(&NEIGHBOUR) && arp(frame, vlan).is_some_and(is_reply)
        })
    }

    /// Whether everybody was told through this cable where `address` is (RFC 5227, section 3).
    fn is_announced(&self, vlan: Option<u16>, address: Ipv4Addr) -> bool {
        let address = address.octets();
        self.frames().iter().any(|frame| {
            let is_both = |arp: &[u8]| arp.get(14..18) == Some(&address) && arp.get(24..28) == Some(&address);
            frame.starts_with(&[0xff; 6]) && arp(frame, vlan).is_some_and(is_both)
        })
    }
}

/// The ARP packet of a frame, if it is one of a VLAN or of none.
fn arp(frame: &[u8], vlan: Option<u16>) -> Option<&[u8]> {
    let rest = frame.get(12..)?;
    let Some(vlan) = vlan else { return rest.strip_prefix(&ARP) };
    let (tag, rest) = rest.strip_prefix(&TAG)?.split_first_chunk::<2>()?;
    // The upper bits are the priority.
    (u16::from_be_bytes(*tag) & 0xfff == vlan).then(|| rest.strip_prefix(&ARP))?
}

/// Asks through all cables until one answers; its card.
fn answering(cables: &[Cable], vlan: Option<u16>, address: Ipv4Addr) -> &str {
    answer_from(cables, vlan, address, |_| true)
}

/// The same until the card is one that `fits`.
fn answer_from(cables: &[Cable], vlan: Option<u16>, address: Ipv4Addr, fits: impl Fn(&str) -> bool) -> &str {
    let end = Instant::now() + PATIENCE;
    let mut other = None;
    while Instant::now() < end {
        for cable in cables {
            cable.ask(vlan, address);
        }
        std::thread::sleep(Duration::from_millis(50));
        for cable in cables.iter().filter(|cable| cable.is_answered(vlan, address)) {
            if fits(&cable.card) {
                return &cable.card;
            }
            other = Some(&cable.card);
        }
    }
    panic!("no answer for {address} from there after {PATIENCE:?}, the last one from {other:?}");
}

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
fn a_bond_with_a_vlan_outlives_a_pulled_cable() {
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

    // Also where nobody speaks LACP.
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
        let event = qmp.event("DEVICE_DELETED", Instant::now() + PATIENCE)?;
        Ok(event.is_some_and(|event| event["data"]["device"] == name))
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
    assert!(stage.summary.ends_with("not online"), "{}", stage.summary);

    let (lan, storage) = cables.split_at(2);
    plug(&mut boot, "right", true);
    let end = Instant::now() + PATIENCE;
    while !lan[1].is_announced(Some(VLAN), NODE) {
        assert!(Instant::now() < end, "nobody is told where {NODE} is");
    }
    assert_eq!(answering(lan, Some(VLAN), NODE), "right");
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
