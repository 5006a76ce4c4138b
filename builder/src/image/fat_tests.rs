use std::path::Path;
use std::process::Command;

use super::*;

fn run(program: &str, arguments: &[&std::ffi::OsStr]) -> (bool, String) {
    let done = Command::new(program).args(arguments).env("TZ", "UTC").env("LC_ALL", "C").output();
    let done = done.unwrap_or_else(|error| panic!("{program} must run: {error}"));
    let text = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8_lossy(&text).into_owned())
}

fn fsck(path: &Path) {
    let (clean, text) = run("fsck.vfat", &["-n".as_ref(), "-v".as_ref(), path.as_ref()]);
    assert!(clean, "{text}");
    for complaint in ["Dirty", "bad", "Bad", "wrong", "incorrect", "differ", "Start does"] {
        assert!(!text.contains(complaint), "{text}");
    }
}

fn spec<'a>(size: u64, sector_size: SectorSize, files: &'a [(&'a str, &'a [u8])]) -> FatSpec<'a> {
    FatSpec { label: "TEST", volume_id: 0x1234_abcd, size, sector_size, cluster: None, fat_type: None, files }
}

#[test]
fn fsck_is_content_with_every_type_and_sector_size() {
    let long = vec![0x5a; 700_000];
    let names: Vec<String> =
        (0..40).map(|index| format!("deep/er/a-rather-long-file-name-{index}.conf")).collect();
    let mut files: Vec<(&str, &[u8])> = vec![("EFI/BOOT/BOOTX64.EFI", &long), ("EFI/Linux/x.efi", b"x")];
    files.extend(names.iter().map(|name| (name.as_str(), &b"contents"[..])));
    let folder = tempfile::tempdir().unwrap();
    for (size, sector_size, fat_type) in [
        (2 << 20, SectorSize::S512, FatType::Fat12),
        (16 << 20, SectorSize::S512, FatType::Fat16),
        (40 << 20, SectorSize::S512, FatType::Fat32),
        (8 << 20, SectorSize::S4096, FatType::Fat12),
        (300 << 20, SectorSize::S4096, FatType::Fat32),
    ] {
        let bytes = image(&FatSpec { fat_type: Some(fat_type), ..spec(size, sector_size, &files) }).unwrap();
        let path = folder.path().join("fat");
        std::fs::write(&path, &bytes).unwrap();
        fsck(&path);
        let (found, text) = run(
            "mtype",
            &["-i".as_ref(), path.as_ref(), "::deep/er/a-rather-long-file-name-39.conf".as_ref()],
        );
        assert!(found && text == "contents", "{text}");
    }
}

#[test]
fn others_read_label_number_times_and_contents() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fat");
    let files: [(&str, &[u8]); 2] =
        [("loader/loader.conf", b"timeout 0\n"), ("node.toml", b"name = \"cp1\"\n")];
    std::fs::write(&path, image(&spec(8 << 20, SectorSize::S512, &files)).unwrap()).unwrap();
    let (_, text) = run("mdir", &["-/".as_ref(), "-i".as_ref(), path.as_ref(), "::".as_ref()]);
    let text: Vec<_> = text.lines().map(str::trim_end).collect();
    insta::assert_snapshot!(text.join("\n"), @r#"
     Volume in drive : is TEST
     Volume Serial Number is 1234-ABCD
    Directory for ::/

    LOADER       <DIR>     1980-01-01   0:00  loader
    NODE~1   TOM        13 1980-01-01   0:00  node.toml
            2 files                  13 bytes

    Directory for ::/loader

    .            <DIR>     1980-01-01   0:00
    ..           <DIR>     1980-01-01   0:00
    LOADER~1 CON        10 1980-01-01   0:00  loader.conf
            3 files                  10 bytes

    Total files listed:
            5 files                  23 bytes
                              8 335 360 bytes free
    "#);
}

#[test]
fn the_same_twice() {
    let files: [(&str, &[u8]); 1] = [("a/b", b"c")];
    let once = image(&spec(8 << 20, SectorSize::S512, &files)).unwrap();
    assert!(once == image(&spec(8 << 20, SectorSize::S512, &files)).unwrap());
}

#[test]
fn files_lie_in_one_piece() {
    let contents: Vec<u8> = (0..200_000_u32).flat_map(|n| n.to_le_bytes()).collect();
    let files: [(&str, &[u8]); 2] = [("EFI/Linux/a.efi", &contents), ("b", b"b")];
    let bytes = image(&spec(40 << 20, SectorSize::S512, &files)).unwrap();
    let start = bytes.windows(16).position(|window| window == &contents[..16]).unwrap();
    assert!(bytes[start..start + contents.len()] == contents);
}

#[test]
fn what_does_not_fit_is_an_error() {
    let contents = vec![1; 9 << 20];
    let files: [(&str, &[u8]); 1] = [("EFI/Linux/big.efi", &contents)];
    let error = image(&spec(8 << 20, SectorSize::S512, &files)).unwrap_err();
    assert!(matches!(error, FatError::Write { length: 9_437_184, .. }), "{error}");

    let small = FatSpec { fat_type: Some(FatType::Fat32), ..spec(8 << 20, SectorSize::S512, &[]) };
    insta::assert_snapshot!(image(&small).unwrap_err(), @"a FAT filesystem of 8388608 bytes is Fat16, Fat32 was asked for: change its size");
    let error = image(&FatSpec { label: "lower", ..spec(8 << 20, SectorSize::S512, &[]) }).unwrap_err();
    insta::assert_snapshot!(error, @"`lower` cannot be the label of a FAT filesystem: use up to 11 capital letters, digits, `-` or `_`");
    for path in ["/a", "a//b", "../a", "a b", "a:b", "ä", "a."] {
        let files: [(&str, &[u8]); 1] = [(path, b"")];
        let error = image(&spec(8 << 20, SectorSize::S512, &files)).unwrap_err();
        assert!(matches!(error, FatError::Path { .. }), "{path}: {error}");
    }
}
