//! A worker that no cluster file knows gets its addresses from QEMU's user-mode network: of its DHCP server, and made of what
//! its router advertises.

use std::fs::{self, File};

use bootwright::lab::Firmware;
use bootwright::lab::spec::Network;
use bootwright_model::layout::SEED_LABEL;
use bootwright_model::report::{BootReport, Outcome, Stage};
use qemu_tests::{FIRST_SERVICES, Image, partition, reports, write_seed};

/// The server gives the first machine this one.
const LENT: &str = "10.20.0.15/24";
/// It does not stand in the cluster file.
const MAC: &str = "52:54:00:20:00:99";
/// Where the nodes of the cluster file are.
const ADVERTISED: &str = "fd00:20::/64";
/// Of [`ADVERTISED`] and [`MAC`] (RFC 4291, appendix A).
const MADE: &str = "fd00:20::5054:ff:fe20:99/64";
/// The router of the user-mode network.
const ROUTER: &str = "fe80::2";

#[test]
fn a_worker_without_an_address_is_lent_one() {
    let report = boot(&Image::of_bgp(), "dhcp", "[\"10.10.9.0/24\"]", None);
    // Cut off from everything, the network has no router to name.
    let summary =
        format!("{LENT} on eth0 ({MAC}, MTU 1500), no gateway, lent by 10.20.0.2 for 86400 s, online after ");
    let network = stage(&report, "network");
    assert!(network.summary.starts_with(&summary), "{}", network.summary);
}

#[test]
fn a_worker_of_two_families_is_lent_one_address_and_makes_the_other() {
    let ranges = "[\"10.10.9.0/24\", \"fd00:10:10:9::/64\"]";
    let report = boot(&Image::of_dual(), "slaac", ranges, Some(ADVERTISED));
    let network = stage(&report, "network");
    println!("{network:?}");
    let summary = format!(
        "{LENT}, {MADE} on eth0 ({MAC}, MTU 1500), gateway {ROUTER}, lent by 10.20.0.2 for 86400 s, \
         made of what {ROUTER} advertises, online after "
    );
    assert!(network.summary.starts_with(&summary), "{}", network.summary);
}

/// Boots the worker of a cluster with a name and ranges alone until the service that keeps its addresses is ready.
fn boot(image: &Image, name: &str, ranges: &str, advertised: Option<&str>) -> BootReport {
    let mut spec = image.spec(name, Firmware::Bios);
    spec.image = spec.folder.join("worker-with-seed.raw");
    fs::copy(image.root().join("worker.raw"), &spec.image).expect("the copy fits on the disk");
    let (offset, length) = partition(&spec.image, SEED_LABEL);
    let file = File::options().read(true).write(true).open(&spec.image).expect("the copy was just made");
    write_seed(&file, offset, length, &format!("name = \"w9\"\npod-cidr = {ranges}\n"));
    spec.mac = MAC.to_owned();
    if let Network::User { ports, advertised: of_network, .. } = &mut spec.network {
        ports.clear();
        *of_network = advertised.map(|network| network.parse().expect("it is a network"));
    }
    let mut boot = image.boot(spec);
    let outcome = boot.session.wait_report("the service that renews the lease", FIRST_SERVICES, |report| {
        reports::is_ready(report, "dhcp")
    });
    let report = boot.expect("the boot report", outcome);
    for name in ["identity", "network"] {
        let stage = stage(&report, name);
        assert_eq!(stage.outcome, Outcome::Passed, "{stage:?}");
    }
    let identity = &stage(&report, "identity").summary;
    assert!(identity.starts_with("w9 (name, pod-cidr by the seed"), "{identity}");
    report
}

fn stage<'a>(report: &'a BootReport, name: &str) -> &'a Stage {
    report.stages.iter().find(|stage| stage.name == name).expect("the stage is in the report")
}
