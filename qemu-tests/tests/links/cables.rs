//! Cards whose cables end in the test: each frame is a datagram of a socket that QEMU has the other end of.

use std::net::Ipv4Addr;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use super::PATIENCE;

/// MAC of the neighbour that the test is.
const NEIGHBOUR: [u8; 6] = [0x52, 0x54, 0, 0x20, 1, 0xff];
/// Ethernet types (IEEE): ARP, 802.1Q tags, and the slow protocols, of which LACP is one.
const ARP: [u8; 2] = [0x08, 0x06];
pub const TAG: [u8; 2] = [0x81, 0x00];
pub const SLOW: [u8; 2] = [0x88, 0x09];

/// The other end of a card's cable: each frame is a datagram.
pub struct Cable {
    socket: UnixDatagram,
    pub card: String,
    to: std::path::PathBuf,
}

impl Cable {
    pub fn new(folder: &Path, card: &str) -> Cable {
        let socket = UnixDatagram::bind(folder.join(format!("{card}.here"))).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        Cable { socket, card: card.to_owned(), to: folder.join(format!("{card}.there")) }
    }

    /// QEMU's arguments for the cable alone.
    pub fn arguments(&self) -> Vec<String> {
        let card = &self.card;
        let unix =
            format!("local.type=unix,local.path={card}.there,remote.type=unix,remote.path={card}.here");
        vec!["-netdev".to_owned(), format!("dgram,id=cable-{card},{unix}")]
    }

    /// QEMU's arguments for the card at its end.
    pub fn card_arguments(&self, mac: &str) -> Vec<String> {
        let card = &self.card;
        vec![
            "-device".to_owned(),
            // Bonds of mode 802.3ad leave a card that does not know its speed alone.
            format!("virtio-net-pci,id={card},netdev=cable-{card},romfile=,speed=1000,duplex=full,mac={mac}"),
        ]
    }

    /// Asks who has `address`, in a VLAN if one is given.
    pub fn ask(&self, vlan: Option<u16>, address: Ipv4Addr) {
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
        self.send(&frame);
    }

    pub fn send(&self, frame: &[u8]) {
        // QEMU may not read yet.
        let _ = self.socket.send_to(frame, &self.to);
    }

    /// Frames that have come.
    pub fn frames(&self) -> Vec<Vec<u8>> {
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
    pub fn is_answered(&self, vlan: Option<u16>, address: Ipv4Addr) -> bool {
        self.frames().iter().any(|frame| {
            let is_reply =
                |arp: &[u8]| arp.get(6..8) == Some(&[0, 2]) && arp.get(14..18) == Some(&address.octets());
            frame.starts_with(&NEIGHBOUR) && arp(frame, vlan).is_some_and(is_reply)
        })
    }

    /// Whether everybody was told through this cable where `address` is (RFC 5227, section 3).
    pub fn is_announced(&self, vlan: Option<u16>, address: Ipv4Addr) -> bool {
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
pub fn answering(cables: &[Cable], vlan: Option<u16>, address: Ipv4Addr) -> &str {
    answer_from(cables, vlan, address, |_| true)
}

/// The same until the card is one that `fits`.
pub fn answer_from(
    cables: &[Cable],
    vlan: Option<u16>,
    address: Ipv4Addr,
    fits: impl Fn(&str) -> bool,
) -> &str {
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
