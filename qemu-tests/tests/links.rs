//! Links that are made of others: bonds and a VLAN, whose cables end in this test. What the host's kernel has is in
//! `firstboot/src/network/links/tests/made.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::net::Ipv4Addr;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use bootwright::lab::Firmware;
use qemu_tests::{Boot, FIRST_SERVICES, Image, reports};
use serde_json::json;

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

    /// QEMU's arguments for the card.
    fn arguments(&self, mac: &str) -> Vec<String> {
        let card = &self.card;
        let unix =
            format!("local.type=unix,local.path={card}.there,remote.type=unix,remote.path={card}.here");
        vec![
            "-netdev".to_owned(),
            format!("dgram,id=cable-{card},{unix}"),
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
            let Some((to, rest)) = frame.split_at_checked(12) else { return false };
            let rest = match vlan {
                None => rest.strip_prefix(&ARP),
                Some(vlan) => rest.strip_prefix(&TAG).and_then(|rest| {
                    let (tag, rest) = rest.split_first_chunk::<2>()?;
                    // The upper bits are the priority.
                    (u16::from_be_bytes(*tag) & 0xfff == vlan).then(|| rest.strip_prefix(&ARP))?
                }),
            };
            let is_reply =
                |arp: &[u8]| arp.get(6..8) == Some(&[0, 2]) && arp.get(14..18) == Some(&address.octets());
            to[..6] == NEIGHBOUR && rest.is_some_and(is_reply)
        })
    }
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
    let outcome =
        boot.session.machine().qmp().and_then(|qmp| qmp.execute("set_link", json!({"name": card, "up": up})));
    boot.expect("the monitor", outcome);
}

#[test]
fn a_bond_with_a_vlan_outlives_a_pulled_cable() {
    let image = Image::of_bond();
    let mut spec = image.spec("links", Firmware::Bios);
    let cables = CARDS.map(|(card, _)| Cable::new(&spec.folder, card));
    for (cable, (_, mac)) in cables.iter().zip(CARDS) {
        spec.arguments.extend(cable.arguments(mac));
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
