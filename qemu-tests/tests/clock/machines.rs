//! A worker whose hardware clock is years behind takes the time from its control plane before it looks at a certificate,
//! and goes on without, in time, if nobody answers.

use std::process::Command;
use std::time::Duration;

use bootwright::lab::Firmware;
use bootwright::lab::machine::DISK;
use bootwright::lab::spec::Network;
use bootwright::lab::switch::{Plan, Switch};
use bootwright_model::layout::STATE_LABEL;
use bootwright_model::report::{BootReport, Outcome, Stage};
use qemu_tests::{Boot, FIRST_SERVICES, Image, STOP, partition, reports};

/// Hardware clock of the worker.
const WRONG: &str = "2015-01-01";
/// What the stage may take if nobody answers: eight seconds are chronyd's, the rest the emulated machine's.
const BOUND: Duration = Duration::from_secs(30);

#[test]
fn a_worker_takes_the_time_from_its_control_plane() {
    let image = Image::of_dual();
    let names = ["cp1", "w1"].map(str::to_owned).to_vec();
    let plan = Plan { names, gateway: Vec::new(), mtu: 1500, forwards: Vec::new(), seed: 1 };
    let switch = Switch::start(plan).expect("a switch starts");

    let mut spec = image.spec("clock-cp1", Firmware::Bios);
    spec.network = Network::Switch(switch.port(0));
    // After the image was built, whenever that was: an earlier clock would be raised.
    let right = (time::OffsetDateTime::now_utc() + time::Duration::days(400)).date().to_string();
    spec.arguments = rtc(&right);
    let mut control_plane = image.boot(spec);
    let outcome = control_plane.session.wait_report("chrony", FIRST_SERVICES, |report| {
        report.services.iter().any(|service| service.name == "chrony" && service.started_ms.is_some())
    });
    let report = control_plane.expect("the control plane's chrony", outcome);
    // It knows no server, and waits for none.
    let clock = clock(&report);
    assert_eq!(clock.outcome, Outcome::Passed);
    assert!(clock.duration_us < 2_000_000 && !clock.summary.contains(" by 10."), "{clock:?}");

    let mut spec = image.spec("clock-w1", Firmware::Bios);
    spec.image = image.root().join("worker.raw");
    spec.mac = "52:54:00:20:00:11".to_owned();
    spec.memory_mib = 1024;
    spec.network = Network::Switch(switch.port(1));
    spec.arguments = rtc(WRONG);
    let mut worker = image.boot(spec);
    let report = started(&mut worker, None);
    reports::assert_stages_passed(&report, "services");
    let summary = &self::clock(&report).summary;
    assert!(summary.starts_with("raised by "), "{summary}");
    assert!(summary.contains("set forward by") && summary.ends_with("by 10.20.0.10"), "{summary}");
    // What the worker writes has that time. Gone on without a word, it would be the image's, of an earlier year.
    let outcome = worker.session.power_off(STOP);
    worker.expect("the power button", outcome);
    let file = about_state_file(&mut worker, "/log/services/chrony.log");
    let written = file.lines().find(|line| line.contains("mtime:")).unwrap_or_else(|| panic!("{file}"));
    assert!(written.ends_with(&right[..4]), "{written}");

    // Nobody answers: the worker says so, and goes on after a while.
    control_plane.session.machine().kill().expect("QEMU ends");
    let outcome = worker.session.start_again();
    worker.expect("the second boot", outcome);
    let report = started(&mut worker, Some(&report.boot_id));
    let clock = self::clock(&report);
    let Outcome::Degraded { problems } = &clock.outcome else { panic!("{clock:?}") };
    assert_eq!(problems[0].chain, ["no time server tells the time: 10.20.0.10 does not answer"]);
    assert!(Duration::from_micros(clock.duration_us) < BOUND, "{clock:?}");
}

fn rtc(base: &str) -> Vec<String> {
    ["-rtc".to_owned(), format!("base={base}")].into()
}

/// Waits for the services of a boot other than `before`.
fn started(boot: &mut Boot, before: Option<&str>) -> BootReport {
    let outcome = boot.session.wait_report("the services", FIRST_SERVICES, |report| {
        let started =
            report.services.iter().any(|service| service.name == "chrony" && service.started_ms.is_some());
        before != Some(&report.boot_id)
            && started
            && report.stages.iter().any(|stage| stage.name == "services")
    });
    boot.expect("the boot report", outcome)
}

fn clock(report: &BootReport) -> &Stage {
    report.stages.iter().find(|stage| stage.name == "clock").expect("the boot came as far as the clock")
}

/// What debugfs says of a file of the state partition.
fn about_state_file(boot: &mut Boot, path: &str) -> String {
    let disk = boot.session.machine().folder().join(DISK);
    let (offset, _) = partition(&disk, STATE_LABEL);
    let device = format!("{}?offset={offset}", disk.display());
    let done = Command::new("/usr/sbin/debugfs")
        .args(["-R", &format!("stat {path}"), &device])
        .env("TZ", "UTC")
        .output();
    String::from_utf8_lossy(&done.expect("debugfs of e2fsprogs runs").stdout).into_owned()
}
