//! The state on a disk of its own, by everything that tells disks apart: an empty disk is taken, and known again; one that
//! holds data is refused and unchanged, and so are those that differ in one mark only. What is said is on the screen as it
//! is on the serial line.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use bootwright::lab::{Error, Firmware, Spec};
use bootwright_model::report::BootReport;
use qemu_tests::{Boot, CLUSTER, FIRST_SERVICES, Image, STOP, reports, repository, screen};

/// Bytes of a disk that is large enough.
const SIZE: u64 = 2 << 30;
const SERIAL: &str = "RIGHT";
const WWN: &str = "0x5000c500a1b2c3d4";
/// Slots of the two controllers.
const RIGHT_SLOT: u8 = 0x10;
const OTHER_SLOT: u8 = 0x11;

/// Disks that lack one of four marks each: name, controller, serial number, World Wide Name, bytes.
const WRONG: [(&str, u8, &str, &str, u64); 4] = [
    ("other-serial", RIGHT_SLOT, "LEFT", WWN, SIZE),
    ("other-wwn", RIGHT_SLOT, SERIAL, "0x5000c500a1b2c3d5", SIZE),
    ("other-path", OTHER_SLOT, SERIAL, WWN, SIZE),
    ("too-small", RIGHT_SLOT, SERIAL, WWN, SIZE - (1 << 20)),
];

#[test]
fn an_empty_disk_is_taken_by_its_marks_and_one_with_data_is_not() {
    let folder = Image::under_test().folder("state-disk");
    // What an earlier run of the test left.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("the folder of the image is writable");
    let image = build(&folder);
    for (name, _, _, _, size) in WRONG {
        disk(&folder.join(name), size);
    }
    let right = folder.join("right");
    disk(&right, SIZE);
    let made = Command::new("/usr/sbin/mkfs.ext4").args(["-q", "-F", "-L", "photos"]).arg(&right).status();
    assert!(made.expect("mkfs.ext4 of e2fsprogs runs").success());
    let data = sha256(&right);

    // The disk that fits holds data: the boot stops, and says so, whatever empty disks there are.
    let mut boot = image.boot(spec(&image, "used", &folder));
    let outcome = boot
        .session
        .wait_report("the boot to fail", FIRST_SERVICES, |report| report.services_started_ms.is_some());
    let Err(Error::BootFailed { stage, reason, .. }) = outcome else { panic!("the services were started") };
    assert_eq!(stage, "state", "{reason}");
    for words in [
        "no disk that fits serial RIGHT, wwn 0x5000c500a1b2c3d4, path 0000:00:10.0, min-size 2Gi is empty",
        "and none is touched: sd",
        " holds an ext4 filesystem",
        "connect an empty disk",
    ] {
        assert!(reason.contains(words), "{words} in {reason}");
    }
    both_consoles_say(&mut boot);
    boot.session.machine().kill().expect("QEMU ends");
    drop(boot);
    assert_eq!(sha256(&right), data);

    // An empty one in its place is taken, and known again.
    disk(&right, SIZE);
    let mut boot = image.boot(spec(&image, "empty", &folder));
    let report = first_services(&mut boot, None);
    let state = summary(&report, "state");
    assert!(state.starts_with("/dev/sd") && state.ends_with("partitions made, filesystem made"), "{state}");
    let outcome = boot.session.power_off(STOP);
    boot.expect("the power button", outcome);
    assert!(written(&right), "{state}");
    let outcome = boot.session.start_again();
    boot.expect("the second boot", outcome);
    let again = first_services(&mut boot, Some(&report.boot_id));
    let state = summary(&again, "state");
    assert!(state.starts_with("/dev/sd") && !state.contains("made"), "{state}");
    boot.session.machine().kill().expect("QEMU ends");
    for (name, ..) in WRONG {
        assert!(!written(&folder.join(name)), "{name} was written to");
    }
}

/// The example with a state disk that has to have all marks.
fn build(folder: &Path) -> Image {
    let example = std::fs::read_to_string(repository().join(CLUSTER)).expect("there is an example");
    let (text, _) = example.split_once("\n[[image]]\n").expect("the example has an image");
    let role = "\nrole = \"all-in-one\"\n";
    assert!(text.contains(role), "{text}");
    let marks = format!(
        "state-disk = {{ serial = \"{SERIAL}\", wwn = \"{WWN}\", path = \"0000:00:{RIGHT_SLOT:x}.0\", min-size = \"2Gi\" }}"
    );
    Image::build(folder, &text.replacen(role, &format!("{role}{marks}\n"), 1))
}

/// The lines of the stages before, the failure and what to do are where a person may look. On the screen without the ends
/// of long lines, which begin another there.
fn both_consoles_say(boot: &mut Boot) {
    let serial = boot.console();
    let screen = boot.screen_text();
    for words in
        ["] identity  ", "] state  ", "FAILED: the boot stops here", "what: the disk that is to keep"]
    {
        assert!(serial.contains(words), "{words} on the serial line:\n{serial}");
        assert!(
            screen.iter().any(|line| line.contains(words)),
            "{words} on the screen:\n{}",
            screen.join("\n")
        );
    }
}

/// A machine with two controllers, the disks and a screen.
fn spec(image: &Image, name: &str, folder: &Path) -> Spec {
    let mut spec = image.spec(name, Firmware::Bios);
    spec.arguments = screen::card();
    let mut add = |option: &str, value: String| spec.arguments.extend([option.to_owned(), value]);
    for slot in [RIGHT_SLOT, OTHER_SLOT] {
        add("-device", format!("virtio-scsi-pci,id=slot{slot},addr={slot:#x}"));
    }
    // The right one last: the first that is found is not to be right by chance.
    let right = [("right", RIGHT_SLOT, SERIAL, WWN, SIZE)];
    for (number, (name, slot, serial, wwn, _)) in WRONG.into_iter().chain(right).enumerate() {
        let path: PathBuf = folder.join(name).canonicalize().expect("it is there");
        add("-drive", format!("if=none,id={name},format=raw,cache=unsafe,file={}", path.display()));
        add(
            "-device",
            format!("scsi-hd,bus=slot{slot}.0,scsi-id={number},drive={name},serial={serial},wwn={wwn}"),
        );
    }
    spec
}

/// An empty disk in place of whatever is there.
fn disk(path: &Path, size: u64) {
    let file = std::fs::File::create(path).expect("the folder is writable");
    file.set_len(size).expect("there is room for a hole");
}

/// Whether anything was ever written to a disk that was one hole.
fn written(disk: &Path) -> bool {
    disk.metadata().expect("it is there").blocks() > 0
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
