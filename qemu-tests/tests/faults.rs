//! What a damaged disk or a wrong seed looks like: the boot stops (or goes on) and says why, on the
//! console and in the report.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

use bootwright::lab::{Error, Firmware, Spec};
use bootwright_model::layout::SEED_LABEL;
use bootwright_model::report::Outcome;
use fscommon::StreamSlice;
use qemu_tests::{Boot, FIRST_SERVICES, Image, damaged, flip_bit, partition};

/// Label of the first root partition, as the image names it.
const ROOT_LABEL: &str = "root-a";

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
}

#[test]
fn a_disk_without_room_for_state_says_how_much_it_needs() {
    let (stage, reason) = boot_damaged("too-small", |_, _| {}, |spec| spec.disk_bytes = 0);
    assert_eq!(stage, "state", "{reason}");
    assert!(reason.contains("MiB"), "{reason}");
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
fn a_seed_partition_full_of_garbage_does_not_stop_a_node_of_the_inventory() {
    let image = Image::under_test();
    let mut spec = image.spec("seed-garbage", Firmware::Bios);
    let (offset, _) = partition(&image.path(), SEED_LABEL);
    spec.image = damaged(&image, &spec.folder, |file| {
        // Every byte value, and no boot sector.
        let garbage: Vec<u8> =
            (0..64 * 1024_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        file.write_all_at(&garbage, offset).expect("the copy is writable");
    });
    let mut boot = image.boot(spec);
    let outcome = boot
        .session
        .wait_report("the services to start", FIRST_SERVICES, |report| !report.services.is_empty());
    let report = boot.expect("the boot", outcome);
    assert_eq!(report.node.as_deref(), Some(image.node().name.as_str()));
    let identity =
        report.stages.iter().find(|stage| stage.name == "identity").expect("there is such a stage");
    assert!(matches!(identity.outcome, Outcome::Degraded { .. }), "{identity:?}");
}

/// Puts a FAT filesystem with `node.toml` where the seed partition is.
fn write_seed(file: &File, offset: u64, length: u64, text: &str) {
    let open = || {
        let file = file.try_clone().expect("a descriptor is free");
        StreamSlice::new(file, offset, offset + length).expect("the partition lies in the file")
    };
    fatfs::format_volume(open(), fatfs::FormatVolumeOptions::new()).expect("the partition is large enough");
    let filesystem = fatfs::FileSystem::new(open(), fatfs::FsOptions::new()).expect("it was just made");
    let mut seed = filesystem.root_dir().create_file("node.toml").expect("the folder is empty");
    seed.write_all(text.as_bytes()).expect("there is room");
}
