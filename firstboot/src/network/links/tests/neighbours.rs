//! What other machines have and learn: ARP.

use std::net::Ipv4Addr;
use std::process::Child;

use super::*;
use crate::network::arp::{self, Candidate};

/// A network namespace of another machine, which ends with the test.
pub struct Other(Child);

impl Other {
    pub fn new() -> Other {
        let other = Other(Command::new("unshare").args(["-n", "sleep", "60"]).spawn().unwrap());
        let name = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net")).unwrap();
        let ours = name("thread-self");
        for _ in 0..500 {
            if name(&other.0.id().to_string()) != ours {
                return other;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("unshare made no network namespace");
    }

    pub fn ip(&self, arguments: &str) {
        let target = self.0.id().to_string();
        let command = ["-t", &target, "-n", "ip"];
        let status = Command::new("nsenter").args(command).args(arguments.split(' ')).status().unwrap();
        assert!(status.success(), "ip {arguments}");
    }

    /// What its `ip` says.
    pub fn show(&self, arguments: &[&str]) -> String {
        let target = self.0.id().to_string();
        let output =
            Command::new("nsenter").args(["-t", &target, "-n", "ip"]).args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Takes the far end of [`cable`].
    pub fn take(&self, link: &str) {
        ip(&format!("link set {link} netns {}", self.0.id()));
        self.ip(&format!("link set {link} up"));
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_address_that_another_machine_has_is_not_used() {
    in_namespace(|| {
        cable();
        let other = Other::new();
        other.take("far");
        other.ip("link set far address 52:54:00:00:00:99");
        other.ip("address add 10.20.0.10/24 dev far");
        let error = configure(&wanted(Some("52:54:00:00:00:0a"))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "another machine, 52:54:00:00:00:99, has the address 10.20.0.10 that is meant for eth0"
        );
        assert_eq!(addresses("eth0", "-4"), [""; 0]);

        // A further address is left to the other, and the node goes on.
        other.ip("address del 10.20.0.10/24 dev far");
        other.ip("address add 10.20.0.11/24 dev far");
        let wanted = described("[[link]]\nname = 'eth0'\naddresses = ['10.20.0.10/24', '10.20.0.11/24']");
        let began = Instant::now();
        let configured = configure(&wanted).unwrap();
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        assert!(configured.problems[0].chain[0].contains("52:54:00:00:00:99"), "{:?}", configured.problems);
        assert_eq!(addresses("eth0", "-4"), ["10.20.0.10/24"]);
    });
}

#[test]
fn neighbours_are_told_where_an_address_is_now() {
    in_namespace(|| {
        cable();
        let other = Other::new();
        other.take("far");
        other.ip("address add 10.20.0.1/24 dev far");
        // It knew another machine by the address.
        other.ip("neighbour add 10.20.0.10 lladdr 52:54:00:00:00:77 dev far nud stale");
        configure(&wanted(Some("52:54:00:00:00:0a"))).unwrap();
        let told = other.show(&["neighbour", "show", "10.20.0.10"]);
        assert!(told.contains("52:54:00:00:00:0a"), "{told}");
    });
}

#[test]
fn a_link_that_takes_no_packet_is_no_trouble() {
    in_namespace(|| {
        // It is down.
        cable();
        let down = ip("link show eth0")[0]["ifindex"].as_u64().unwrap();
        let candidate = |index| Candidate {
            index,
            mac: [0x52, 0x54, 0, 0, 0, 0x0a],
            address: Ipv4Addr::new(10, 20, 0, 10),
        };
        let candidates = [candidate(u32::try_from(down).unwrap()), candidate(4711)];
        assert_eq!(arp::probe(&candidates, &[]).unwrap(), [None, None]);
        arp::announce(&candidates).unwrap();
    });
}
