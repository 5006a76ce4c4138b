//! What happens to links later, and what is done about it.

use std::sync::{Arc, Mutex};

use super::neighbours::Other;
use super::*;
use crate::network::links::follow::{Follower, Kept, Teller};

mod conflicts;

/// How long a change may take that must come.
const PATIENCE: Duration = Duration::from_secs(60);
/// From one look of a test at what has become to the next.
const GLANCE: Duration = Duration::from_millis(50);

/// What was told; on the console with `console: ` before it.
#[derive(Debug, Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn has(&self, line: &str) -> bool {
        self.lines().iter().any(|one| one.contains(line))
    }
}

impl Teller for Told {
    fn log(&mut self, line: &str) {
        self.0.lock().unwrap().push(line.to_owned());
    }

    fn console(&mut self, line: &str) {
        self.log(&format!("console: {line}"));
    }
}

/// A machine after its boot.
struct Machine {
    wanted: Wanted,
    follower: Follower<Told>,
    told: Told,
}

impl Machine {
    fn boot(wanted: Wanted) -> Machine {
        let configured = configure(&wanted).unwrap();
        let told = Told::default();
        let kept = Kept::of(wanted.clone(), &configured);
        let follower = Follower::open(Path::new("/"), kept, None, told.clone()).unwrap();
        let mut machine = Machine { wanted, follower, told };
        machine.until("the first look", |told| told.has("follows the links"));
        machine
    }

    /// Follows until it is so.
    fn until(&mut self, what: &str, is_so: impl Fn(&Told) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is_so(&self.told) {
            assert!(Instant::now() < end, "not {what}: {:#?}", self.told.lines());
            self.follower.step(Some(Instant::now() + GLANCE)).unwrap();
        }
    }
}

/// Whether routes of a family lead to these places in the main table.
fn leads_to(family: &str, places: &[&str]) -> bool {
    let routes = ip(&format!("{family} route show"));
    places.iter().all(|place| routes.as_array().unwrap().iter().any(|route| route["dst"] == *place))
}

/// The stage itself finds nothing to do.
fn assert_whole(wanted: &Wanted) {
    let configured = configure(wanted).unwrap();
    assert_eq!((configured.changes, configured.problems), (0, Vec::new()));
}

#[test]
fn links_that_are_set_down_get_everything_again() {
    in_namespace(|| {
        cable();
        second_cable();
        let mut machine = Machine::boot(described(TWO_CARDS));
        // With these go all IPv6 addresses, and all routes.
        ip("link set eth0 down");
        ip("link set eth1 down");
        assert!(!leads_to("-4", &["default"]) && addresses("eth0", "-6").is_empty());
        machine.until("mended", |_| {
            addresses("eth0", "-6") == ["fd00:20::10/64"]
                && leads_to("-4", &["default", "192.0.2.0/24", "203.0.113.0/24"])
                && leads_to("-6", &["2001:db8::/32"])
                && !ip("-4 route show table 1000").as_array().unwrap().is_empty()
        });
        assert_whole(&machine.wanted);
        for line in ["mended: set eth0 up", "mended: give eth0 the address fd00:20::10/64"] {
            assert!(machine.told.has(line), "{line}: {:#?}", machine.told.lines());
        }
    });
}

#[test]
fn what_somebody_takes_away_is_put_back_and_what_somebody_added_stays() {
    in_namespace(|| {
        cable();
        second_cable();
        let mut machine = Machine::boot(described(TWO_CARDS));
        ip("address add 10.99.0.1/24 dev eth0");
        ip("route add 10.98.0.0/16 dev eth0");
        ip("address del 10.20.0.10/24 dev eth0");
        ip("-4 rule del priority 100");
        ip("link set eth1 mtu 1500");
        machine.until("mended", |_| {
            addresses("eth0", "-4").contains(&"10.20.0.10/24".to_owned())
                && leads_to("-4", &["default"])
                && ip("-4 rule show").as_array().unwrap().len() == 5
                && ip("link show eth1")[0]["mtu"] == 9000
        });
        // Alone, as nothing else is heard with it.
        ip("route del default");
        machine.until("mended", |_| leads_to("-4", &["default"]));
        assert!(
            addresses("eth0", "-4").contains(&"10.99.0.1/24".to_owned()) && leads_to("-4", &["10.98.0.0/16"])
        );
        assert_whole(&machine.wanted);
    });
}

#[test]
fn a_carrier_that_comes_back_is_told_to_the_neighbours() {
    in_namespace(|| {
        cable();
        let other = Other::new();
        other.take("far");
        other.ip("address add 10.20.0.1/24 dev far");
        other.ip("address add fd00:20::1/64 dev far nodad");
        let address = Some("10.20.0.10/24,fd00:20::10/64".parse().unwrap());
        let mut machine = Machine::boot(Wanted { address, ..wanted(Some("52:54:00:00:00:0a")) });
        other.ip("link set far down");
        machine.until("told", |told| told.has("carrier lost on eth0, which has this node's address"));
        assert!(machine.told.has("console: carrier lost on eth0"));
        // Meanwhile a switch, or the neighbour, took another machine for ours.
        other.ip("link set far up");
        for address in ["10.20.0.10", "fd00:20::10"] {
            other.ip(&format!("neighbour replace {address} lladdr 52:54:00:00:00:77 dev far nud stale"));
        }
        machine.until("told", |told| told.has("console: carrier on eth0 after"));
        for address in ["10.20.0.10", "fd00:20::10"] {
            machine.until("known", |_| {
                other.show(&["neighbour", "show", address]).contains("52:54:00:00:00:0a")
            });
        }
        assert_whole(&machine.wanted);
    });
}

#[test]
fn a_cable_that_was_out_at_the_boot_may_be_plugged_in_later() {
    in_namespace(|| {
        let mut machine = Machine::boot(half_a_cable(true));
        assert!(machine.told.has("eth1: no carrier"), "{:?}", machine.told.lines());
        // Somebody, meanwhile; nobody can be asked on this link who has it now.
        ip("address del 10.30.0.10/24 dev eth1");
        ip("link set far1 up");
        machine.until("told", |told| told.has("carrier on eth1"));
        machine.until("mended", |_| addresses("eth1", "-4") == ["10.30.0.10/24"]);
        machine.until("mended", |_| leads_to("-4", &["198.51.100.0/24"]));
        assert!(!machine.told.has("console: "), "{:?}", machine.told.lines());
        assert_whole(&machine.wanted);
    });
}

#[test]
fn a_card_that_is_pulled_out_and_put_in_again_is_as_before() {
    in_namespace(|| {
        cable();
        second_cable();
        // The only card that is described is by its MAC what it was, whatever else is there.
        let mut machine = Machine::boot(wanted(Some("52:54:00:00:00:0a")));
        ip("link del eth0");
        machine.until("told", |told| told.has("console: eth0 is gone, which has this node's address"));
        // The driver's next name may be another.
        ip("link add lan7 address 52:54:00:00:00:0a type veth peer name far");
        ip("link set far up");
        machine.until("mended", |_| {
            addresses("lan7", "-4") == ["10.20.0.10/24"] && leads_to("-4", &["default"])
        });
        machine.until("told", |told| told.has("console: lan7 is there after"));
        assert_whole(&machine.wanted);
    });
}

const BRIDGE: &str = r#"
    [[link]]
    name = "eth0"
    optional = true
    [[link]]
    name = "eth1"
    optional = true
    [[link]]
    name = "br0"
    mtu = 1300
    addresses = ["10.20.0.10/24"]
    bridge.members = ["eth0", "eth1"]
"#;

#[test]
fn a_member_that_comes_late_is_made_one() {
    in_namespace(|| {
        cable();
        let mut machine = Machine::boot(described(BRIDGE));
        assert!(machine.told.has("eth1: not there"), "{:?}", machine.told.lines());
        second_cable();
        machine.until("a member", |_| ip("link show eth1")[0]["master"] == "br0");
        machine.until("told", |told| told.has("eth1 is there"));
        ip("link del eth0");
        machine.until("told", |told| told.has("eth0 is gone"));
        cable();
        machine.until("a member", |_| ip("link show eth0")[0]["master"] == "br0");
        // And the bridge itself.
        ip("link del br0");
        machine.until("made", |_| {
            let links = ip("link show");
            links.as_array().unwrap().iter().any(|link| link["ifname"] == "br0")
                && addresses("br0", "-4") == ["10.20.0.10/24"]
        });
        machine.until("members", |_| {
            ["eth0", "eth1"].iter().all(|member| ip(&format!("link show {member}"))[0]["master"] == "br0")
        });
        assert_whole(&machine.wanted);
    });
}

#[test]
fn what_the_kernel_refuses_is_told_once_and_done_when_it_can_be() {
    in_namespace(|| {
        cable();
        let text = "[[link]]\nname = 'eth0'\naddresses = ['10.20.0.10/24']\n[[link.route]]\nto = '198.51.100.0/24'\nvia = '192.0.2.1'";
        let mut machine = Machine::boot(described(text));
        let line = "missing: the kernel did not set the route to 198.51.100.0/24 through 192.0.2.1 on eth0";
        machine.until("told", |told| told.has(line));
        for _ in 0..2 {
            ip("link set eth0 down");
            machine.until("mended", |_| leads_to("-4", &["default"]));
        }
        assert_eq!(machine.told.lines().iter().filter(|one| one.contains(line)).count(), 1);
        ip("route add 192.0.2.1/32 dev eth0");
        machine.until("mended", |_| leads_to("-4", &["198.51.100.0/24"]));
        assert_whole(&machine.wanted);
    });
}

#[test]
fn more_changes_than_the_kernel_keeps_hide_nothing() {
    in_namespace(|| {
        cable();
        let mut machine = Machine::boot(wanted(Some("52:54:00:00:00:0a")));
        let changes: Vec<String> =
            (0..500).flat_map(|_| ["up", "down"].map(|to| format!("link set far {to}"))).collect();
        let batch = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(batch.path(), changes.join("\n")).unwrap();
        ip(&format!("-batch {}", batch.path().display()));
        // The last of all, when there is no room for it.
        ip("link set far up");
        ip("address flush dev eth0");
        machine.until("told", |told| told.has("more changes than the kernel keeps"));
        machine.until("mended", |_| {
            addresses("eth0", "-4") == ["10.20.0.10/24"] && leads_to("-4", &["default"])
        });
        assert_whole(&machine.wanted);
    });
}
