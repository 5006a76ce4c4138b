//! Other machines with an address of ours: raw packets from the other end of the cable.

use std::net::Ipv4Addr;

use bootwright_model::layout;
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

use super::*;
use crate::network::arp::{self, Candidate};
use crate::network::dhcp::held::Held;
use crate::network::dhcp::kept;
use crate::network::dhcp::lease::tests::lease;

const OURS: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 10);
const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x0a];
const OTHER: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x99];

fn index(link: &str) -> u32 {
    u32::try_from(ip(&format!("link show {link}"))[0]["ifindex"].as_u64().unwrap()).unwrap()
}

/// Says from the far end that a machine has an address.
fn say(mac: [u8; 6], address: Ipv4Addr) {
    arp::announce(&[Candidate { index: index("far"), mac, address }]).unwrap();
}

/// What came to the far end from a machine that says that it has an address, and how often.
fn heard_at_far(socket: &arp::Socket, mac: [u8; 6], address: Ipv4Addr) -> usize {
    let far = index("far");
    // As many as fit, packets of others among them.
    let heard = (0..1000).filter_map(|_| socket.read().unwrap());
    heard.filter(|(index, heard)| *index == far && heard.sender == mac && heard.has(address)).count()
}

#[test]
fn an_address_that_another_machine_takes_is_kept_and_defended() {
    in_namespace(|| {
        cable();
        let mut machine = Machine::boot(wanted(Some("52:54:00:00:00:0a")));
        let socket = arp::Socket::open().unwrap();
        say(OTHER, OURS);
        let line = "another machine, 52:54:00:00:00:99, has the address 10.20.0.10 of eth0 too: this one keeps and defends it";
        machine.until("told", |told| told.has(&format!("console: {line}")));
        assert_eq!(heard_at_far(&socket, MAC, OURS), 1, "the defence");
        // No second defence within ten seconds, and no second word of it.
        say(OTHER, OURS);
        say(OTHER, OURS);
        // Our own words, as a switch may send them back, and what others say of theirs.
        say(MAC, OURS);
        say(OTHER, Ipv4Addr::new(10, 20, 0, 11));
        // These are told after the others were heard.
        say([0x52, 0x54, 0, 0, 0, 0x98], OURS);
        machine.until("told", |told| told.has("52:54:00:00:00:98"));
        assert_eq!(heard_at_far(&socket, MAC, OURS), 0);
        let told: Vec<_> =
            machine.told.lines().into_iter().filter(|one| one.contains("another machine")).collect();
        assert_eq!(told.len(), 4, "two machines, each in the log and on the console: {told:#?}");
        assert_eq!(addresses("eth0", "-4"), ["10.20.0.10/24"]);
    });
}

#[test]
fn a_further_address_is_defended_and_the_console_says_nothing() {
    in_namespace(|| {
        cable();
        let text = "[[link]]\nname = 'eth0'\naddresses = ['10.20.0.10/24', '10.20.0.11/24']";
        let mut machine = Machine::boot(described(text));
        say(OTHER, Ipv4Addr::new(10, 20, 0, 11));
        machine.until("told", |told| told.has("has the address 10.20.0.11 of eth0 too"));
        assert!(!machine.told.has("console: another machine"), "{:#?}", machine.told.lines());
    });
}

#[test]
fn a_packet_of_a_vlan_says_nothing_of_the_link_below() {
    in_namespace(|| {
        cable();
        let mut machine = Machine::boot(wanted(Some("52:54:00:00:00:0a")));
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0))).unwrap();
        // To everybody, tagged for VLAN 20: an ARP announcement.
        let mut frame = [[0xff; 6], OTHER].concat();
        frame.extend([0x81, 0x00, 0, 20, 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
        for machine in [OTHER, [0; 6]] {
            frame.extend(machine);
            frame.extend(OURS.octets());
        }
        frame.resize(64, 0);
        assert_eq!(socket.send_to(&frame, &on(index("far"))).unwrap(), 64);
        // The same without the tag, of a third machine.
        say([0x52, 0x54, 0, 0, 0, 0x98], OURS);
        machine.until("told", |told| told.has("52:54:00:00:00:98"));
        assert!(!machine.told.has("52:54:00:00:00:99"), "{:#?}", machine.told.lines());
    });
}

/// A link, for packet(7).
fn on(index: u32) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: sockaddr_ll is one of the addresses that sockaddr_storage is made for, and valid when zeroed.
    let address: &mut libc::sockaddr_ll = unsafe { storage.view_as() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_ifindex = i32::try_from(index).unwrap();
    // SAFETY: the storage was filled as a sockaddr_ll, whose size this is.
    unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as libc::socklen_t) }
}

#[test]
fn an_address_that_another_machine_took_meanwhile_is_asked_for_first() {
    in_namespace(|| {
        cable();
        let other = Other::new();
        other.take("far");
        let mut machine = Machine::boot(wanted(Some("52:54:00:00:00:0a")));
        other.ip("link set far address 52:54:00:00:00:99");
        ip("address del 10.20.0.10/24 dev eth0");
        other.ip("address add 10.20.0.10/24 dev far");
        let line =
            "missing: another machine, 52:54:00:00:00:99, has the address 10.20.0.10 that is meant for eth0";
        machine.until("told", |told| told.has(line));
        assert_eq!(addresses("eth0", "-4"), [""; 0]);
        // It is tried again, without any change here.
        other.ip("address del 10.20.0.10/24 dev far");
        machine.until("mended", |_| addresses("eth0", "-4") == ["10.20.0.10/24"]);
    });
}

#[test]
fn an_address_that_is_taken_while_the_cable_is_out_is_found_by_asking() {
    in_namespace(|| {
        cable();
        let other = Other::new();
        other.take("far");
        other.ip("link set far address 52:54:00:00:00:99");
        let mut machine = Machine::boot(wanted(Some("52:54:00:00:00:0a")));
        other.ip("link set far down");
        machine.until("told", |told| told.has("carrier lost"));
        other.ip("address add 10.20.0.10/24 dev far");
        other.ip("link set far up");
        machine
            .until("told", |told| told.has("console: another machine, 52:54:00:00:00:99, has the address"));
        assert_eq!(addresses("eth0", "-4"), ["10.20.0.10/24"]);
    });
}

#[test]
fn a_lent_address_is_defended_too() {
    in_namespace(|| {
        cable();
        ip("link set eth0 up");
        ip("address add 10.9.0.50/24 dev eth0");
        let root = tempfile::tempdir().unwrap();
        let held = Some(Held { since_ms: 0, lease: lease() });
        let described = Link::default();
        let (link, described_to) = ("eth0".into(), Vec::new());
        let lent = kept::Kept { number: 0, own: true, link, described, described_to, held };
        lent.write(root.path()).unwrap();
        assert!(root.path().join(layout::LEASE.trim_start_matches('/')).exists());
        let told = Told::default();
        let kept = Kept { wanted: None };
        let follower = Follower::open(root.path(), kept, None, told.clone()).unwrap();
        let mut machine = Machine { wanted: wanted(None), follower, told };
        machine.until("the first look", |told| told.has("follows the links (eth0: carrier)"));
        let socket = arp::Socket::open().unwrap();
        say(OTHER, lease().address.addr());
        machine.until("told", |told| {
            told.has("console: another machine, 52:54:00:00:00:99, has the address 10.9.0.50")
        });
        assert_eq!(heard_at_far(&socket, MAC, lease().address.addr()), 1);
        // The service that renews it does that.
        ip("address del 10.9.0.50/24 dev eth0");
        ip("link set far down");
        machine.until("told", |told| told.has("console: carrier lost on eth0"));
        assert_eq!(addresses("eth0", "-4"), [""; 0]);
    });
}
