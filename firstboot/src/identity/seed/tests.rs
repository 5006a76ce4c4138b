use std::io::Write;

use super::*;
use crate::identity::drives;

/// A FAT filesystem as mkfs.vfat's default, with one file.
fn fat_with(name: &str, text: &[u8]) -> tempfile::NamedTempFile {
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(8 << 20).unwrap();
    fatfs::format_volume(image.as_file(), fatfs::FormatVolumeOptions::new().volume_label(*b"SEED       "))
        .unwrap();
    let fat = fatfs::FileSystem::new(image.as_file(), fatfs::FsOptions::new()).unwrap();
    fat.root_dir().create_file(name).unwrap().write_all(text).unwrap();
    drop(fat);
    image
}

#[test]
fn a_seed_is_read() {
    let text = "name = \"cp1\"\r\naddress = \"10.0.2.15/24\"\r\nmac = \"52:54:00:00:00:01\"\r\n";
    let image = fat_with("node.toml", text.as_bytes());
    let claim = read(image.path()).unwrap().unwrap();
    assert_eq!(claim.says.name.as_deref(), Some("cp1"));
    assert_eq!(claim.says.address, Some("10.0.2.15/24".parse().unwrap()));
    assert_eq!(claim.says.gateway, None);
    assert!(claim.source.contains(image.path().to_str().unwrap()));
}

#[test]
fn other_spellings_of_the_name_and_a_byte_order_mark_are_fine() {
    let image = fat_with("NODE.TOML", b"\xef\xbb\xbfname = \"cp1\"\n");
    assert_eq!(read(image.path()).unwrap().unwrap().says.name.as_deref(), Some("cp1"));
}

#[test]
fn no_file_is_no_seed() {
    assert_eq!(read(fat_with("readme.txt", b"").path()).unwrap(), None);
}

#[test]
fn a_mistake_is_shown_at_its_place() {
    let image = fat_with("node.toml", b"# mine\nname = \"cp1\"\nadress = \"10.0.2.15/24\"\n");
    let error = read(image.path()).unwrap_err();
    let text = error.to_string().replace(image.path().to_str().unwrap(), "/dev/vda4");
    insta::assert_snapshot!(text, @"node.toml on /dev/vda4, line 3, column 1: unknown field `adress`, expected one of `name`, `address`, `gateway`, `mac`, `pod-cidr`, `provider-id`, `link`, `clock`");
}

#[test]
fn a_folder_that_goes_round_in_a_circle_ends() {
    let image = drives::tests::fat_in_a_circle();
    let error = read(image.path()).unwrap_err();
    let SourceError::Unreadable { source, .. } = &error else { panic!("{error}") };
    assert!(source.to_string().starts_with("more than 1310720 bytes would have to be read"), "{source}");
}

#[test]
fn what_is_no_fat_and_no_text_is_an_error() {
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(1 << 20).unwrap();
    assert!(matches!(read(image.path()), Err(SourceError::Unreadable { .. })));
    let image = fat_with("node.toml", b"\xff\xfe\x00");
    assert!(matches!(read(image.path()), Err(SourceError::Mistake { .. })));
}
