//! Either firmware starts the image: every stage passes, the first services come up, a power cut and the
//! power button are survived. What the control plane does afterwards is in `boot.rs`.

use bootwright::lab::Firmware;
use bootwright_model::report::BootReport;
use qemu_tests::{Boot, FIRST_SERVICES, Image, STOP, reports};

/// Services that come up without another.
const FIRST: [&str; 2] = ["containerd", "etcd"];

#[test]
fn bios_boots_through_every_stage_and_again_after_a_power_cut() {
    boots_again_after_a_power_cut("firmware-bios", Firmware::Bios);
}

#[test]
fn uefi_boots_through_every_stage_and_again_after_a_power_cut() {
    boots_again_after_a_power_cut("firmware-uefi", Firmware::Uefi);
}

fn boots_again_after_a_power_cut(name: &str, firmware: Firmware) {
    let image = Image::under_test();
    let mut spec = image.spec(name, firmware);
    spec.arguments = ["-vga", "std"].map(str::to_owned).into();
    let mut boot = image.boot(spec);
    let first = stages_passed(&mut boot, None);
    if firmware == Firmware::Bios {
        shown_on_the_screen(&mut boot, summary(&first, "services"));
    }
    let outcome = boot.session.reset();
    boot.expect("the reset", outcome);
    let second = stages_passed(&mut boot, Some(&first.boot_id));
    assert_ne!(first.boot_id, second.boot_id);
    let (made, found) = (summary(&first, "state"), summary(&second, "state"));
    assert!(made.contains("filesystem made"), "{made}");
    assert!(!found.contains("filesystem made"), "{found}");
    let outcome = boot.session.power_off(STOP);
    boot.expect("the power button", outcome);
}

/// The screen is a console like the serial line. Looked for in VGA's memory (B8000, text mode), which has every other byte
/// a character, and more lines than the screen.
fn shown_on_the_screen(boot: &mut Boot, words: &str) {
    let machine = boot.session.machine();
    let path = machine.folder().join("screen");
    let arguments = serde_json::json!({ "val": 0xb8000, "size": 0x8000, "filename": path });
    let qmp = machine.qmp().expect("the machine runs");
    qmp.execute("pmemsave", arguments).expect("QEMU writes the memory");
    let memory = std::fs::read(&path).expect("QEMU has written it");
    let text: String = memory.iter().step_by(2).map(|&byte| char::from(byte)).collect();
    assert!(text.contains(words), "no '{words}' on the screen: {}", text.replace('\0', " "));
}

/// Waits for the first services of a boot other than `before`, and checks what led there.
fn stages_passed(boot: &mut Boot, before: Option<&str>) -> BootReport {
    let outcome = boot.session.wait_report("containerd and etcd to be ready", FIRST_SERVICES, |report| {
        before != Some(&report.boot_id)
            && FIRST.iter().all(|name| reports::is_ready(report, name))
            && report.stages.iter().any(|stage| stage.name == "pod-network")
    });
    let report = boot.expect("the boot report", outcome);
    reports::assert_stages_passed(&report, "services");
    report
}

fn summary<'a>(report: &'a BootReport, stage: &str) -> &'a str {
    &report.stages.iter().find(|found| found.name == stage).expect("the stage has passed").summary
}
