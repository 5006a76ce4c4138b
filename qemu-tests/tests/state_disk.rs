//! The state on a disk of its own: an empty disk is taken, and known again; one that holds data is refused and unchanged.

use std::path::{Path, PathBuf};
use std::process::Command;

use bootwright::lab::{Error, Firmware};
use bootwright_model::report::BootReport;
use qemu_tests::{Boot, CLUSTER, FIRST_SERVICES, Image, STOP, reports, repository};

/// Bytes of each further disk.
const SIZE: u64 = 2 << 30;

#[test]
fn an_empty_disk_is_taken_and_one_with_data_is_not() {
    let folder = Image::under_test().folder("state-disk");
    // What an earlier run of the test left.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("the folder of the image is writable");
    let example = std::fs::read_to_string(repository().join(CLUSTER)).expect("there is an example");
    let (text, _) = example.split_once("\n[[image]]\n").expect("the example has an image");
    let role = "\nrole = \"all-in-one\"\n";
    assert!(text.contains(role), "{text}");
    let text = text.replacen(role, &format!("{role}state-disk = {{ min-size = \"2Gi\" }}\n"), 1);
    let image = Image::build(&folder, &text);

    let data = folder.join("data.raw");
    disk(&data);
    let made = Command::new("/usr/sbin/mkfs.ext4").args(["-q", "-F", "-L", "photos"]).arg(&data).status();
    assert!(made.expect("mkfs.ext4 of e2fsprogs runs").success());
    let before = sha256(&data);

    // With nothing but the disk that holds data the boot stops, and says so.
    let mut spec = image.spec("used", Firmware::Bios);
    spec.arguments = drive(&data, "DATA");
    let mut boot = image.boot(spec);
    let outcome = boot
        .session
        .wait_report("the boot to fail", FIRST_SERVICES, |report| report.services_started_ms.is_some());
    let Err(Error::BootFailed { stage, reason, .. }) = outcome else { panic!("the services were started") };
    assert_eq!(stage, "state", "{reason}");
    assert!(
        reason.contains("is empty, and none is touched: vdb holds an ext4 filesystem")
            && reason.contains("connect an empty disk"),
        "{reason}"
    );
    boot.session.machine().kill().expect("QEMU ends");
    drop(boot);
    assert_eq!(sha256(&data), before);

    // Beside an empty one the boot passes, twice.
    let empty = folder.join("empty.raw");
    disk(&empty);
    let mut spec = image.spec("empty", Firmware::Bios);
    spec.arguments = [drive(&data, "DATA"), drive(&empty, "EMPTY")].concat();
    let mut boot = image.boot(spec);
    let report = first_services(&mut boot, None);
    let state = summary(&report, "state");
    assert!(
        state.starts_with("/dev/vdc1 (") && state.ends_with("partitions made, filesystem made"),
        "{state}"
    );
    let outcome = boot.session.power_off(STOP);
    boot.expect("the power button", outcome);
    assert_eq!(sha256(&data), before);

    let outcome = boot.session.start_again();
    boot.expect("the second boot", outcome);
    let again = first_services(&mut boot, Some(&report.boot_id));
    let state = summary(&again, "state");
    assert!(state.starts_with("/dev/vdc1 (") && !state.contains("made"), "{state}");
    boot.session.machine().kill().expect("QEMU ends");
    assert_eq!(sha256(&data), before);
}

fn disk(path: &Path) {
    let file = std::fs::File::create(path).expect("the folder is writable");
    file.set_len(SIZE).expect("there is room for a hole");
}

/// QEMU's arguments for a further disk.
fn drive(path: &Path, serial: &str) -> Vec<String> {
    let path: PathBuf = path.canonicalize().expect("it is there");
    [
        "-drive".to_owned(),
        format!("if=none,id={serial},format=raw,cache=unsafe,file={}", path.display()),
        "-device".to_owned(),
        format!("virtio-blk-pci,drive={serial},serial={serial}"),
    ]
    .into()
}

/// Waits for the first services of a boot other than `before`, and checks every stage.
fn first_services(boot: &mut Boot, before: Option<&str>) -> BootReport {
    let outcome = boot.session.wait_report("the first services", FIRST_SERVICES, |report| {
        before != Some(&report.boot_id)
            && report.services.iter().any(|service| service.name == "containerd" && service.state == "ready")
    });
    let report = boot.expect("the boot report", outcome);
    reports::assert_passed(&report);
    report
}

fn summary<'a>(report: &'a BootReport, stage: &str) -> &'a str {
    &report.stages.iter().find(|found| found.name == stage).expect("the stage has passed").summary
}

fn sha256(path: &Path) -> String {
    let said = Command::new("sha256sum").arg(path).output().expect("sha256sum of coreutils runs");
    assert!(said.status.success());
    String::from_utf8_lossy(&said.stdout).split_whitespace().next().expect("a digest").to_owned()
}
