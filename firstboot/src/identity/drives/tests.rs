use std::os::unix::fs::FileExt;
use std::process::Command;

use proptest::prelude::*;

use super::*;

/// An ISO 9660 image of the tree below `folder`, made by genisoimage as cloud tools call it.
pub fn iso(folder: &Path, label: &str, options: &[&str]) -> Vec<u8> {
    let image = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new("genisoimage");
    command.args(["-quiet", "-V", label]).args(options).arg("-o").args([image.path(), folder]);
    let done = command.output().expect("setup/packages has genisoimage");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    fs::read(image.path()).unwrap()
}

/// A FAT image of the files of `folder`, made by mkfs.vfat and mtools.
fn fat(folder: &Path, label: &str) -> Vec<u8> {
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(1 << 20).unwrap();
    let run = |command: &mut Command| {
        let done = command.output().expect("setup/packages has it");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    run(Command::new("/usr/sbin/mkfs.vfat").args(["-n", label]).arg(image.path()));
    for entry in fs::read_dir(folder).unwrap() {
        let (path, to) = (entry.unwrap().path(), "::/");
        run(Command::new("mcopy").arg("-s").arg("-i").args([image.path(), path.as_path()]).arg(to));
    }
    fs::read(image.path()).unwrap()
}

/// A FAT32 image whose root folder has one cluster full of files, and that cluster is its own next one.
pub fn fat_in_a_circle() -> tempfile::NamedTempFile {
    let image = tempfile::NamedTempFile::new().unwrap();
    // Sparse; FAT32 has at least 65525 clusters, here of 512 bytes.
    image.as_file().set_len(40 << 20).unwrap();
    let options = fatfs::FormatVolumeOptions::new().fat_type(fatfs::FatType::Fat32);
    fatfs::format_volume(image.as_file(), options).unwrap();
    let file = image.as_file();
    let mut sector = [0; 512];
    file.read_exact_at(&mut sector, 0).unwrap();
    // `BPB_RsvdSecCnt`, `BPB_NumFATs`, `BPB_FATSz32`, `BPB_RootClus` (Microsoft's FAT specification, section 3).
    let half = |at: usize| u64::from(u16::from_le_bytes([sector[at], sector[at + 1]]));
    let word = |at: usize| half(at) | (half(at + 2) << 16);
    let (reserved, fats, fat_sectors, root) = (half(14), u64::from(sector[16]), word(36), word(44));
    assert_eq!(
        (half(11), sector[13], root),
        (512, 1, 2),
        "sectors and clusters of 512 bytes, the first is the root's"
    );
    for fat in 0..fats {
        let at = (reserved + fat * fat_sectors) * 512 + root * 4;
        file.write_all_at(&u32::try_from(root).unwrap().to_le_bytes(), at).unwrap();
    }
    // An entry that is neither the last, nor deleted, nor a label, nor a part of a long name.
    let mut entry = [0; 32];
    entry[..11].copy_from_slice(b"FILE    TXT");
    entry[11] = 0x20;
    file.write_all_at(&entry.repeat(16), (reserved + fats * fat_sectors) * 512).unwrap();
    image
}

/// A folder with these files.
pub fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

/// A machine made of files: a device is a folder in /sys and a file in /dev.
pub fn device(root: &Path, name: &str, below: Option<&str>, removable: bool, contents: &[u8]) {
    let devices = root.join("sys/devices");
    let folder = below.map_or(devices.join(name), |disk| devices.join(disk).join(name));
    for made in [&folder, &root.join("dev"), &root.join("sys/class/block")] {
        fs::create_dir_all(made).unwrap();
    }
    std::os::unix::fs::symlink(&folder, root.join("sys/class/block").join(name)).unwrap();
    fs::write(folder.join("size"), format!("{}\n", contents.len().div_ceil(512))).unwrap();
    match below {
        Some(_) => fs::write(folder.join("partition"), "1\n").unwrap(),
        None => fs::write(folder.join("removable"), format!("{}\n", u8::from(removable))).unwrap(),
    }
    fs::write(root.join("dev").join(name), contents).unwrap();
}

const FILES: [(&str, &str); 3] = [
    ("meta-data", "instance-id: i-1\n"),
    ("user-data", "name = \"cp1\"\n"),
    ("openstack/latest/meta_data.json", "{}"),
];

#[test]
fn drives_are_read_whatever_made_them() {
    let files = folder(&FILES);
    let images = [
        ("both", iso(files.path(), "cidata", &["-J", "-r"])),
        ("joliet", iso(files.path(), "CIDATA", &["-J"])),
        ("rock-ridge", iso(files.path(), "cidata", &["-r"])),
        ("rock-ridge-and-level-3", iso(files.path(), "cidata", &["-R", "-iso-level", "3"])),
        ("fat", fat(files.path(), "cidata")),
    ];
    for (what, image) in images {
        let root = tempfile::tempdir().unwrap();
        device(root.path(), "sr0", None, true, &image);
        let drives = find(root.path(), None).drives;
        assert_eq!(drives.len(), 1, "{what}");
        assert_eq!(drives[0].label, "cidata", "{what}");
        let found = drives[0].files.as_ref().unwrap();
        assert_eq!(found["meta-data"], b"instance-id: i-1\n", "{what}");
        assert_eq!(found["user-data"], b"name = \"cp1\"\n", "{what}");
        assert_eq!(found.len(), 2, "{what}");
    }
}

#[test]
fn folders_are_entered() {
    let files = folder(&FILES);
    for options in [&["-J", "-r"][..], &["-r"]] {
        let root = tempfile::tempdir().unwrap();
        device(root.path(), "vdb", None, false, &iso(files.path(), "config-2", options));
        let drives = find(root.path(), None).drives;
        assert_eq!(drives[0].files.as_ref().unwrap()["openstack/latest/meta_data.json"], b"{}");
    }
}

#[test]
fn only_what_may_be_made_for_this_machine_is_looked_at() {
    let files = folder(&FILES);
    let image = iso(files.path(), "cidata", &["-J"]);
    let root = tempfile::tempdir().unwrap();
    for (name, below) in
        [("vda", None), ("vda9", Some("vda")), ("vdb", None), ("vdb1", Some("vdb")), ("loop0", None)]
    {
        device(root.path(), name, below, false, &image);
    }
    // Large and fixed; the same and removable.
    for (name, removable) in [("sda", false), ("sdb", true)] {
        device(root.path(), name, None, removable, &image);
        fs::write(root.path().join("sys/devices").join(name).join("size"), "4000000\n").unwrap();
    }
    device(root.path(), "sdc", None, true, &[]);
    let found: Vec<PathBuf> =
        find(root.path(), Some("vda")).drives.into_iter().map(|drive| drive.device).collect();
    let names: Vec<_> = found.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["sdb", "vdb", "vdb1"]);
}

#[test]
fn what_has_another_label_or_no_filesystem_is_none() {
    let files = folder(&FILES);
    let root = tempfile::tempdir().unwrap();
    device(root.path(), "vdb", None, false, &iso(files.path(), "Debian 12", &["-J"]));
    device(root.path(), "vdc", None, false, &fat(files.path(), "BACKUP"));
    device(root.path(), "vdd", None, false, &[0xa5; 1 << 16]);
    device(root.path(), "vde", None, false, &[0; 100]);
    let mut partitioned = vec![0; 1 << 16];
    partitioned[510..512].copy_from_slice(&[0x55, 0xaa]);
    device(root.path(), "vdf", None, false, &partitioned);
    let found = find(root.path(), None);
    assert!(found.drives.is_empty() && found.silent.is_empty(), "{found:?}");
}

#[test]
fn a_file_that_is_too_large_or_torn_is_told() {
    let large = folder(&[("user-data", &"#".repeat(300 << 10))]);
    let mut torn = iso(folder(&FILES).path(), "cidata", &["-J"]);
    torn.truncate(40 << 10);
    for image in [iso(large.path(), "cidata", &["-J"]), torn] {
        let root = tempfile::tempdir().unwrap();
        device(root.path(), "sr0", None, true, &image);
        assert!(find(root.path(), None).drives[0].files.is_err());
    }
}

#[test]
fn a_folder_that_goes_round_in_a_circle_ends() {
    let image = fat_in_a_circle();
    let volume = Volume::open(File::open(image.path()).unwrap()).unwrap();
    let error = volume.read("user-data", MOST_BYTES).unwrap_err();
    assert!(error.to_string().starts_with("more than 16777216 bytes would have to be read"), "{error}");
    // Nothing more is read of it.
    assert_eq!(volume.label(), "NO NAME");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Bytes where the structures are: descriptors, folders, records.
    #[test]
    fn a_damaged_drive_makes_nothing_panic(changes in proptest::collection::vec((0_usize..100_000, any::<u8>()), 1..60)) {
        static IMAGES: std::sync::OnceLock<[Vec<u8>; 2]> = std::sync::OnceLock::new();
        let images = IMAGES.get_or_init(|| {
            let files = folder(&FILES);
            [iso(files.path(), "cidata", &["-J", "-r"]), iso(files.path(), "cidata", &["-r"])]
        });
        for image in images {
            let mut image = image.clone();
            for (place, byte) in &changes {
                // The sectors from the descriptors on, which is where something can be wrong.
                let place = (32 << 10) + place % (image.len() - (32 << 10)).min(64 << 10);
                image[place] = *byte;
            }
            let file = tempfile::NamedTempFile::new().unwrap();
            fs::write(file.path(), &image).unwrap();
            let _ = open(file.path());
        }
    }
}
