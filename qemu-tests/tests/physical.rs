//! An image as for a physical machine: the full kernel, files for its drivers, microcode, a disk with sectors of 4096 bytes,
//! UEFI, a screen, a watchdog, and a workload image that somebody else made. One build and two boots for all of it, the
//! second after the kernel has come to a stop and the watchdog has reset the machine.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bootwright::lab::Firmware;
use bootwright::lab::disk;
use bootwright::lab::machine::DISK;
use bootwright_model::layout::{ESP_LABEL, SEED_LABEL, STATE_LABEL};
use bootwright_model::report::BootReport;
use qemu_tests::{Boot, CLUSTER, FIRST_SERVICES, Image, READY, STOP, partition, reports, repository, screen};
use serde_json::json;

/// Name of the archive's image.
const OWN: &str = "example.org/own:1";
/// What the watchdog waits for a sign of life, and some more.
const WATCHDOG: Duration = Duration::from_secs(75);
/// QEMU's word for that it has acted.
const BARKED: &str = "WATCHDOG";
/// Lines that a boot has on the screen at least: one for each stage.
const STAGES: usize = 8;
/// Services that come up without another, and the import of the workload images.
const WAITED_FOR: [(&str, &str); 3] = [("containerd", "ready"), ("etcd", "ready"), ("images", "done")];

#[test]
fn a_disk_of_large_sectors_with_the_full_kernel_boots_twice_and_imports_an_archive() {
    let folder = Image::under_test().folder("physical");
    // What an earlier run of the test left.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("the folder of the image is writable");
    let archive = oci_archive(&folder);
    let image = build(&folder);
    assert_eq!(disk::sector_size(&image.path()).expect("it is readable").bytes(), 4096);
    let path = image.path().display().to_string();
    let table = run("/usr/sbin/fdisk", &["-b", "4096", "-o", "Start,Type-UUID,Name", "-l", &path]);
    assert!(table.contains("Disklabel type: gpt"), "{table}");
    for (number, kind, name) in [
        ("256", "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", ESP_LABEL),
        ("", "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", "root-a"),
        ("", "2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5", "verity-a"),
        ("", "0FC63DAF-8483-4772-8E79-3D69D8477DE4", SEED_LABEL),
    ] {
        let is = |line: &&str| line.trim().starts_with(number) && line.ends_with(&format!("{kind} {name}"));
        assert_eq!(table.lines().filter(is).count(), 1, "{name} in\n{table}");
    }
    for label in [ESP_LABEL, SEED_LABEL] {
        fsck(&image, label, &folder);
    }

    let mut spec = image.spec("boot", Firmware::Uefi);
    spec.arguments = screen::card();
    spec.arguments.extend(["-device", "i6300esb", "-action", "watchdog=reset"].map(str::to_owned));
    let mut boot = image.boot(spec);
    // Two: of the machine's chipset, and the one that was added. Which one the kernel takes for the first is chance.
    let line = armed(&mut boot);
    assert!(line.contains("i6300ESB timer") && line.contains("iTCO_wdt"), "{line}");
    let outcome = boot.session.wait_report("the stages before the services", FIRST_SERVICES, |report| {
        report.stages.iter().any(|stage| stage.name == "services")
    });
    let report = boot.expect("the boot report", outcome);
    reports::assert_passed(&report);
    let state = summary(&report, "state");
    assert!(state.contains("partitions made, filesystem made"), "{state}");
    let randomness = summary(&report, "randomness");
    assert!(
        randomness.contains("virtio_rng.0") && randomness.ends_with("no seed of an earlier boot"),
        "{randomness}"
    );
    hang(&mut boot);
    assert!(barked(&mut boot, WATCHDOG), "the machine hangs and nobody has reset it");

    armed(&mut boot);
    let since = Instant::now();
    let again = first_services(&mut boot, &report.boot_id);
    let state = summary(&again, "state");
    assert!(state.contains("/dev/vda7") && !state.contains("made"), "{state}");
    let randomness = summary(&again, "randomness");
    assert!(randomness.ends_with("seed of the last boot mixed in"), "{randomness}");
    // The kernel writes grey on black; the firmware's own picture has other colours.
    let (grey, other) = boot.screen_lines();
    assert!(grey > STAGES && other == 0, "{grey} lines of text on the screen, {other} of something else");
    // It is fed for longer than it would wait.
    let outcome = boot.session.rest(WATCHDOG.saturating_sub(since.elapsed()));
    boot.expect("the machine to run on", outcome);
    assert!(!barked(&mut boot, Duration::from_millis(1)), "the watchdog has reset a machine that runs");
    let outcome = boot.session.power_off(STOP);
    boot.expect("the power button", outcome);
    imported(&boot.session.machine().folder().join(DISK), &archive);
}

/// Waits until the watchdogs are armed; what first boot says of them.
fn armed(boot: &mut Boot) -> String {
    let outcome = boot.session.wait_line("watchdog: resets the machine 60 s after a hang", FIRST_SERVICES);
    boot.expect("the watchdogs to be found", outcome)
}

/// Stops the kernel, and with it every process: an interrupt that nobody knows ends in a panic, after which the profile of
/// the test has it wait for ever. Early in a boot, as the kubelet sets `kernel.panic` to 10 s when it starts: with that the
/// machine restarts before a watchdog acts.
fn hang(boot: &mut Boot) {
    let qmp = boot.session.machine().qmp().expect("QEMU runs");
    qmp.execute("inject-nmi", json!({})).expect("QEMU has such an interrupt");
    let outcome = boot.session.wait_line("Kernel panic - not syncing", Duration::from_secs(20));
    boot.expect("the kernel to stop", outcome);
}

/// Whether QEMU's watchdog acts within `limit`, or has acted before.
fn barked(boot: &mut Boot, limit: Duration) -> bool {
    let qmp = boot.session.machine().qmp().expect("QEMU runs");
    let event = qmp.event(BARKED, Instant::now() + limit).expect("QEMU tells what happens");
    event.is_some_and(|event| event["data"]["action"] == "reset")
}

/// Files that an image with the full kernel has of Debian's packages, and microcode in front of everything else.
fn has_firmware(image: &Image, description: &serde_json::Value) {
    let packages = description["firmware"]["packages"].as_array().expect("it has files for drivers");
    let files = |name: &str| {
        let package = packages.iter().find(|package| package["package"] == name);
        package.and_then(|package| package["files"].as_u64()).unwrap_or_default()
    };
    for (name, least) in
        [("firmware-bnx2x", 1), ("firmware-qlogic", 1), ("intel-microcode", 50), ("amd64-microcode", 1)]
    {
        assert!(files(name) >= least, "{name} in {packages:?}");
    }
    let (offset, length) = partition(&image.path(), ESP_LABEL);
    let mut esp = vec![0; length as usize];
    let disk = std::fs::File::open(image.path()).expect("the image is readable");
    std::os::unix::fs::FileExt::read_exact_at(&disk, &mut esp, offset)
        .expect("the partition lies in the file");
    for name in ["kernel/x86/microcode/AuthenticAMD.bin", "kernel/x86/microcode/GenuineIntel.bin"] {
        assert!(esp.windows(name.len()).any(|window| window == name.as_bytes()), "{name}");
    }
}

/// Builds the example with the full kernel for large sectors, and with an archive in place of its own image. A kernel that
/// has panicked restarts by itself otherwise, which would be no work for a watchdog.
fn build(folder: &Path) -> Image {
    let profile =
        std::fs::read_to_string(repository().join("profiles/all-in-one.toml")).expect("there is one");
    let sysctl = "[sysctl]\n\"kernel.panic\" = \"0\"\n\"kernel.unknown_nmi_panic\" = \"1\"\n";
    std::fs::create_dir_all(folder.join("profiles")).expect("the folder is writable");
    std::fs::write(folder.join("profiles/all-in-one.toml"), profile + sysctl)
        .expect("the folder is writable");
    let example = std::fs::read_to_string(repository().join(CLUSTER)).expect("there is an example");
    let (before_image, _) = example.split_once("\n[[image]]\n").expect("the example has an image");
    let text = before_image
        .replace("[base]\n", "[base]\nkernel = \"full\"\ncomponents = [\"main\", \"non-free-firmware\"]\n");
    let text =
        format!("{text}\n[disk]\nsector-size = 4096\n\n[[image]]\nname = \"{OWN}\"\narchive = \"own.tar\"\n");
    let image = Image::build(folder, &text);
    let description = std::fs::read_to_string(image.path().with_extension("json")).expect("it is described");
    println!("{}: {description}", image.path().display());
    let description: serde_json::Value = serde_json::from_str(&description).expect("it is JSON");
    let kernel = description["kernel-release"].as_str().expect("it has a kernel");
    assert!(!kernel.contains("cloud"), "{kernel}");
    has_firmware(&image, &description);
    image
}

/// Waits for the first services and the import in a boot other than `before`, and checks every stage.
fn first_services(boot: &mut Boot, before: &str) -> BootReport {
    let outcome = boot.session.wait_report("the first services", READY, |report| {
        let is = |(name, state): &(&str, &str)| {
            report.services.iter().any(|service| service.name == *name && service.state == *state)
        };
        before != report.boot_id && WAITED_FOR.iter().all(is)
    });
    let report = boot.expect("the boot report", outcome);
    reports::assert_passed(&report);
    report
}

fn summary<'a>(report: &'a BootReport, stage: &str) -> &'a str {
    &report.stages.iter().find(|found| found.name == stage).expect("the stage has passed").summary
}

/// What the state partition has of the archive: containerd's words, and the manifest among its blobs.
fn imported(disk: &Path, archive: &Archive) {
    let (offset, _) = partition(disk, STATE_LABEL);
    let debugfs = |request: String| {
        let device = format!("{}?offset={offset}", disk.display());
        run("/usr/sbin/debugfs", &["-R", &request, &device])
    };
    let log = debugfs("cat /log/services/images.log".to_owned());
    assert!(log.contains(OWN) && log.contains(&archive.manifest), "{log}");
    let blob = "/lib/containerd/io.containerd.content.v1.content/blobs/sha256";
    let manifest = debugfs(format!("cat {blob}/{}", archive.manifest));
    assert!(manifest.contains(&archive.layer), "{manifest}");
}

/// An archive and SHA-256 digests of what is in it.
struct Archive {
    manifest: String,
    layer: String,
}

/// Makes `own.tar` as `skopeo copy … oci-archive:` lays it out: a compressed layer with one static program.
fn oci_archive(folder: &Path) -> Archive {
    let work = folder.join("oci");
    let blobs = work.join("layout/blobs/sha256");
    std::fs::create_dir_all(&blobs).expect("the folder is writable");
    let at = |path: &Path| path.display().to_string();
    let write = |path: &Path, text: &str| std::fs::write(path, text).expect("the folder is writable");

    let runtime =
        std::env::var_os("BOOTWRIGHT_RUNTIME").expect("./run test names the folder of the static programs");
    std::fs::copy(PathBuf::from(runtime).join("pause"), work.join("pause")).expect("it is there");
    let layer = work.join("layer.tar");
    run("tar", &["--create", "--file", &at(&layer), "--directory", &at(&work), "pause"]);
    let diff_id = sha256(&layer);
    run("gzip", &["--no-name", &at(&layer)]);
    let (layer, layer_size) = into_blob(&work.join("layer.tar.gz"), &blobs);

    let config = work.join("config");
    write(
        &config,
        &format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{"Entrypoint":["/pause"]}},"rootfs":{{"type":"layers","diff_ids":["sha256:{diff_id}"]}}}}"#
        ),
    );
    let (config, config_size) = into_blob(&config, &blobs);
    let manifest = work.join("manifest");
    write(
        &manifest,
        &format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:{config}","size":{config_size}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:{layer}","size":{layer_size}}}]}}"#
        ),
    );
    let (manifest, manifest_size) = into_blob(&manifest, &blobs);
    write(
        &work.join("layout/index.json"),
        &format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:{manifest}","size":{manifest_size}}}]}}"#
        ),
    );
    write(&work.join("layout/oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#);
    let (own, layout) = (at(&folder.join("own.tar")), at(&work.join("layout")));
    run("tar", &["--create", "--file", &own, "--directory", &layout, "blobs", "index.json", "oci-layout"]);
    Archive { manifest, layer }
}

/// Moves a file among the blobs; its digest and size.
fn into_blob(path: &Path, blobs: &Path) -> (String, u64) {
    let digest = sha256(path);
    let size = path.metadata().expect("it was just written").len();
    std::fs::rename(path, blobs.join(&digest)).expect("one filesystem");
    (digest, size)
}

fn sha256(path: &Path) -> String {
    let said = run("sha256sum", &[&path.display().to_string()]);
    said.split_whitespace().next().expect("a digest").to_owned()
}

/// The filesystem counts in the disk's sectors, and fsck has nothing against it.
fn fsck(image: &Image, label: &str, folder: &Path) {
    use std::os::unix::fs::FileExt;
    let (offset, length) = partition(&image.path(), label);
    let mut bytes = vec![0; length as usize];
    let disk = std::fs::File::open(image.path()).expect("the image is readable");
    disk.read_exact_at(&mut bytes, offset).expect("the partition lies in the file");
    let path = folder.join(label);
    std::fs::write(&path, bytes).expect("there is room");
    let said = run("/usr/sbin/fsck.vfat", &["-n", "-v", &path.display().to_string()]);
    assert!(said.contains("4096 bytes per logical sector"), "{said}");
    std::fs::remove_file(path).expect("it was just written");
}

/// What a program says, its errors included.
fn run(program: &str, arguments: &[&str]) -> String {
    let done = Command::new(program).args(arguments).env("LC_ALL", "C").output();
    let done = done.unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    assert!(done.status.success(), "{program}: {}: {said}", done.status);
    said
}
