//! The shipped file, read by programs that are not ours: each is content with it, and sees in it what the
//! specifications say. No machine is booted here.
//!
//! Sources: the UAPI Group's "Discoverable Partitions Specification" and "Unified Kernel Image", UEFI chapter 5.
//! Not systemd-dissect: that of Debian 12 attaches a loop device, which takes root.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;

use qemu_tests::Image;
use serde_json::Value;

/// Types as the specifications spell them; written out, because our own constants are what is tested.
const ESP: &str = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B";
const ROOT_X86_64: &str = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709";
const ROOT_X86_64_VERITY: &str = "2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5";
const LINUX_GENERIC: &str = "0FC63DAF-8483-4772-8E79-3D69D8477DE4";
/// Sections that a unified kernel image has to have.
const SECTIONS: [&str; 5] = [".osrel", ".cmdline", ".uname", ".linux", ".initrd"];

#[test]
fn partitioning_tools_find_nothing_wrong_and_the_types_of_the_specification() {
    let image = Image::under_test();
    let said = run("sgdisk", [OsStr::new("--verify"), image.path().as_os_str()]);
    assert!(said.contains("No problems found"), "{said}");
    let said = run("sfdisk", [OsStr::new("--verify"), image.path().as_os_str()]);
    assert!(said.contains("No errors detected"), "{said}");
    let types: Vec<String> = partitions(&image.path()).iter().map(|one| one.kind.clone()).collect();
    assert_eq!(types, [ESP, ROOT_X86_64, ROOT_X86_64_VERITY, LINUX_GENERIC]);
}

/// The root hash that the boot image passes on names both partitions and proves what is in them.
#[test]
fn the_root_hash_of_the_boot_image_is_that_of_the_partitions() {
    let image = Image::under_test();
    let folder = tempfile::tempdir().expect("a folder");
    let parts = partitions(&image.path());
    let hash = root_hash(&boot_image(&image, folder.path()), folder.path());
    assert_eq!(parts[1].uuid.replace('-', "").to_lowercase(), hash[..32]);
    assert_eq!(parts[2].uuid.replace('-', "").to_lowercase(), hash[32..]);

    let [root, verity] = [&parts[1], &parts[2]].map(|part| cut_out(&image, part, folder.path()));
    run("veritysetup", [OsStr::new("verify"), root.as_os_str(), verity.as_os_str(), OsStr::new(&hash)]);
    // The answer is not always yes.
    let other = format!("{}{}", if hash.starts_with('0') { '1' } else { '0' }, &hash[1..]);
    let done = Command::new("veritysetup").arg("verify").args([&root, &verity]).arg(other).output();
    assert!(!done.expect("veritysetup is installed").status.success());
}

#[test]
fn fsck_is_content_with_both_fat_filesystems() {
    let image = Image::under_test();
    let folder = tempfile::tempdir().expect("a folder");
    for part in partitions(&image.path()).iter().filter(|part| ["ESP", "SEED"].contains(&part.name.as_str()))
    {
        let cut = cut_out(&image, part, folder.path());
        let said = run("fsck.vfat", [OsStr::new("-n"), OsStr::new("-v"), cut.as_os_str()]);
        for complaint in ["Dirty", "bad", "Bad", "wrong", "incorrect", "differ"] {
            assert!(!said.contains(complaint), "{}: {said}", part.name);
        }
        // The label in the filesystem is the one in the table, so that either names it.
        let said = run("mlabel", ["-s".as_ref(), "-i".as_ref(), cut.as_os_str(), "::".as_ref()]);
        assert!(said.contains(&format!("Volume label is {} ", part.name)), "{said}");
    }
}

#[test]
fn the_boot_image_is_one_for_binutils() {
    let image = Image::under_test();
    let folder = tempfile::tempdir().expect("a folder");
    let said = run("objdump", [OsStr::new("-h"), boot_image(&image, folder.path()).as_os_str()]);
    assert!(said.contains("pei-x86-64"), "{said}");
    let names: Vec<&str> = said.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    for section in SECTIONS {
        assert_eq!(names.iter().filter(|name| **name == section).count(), 1, "{section} of\n{said}");
    }
}

/// systemd-repart, asked what it would do to a disk with our partitions, knows each of them again.
#[test]
fn systemd_repart_recognises_the_partitions() {
    let image = Image::under_test();
    let definitions = tempfile::tempdir().expect("a folder");
    let wanted =
        [("10", "esp"), ("20", "root-x86-64"), ("30", "root-x86-64-verity"), ("40", "linux-generic")];
    for (number, kind) in wanted {
        let path = definitions.path().join(format!("{number}.conf"));
        std::fs::write(path, format!("[Partition]\nType={kind}\nSizeMinBytes=1M\n"))
            .expect("the folder is writable");
    }
    let folder = format!("--definitions={}", definitions.path().display());
    let path = image.path();
    let said = run(
        "systemd-repart",
        ["--dry-run=yes".as_ref(), "--json=short".as_ref(), folder.as_ref(), path.as_os_str()],
    );
    let plan = json(&said);
    let parts = partitions(&path);
    for (index, (_, kind)) in wanted.into_iter().enumerate() {
        let entry = &plan[index];
        assert_eq!(entry["type"], kind, "{said}");
        // One that it does not find is one that it would make.
        assert_ne!(entry["activity"], "create", "{said}");
        assert_eq!(entry["offset"], parts[index].start, "{said}");
        assert_eq!(entry["old_size"], parts[index].size, "{said}");
        let uuid = entry["uuid"].as_str().expect("a UUID");
        assert!(uuid.eq_ignore_ascii_case(&parts[index].uuid), "{said}");
    }
}

/// A partition as sfdisk sees it.
struct Part {
    name: String,
    kind: String,
    uuid: String,
    /// Bytes.
    start: u64,
    /// Bytes.
    size: u64,
}

fn partitions(disk: &Path) -> Vec<Part> {
    let said = run("sfdisk", [OsStr::new("--json"), disk.as_os_str()]);
    let table = &json(&said)["partitiontable"];
    assert_eq!((&table["label"], &table["sectorsize"]), (&"gpt".into(), &512.into()));
    let text = |entry: &Value, key: &str| entry[key].as_str().expect("a text").to_owned();
    let bytes = |entry: &Value, key: &str| entry[key].as_u64().expect("a number") * 512;
    let entries = table["partitions"].as_array().expect("there are partitions");
    let parts = entries.iter().map(|entry| Part {
        name: text(entry, "name"),
        kind: text(entry, "type"),
        uuid: text(entry, "uuid"),
        start: bytes(entry, "start"),
        size: bytes(entry, "size"),
    });
    parts.collect()
}

/// The JSON that stands before what a program has to say besides.
fn json(said: &str) -> Value {
    let value = serde_json::Deserializer::from_str(said).into_iter().next().expect("it says something");
    value.unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// The partition's bytes in a file of their own.
fn cut_out(image: &Image, part: &Part, folder: &Path) -> PathBuf {
    let path = folder.join(&part.name);
    let mut disk = File::open(image.path()).expect("the image is readable");
    disk.seek(SeekFrom::Start(part.start)).expect("the partition lies in the file");
    let mut file = File::create(&path).expect("the folder is writable");
    std::io::copy(&mut disk.take(part.size), &mut file).expect("there is room");
    path
}

/// The unified kernel image, taken off the ESP with mtools.
fn boot_image(image: &Image, folder: &Path) -> PathBuf {
    let path = folder.join("uki.efi");
    let esp = format!("{}@@{}", image.path().display(), partitions(&image.path())[0].start);
    let source = format!("::{}", image.boot_image());
    run("mcopy", ["-n".as_ref(), "-i".as_ref(), esp.as_ref(), source.as_ref(), path.as_os_str()]);
    path
}

/// `roothash=` of the boot image's command line, taken out with objcopy.
fn root_hash(uki: &Path, folder: &Path) -> String {
    let path = folder.join("cmdline");
    let section = format!(".cmdline={}", path.display());
    let copy = folder.join("copy.efi");
    run("objcopy", ["--dump-section".as_ref(), section.as_ref(), uki.as_os_str(), copy.as_os_str()]);
    let line = std::fs::read_to_string(path).expect("objcopy wrote it");
    let words = line.trim_end_matches('\0').split_ascii_whitespace();
    let hash = words.filter_map(|word| word.strip_prefix("roothash=")).next();
    hash.unwrap_or_else(|| panic!("no roothash= in {line}")).to_owned()
}

/// What a program says. Installed by `./run setup`; some lie where only root's PATH leads.
fn run<'a>(program: &str, arguments: impl IntoIterator<Item = &'a OsStr>) -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    let done = Command::new(program)
        .args(arguments)
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .env("LC_ALL", "C")
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    assert!(done.status.success(), "{program}: {}: {said}", done.status);
    said
}
