//! What a damaged disk, a wrong seed or another machine than the described one looks like: the boot stops (or
//! goes on) and says why, on the console and in the report. docs/troubleshoot.md shows what is said.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::Duration;

use bootwright::image::bios::CONFIG_PATH;
use bootwright::lab::{Error, Firmware, Spec};
use bootwright_model::layout::{ESP_LABEL, SEED_LABEL};
use bootwright_model::report::Outcome;
use qemu_tests::{Boot, FIRST_SERVICES, Image, damaged, flip_bit, partition, write_seed};

/// Label of the first root partition, as the image names it.
const ROOT_LABEL: &str = "root-a";
/// Bound for a boot loader to give up.
const LOADER: Duration = Duration::from_secs(90);

/// Boots a copy of the image that was damaged, and returns how the boot ended: the stage and the reason.
fn boot_damaged(
    name: &str,
    damage: impl FnOnce(&File, &Image),
    change: impl FnOnce(&mut Spec),
) -> (String, String) {
    let image = Image::under_test();
    let mut spec = image.spec(name, Firmware::Bios);
    spec.image = damaged(&image, &spec.folder, |file| damage(file, &image));
    change(&mut spec);
    let mut boot = image.boot(spec);
    let outcome = boot
        .session
        .wait_report("the boot to fail", FIRST_SERVICES, |report| report.services_started_ms.is_some());
    match outcome {
        Err(Error::BootFailed { stage, reason, .. }) => {
            said_on_the_console(&mut boot, &stage, &reason);
            (stage, reason)
        }
        other => {
            boot.expect("a boot that fails in a stage", other);
            panic!("the services were started all the same; the console:\n{}", boot.console());
        }
    }
}

/// A person with nothing but the serial console reads the stage, each cause, and what happens next.
fn said_on_the_console(boot: &mut Boot, stage: &str, reason: &str) {
    let console = boot.console();
    assert!(console.contains(stage), "no '{stage}' on the console:\n{console}");
    for part in reason.split("; ").flat_map(|part| part.split(": ")) {
        assert!(console.contains(part), "no '{part}' on the console:\n{console}");
    }
}

#[test]
fn a_flipped_bit_in_the_root_is_refused() {
    let (stage, reason) = boot_damaged(
        "flipped-bit",
        |file, image| {
            let (offset, _) = partition(&image.path(), ROOT_LABEL);
            flip_bit(file, offset + 100);
        },
        |_| {},
    );
    assert_eq!(stage, "root", "{reason}");
    assert!(reason.contains("root hash"), "{reason}");
}

#[test]
fn a_disk_that_was_cut_short_is_refused() {
    let (stage, reason) = boot_damaged(
        "cut-short",
        |file, image| {
            let (offset, length) = partition(&image.path(), ROOT_LABEL);
            file.set_len(offset + length / 2).expect("the copy is writable");
        },
        |spec| spec.disk_bytes = 0,
    );
    assert_eq!(stage, "root", "{reason}");
    assert!(reason.contains("the GPT header at byte 512 is damaged"), "{reason}");
}

#[test]
fn a_disk_without_room_for_state_says_how_much_it_needs() {
    let (stage, reason) = boot_damaged("too-small", |_, _| {}, |spec| spec.disk_bytes = 0);
    assert_eq!(stage, "state", "{reason}");
    assert!(reason.contains("the second root slot of "), "{reason}");
    assert!(reason.contains(" MiB and at least 512 MiB of state need "), "{reason}");
}

#[test]
fn a_seed_with_a_typing_error_is_refused_with_its_place() {
    let (stage, reason) = boot_damaged(
        "seed-typo",
        |file, image| {
            let (offset, length) = partition(&image.path(), SEED_LABEL);
            write_seed(file, offset, length, "name = \"cp1\"\nadress = \"10.0.2.15/24\"\n");
        },
        |_| {},
    );
    assert_eq!(stage, "identity", "{reason}");
    assert!(
        reason.contains("node.toml") && reason.contains("line 2") && reason.contains("adress"),
        "{reason}"
    );
}

#[test]
fn a_seed_that_contradicts_the_cluster_file_is_refused_with_both_values() {
    let (stage, reason) = boot_damaged(
        "seed-contradiction",
        |file, image| {
            let (offset, length) = partition(&image.path(), SEED_LABEL);
            write_seed(file, offset, length, "name = \"cp1\"\naddress = \"10.0.2.99/24\"\n");
        },
        |_| {},
    );
    assert_eq!(stage, "identity", "{reason}");
    assert!(
        reason.contains("10.0.2.99/24 by the seed") && reason.contains("10.0.2.15/24 by the inventory"),
        "{reason}"
    );
}

#[test]
fn a_machine_with_another_network_card_is_told_which_it_has() {
    let other = "52:54:00:00:00:99";
    let (stage, reason) = boot_damaged("other-mac", |_, _| {}, |spec| spec.mac = other.to_owned());
    assert_eq!(stage, "network", "{reason}");
    let wanted = Image::under_test().node().mac.clone().expect("the example has a MAC address");
    assert!(reason.contains(&wanted) && reason.contains(&format!("eth0 {other}")), "{reason}");
}

#[test]
fn a_command_line_without_a_root_hash_is_refused() {
    let (stage, reason) = boot_damaged(
        "no-root-hash",
        |file, image| replace_in_bios_config(file, image, "'roothash=", "'ruthhash="),
        |_| {},
    );
    assert_eq!(stage, "root", "{reason}");
    assert!(reason.contains("has no valid roothash="), "{reason}");
}

#[test]
fn a_root_hash_of_another_image_is_refused_with_what_the_disk_has() {
    let hash = Image::under_test().root_hash();
    let other = format!("{}{}", if hash.starts_with('0') { '1' } else { '0' }, &hash[1..]);
    let (stage, reason) = boot_damaged(
        "other-root-hash",
        |file, image| {
            replace_in_bios_config(file, image, &format!("'roothash={hash}"), &format!("'roothash={other}"));
        },
        |_| {},
    );
    assert_eq!(stage, "root", "{reason}");
    assert!(
        reason.contains(&other[..8]) && reason.contains("the verity partition is there, its root partition"),
        "{reason}"
    );
}

/// The firmware reads the kernel from a USB stick, for which the initramfs has no driver. The only disk that
/// the kernel sees is an empty one. Under UEFI, because SeaBIOS tries one disk only.
#[test]
fn a_disk_without_a_driver_is_not_among_those_that_were_seen() {
    let (stage, reason) = boot_damaged(
        "no-driver",
        |_, _| {},
        |spec| {
            spec.firmware = Firmware::Uefi;
            let stick = spec.image.clone();
            spec.image = spec.folder.join("empty.raw");
            let empty = File::create(&spec.image).expect("the folder is writable");
            empty.set_len(1 << 20).expect("it is a hole");
            let drive = format!("if=none,id=stick,format=raw,readonly=on,file={}", stick.display());
            spec.arguments = ["-drive", &drive, "-device", "qemu-xhci"].map(str::to_owned).to_vec();
            spec.arguments.extend(["-device", "usb-storage,drive=stick,bootindex=1"].map(str::to_owned));
        },
    );
    assert_eq!(stage, "root", "{reason}");
    assert!(reason.contains("seen: vda: ") && reason.contains("kernel.initramfs-modules"), "{reason}");
    assert!(!reason.contains("root-a"), "{reason}");
}

#[test]
fn the_bios_loader_names_a_missing_boot_image_on_the_serial_line() {
    let image = Image::under_test();
    let uki = image.boot_image();
    let console = loader_gives_up("no-boot-image", Firmware::Bios, &uki, "restarts in 60 s");
    for part in [
        format!("error: file `/{uki}' not found"),
        format!("what: /{uki} on partition 1 (ESP) of this disk"),
        "why: the error above".to_owned(),
        "next: write partition 1 of the image".to_owned(),
    ] {
        assert!(console.contains(&part), "no '{part}' on the console:\n{console}");
    }
}

#[test]
fn the_bios_loader_names_its_missing_configuration_on_the_serial_line() {
    let console = loader_gives_up("no-bios-config", Firmware::Bios, CONFIG_PATH, "restarts in 60 s");
    assert!(console.contains("what: no readable /loader/bios/grub.cfg on partition 1 (ESP)"), "{console}");
}

/// systemd-boot has no words for it: its menu has one entry left, which is the firmware's setup.
#[test]
fn the_uefi_loader_without_a_boot_image_leads_to_the_firmwares_setup() {
    let uki = Image::under_test().boot_image();
    let console = loader_gives_up("no-boot-image-uefi", Firmware::Uefi, &uki, "starting Boot0000 \"UiApp\"");
    assert!(console.contains("Reboot Into Firmware Interface"), "{console}");
}

/// Boots a copy whose ESP lost a file, waits for a line, and returns what the console said.
fn loader_gives_up(name: &str, firmware: Firmware, file: &str, line: &str) -> String {
    let image = Image::under_test();
    let mut spec = image.spec(name, firmware);
    spec.image = damaged(&image, &spec.folder, |_| {});
    let (offset, _) = partition(&spec.image, ESP_LABEL);
    let esp = format!("{}@@{offset}", spec.image.display());
    let deleted = Command::new("mdel").args(["-i", &esp, &format!("::{file}")]).output();
    let deleted = deleted.expect("mtools is installed");
    assert!(deleted.status.success(), "{}", String::from_utf8_lossy(&deleted.stderr));
    let mut boot = image.boot(spec);
    let outcome = boot.session.wait_line(line, LOADER);
    boot.expect("the loader's last words", outcome);
    boot.console()
}

#[test]
fn garbage_on_the_seed_partition_and_on_another_disk_does_not_stop_a_node_of_the_inventory() {
    let image = Image::under_test();
    let mut spec = image.spec("garbage", Firmware::Bios);
    // Every byte value, and no boot sector.
    let garbage: Vec<u8> =
        (0..64 * 1024_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let (offset, _) = partition(&image.path(), SEED_LABEL);
    spec.image = damaged(&image, &spec.folder, |file| {
        file.write_all_at(&garbage, offset).expect("the copy is writable");
    });
    let other = spec.folder.join("other.raw");
    std::fs::write(&other, garbage.repeat(16)).expect("the folder is writable");
    spec.arguments =
        ["-drive", "if=none,id=other,format=raw,file=other.raw", "-device", "virtio-blk-pci,drive=other"]
            .map(str::to_owned)
            .to_vec();
    let mut boot = image.boot(spec);
    let outcome = boot
        .session
        .wait_report("the services to start", FIRST_SERVICES, |report| !report.services.is_empty());
    let report = boot.expect("the boot", outcome);
    assert_eq!(report.node.as_deref(), Some(image.node().name.as_str()));
    let identity =
        report.stages.iter().find(|stage| stage.name == "identity").expect("there is such a stage");
    let Outcome::Degraded { problems } = &identity.outcome else { panic!("{identity:?}") };
    assert_eq!(problems[0].next, "write the seed partition again: a FAT filesystem with node.toml");
    boot.session.machine().kill().expect("QEMU can be ended");
    assert!(std::fs::read(other).expect("it is there still") == garbage.repeat(16), "somebody wrote to it");
}

/// Puts other text of the same length into the BIOS loader's configuration on the ESP.
fn replace_in_bios_config(file: &File, image: &Image, from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let (offset, length) = partition(&image.path(), ESP_LABEL);
    let mut esp = vec![0; length as usize];
    file.read_exact_at(&mut esp, offset).expect("the partition lies in the file");
    // The boot image has the hash too, but not behind a quote.
    let at = esp.windows(from.len()).position(|window| window == from.as_bytes());
    let at = at.unwrap_or_else(|| panic!("no {from} on the ESP"));
    file.write_all_at(to.as_bytes(), offset + at as u64).expect("the copy is writable");
}
