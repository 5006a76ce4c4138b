//! Filesystems on drives, read through a file as from a device.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use firstboot::identity::drives::volume::Volume;

use crate::ITERATIONS;
use crate::corpus::Corpus;

/// Bytes that a file of a drive may have.
const MOST: u64 = 4096;

#[test]
fn iso9660() {
    let folder = tempfile::tempdir().unwrap();
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/seeds/nocloud");
    let image = folder.path().join("seed.iso");
    let corpus = [&["-J"][..], &["-r"]].map(|names| {
        let mut command = Command::new("genisoimage");
        command.args(["-quiet", "-V", "cidata"]).args(names).arg("-o").args([&image, &files]);
        let done = command.output().expect("setup/packages has genisoimage");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        (image.clone(), std::fs::read(&image).unwrap())
    });
    try_all(&Corpus::made(corpus.into()));
}

#[test]
fn fat() {
    let corpus = [fatfs::FatType::Fat12, fatfs::FatType::Fat16].map(|kind| {
        let mut bytes = std::io::Cursor::new(vec![0; 8 << 20]);
        let options = fatfs::FormatVolumeOptions::new().fat_type(kind).volume_label(*b"CIDATA     ");
        fatfs::format_volume(&mut bytes, options).unwrap();
        {
            let volume = fatfs::FileSystem::new(&mut bytes, fatfs::FsOptions::new()).unwrap();
            volume.root_dir().create_file("user-data").unwrap().write_all(b"name = \"cp1\"\n").unwrap();
        }
        (kind_name(kind).into(), bytes.into_inner())
    });
    try_all(&Corpus::made(corpus.into()));
}

fn kind_name(kind: fatfs::FatType) -> &'static str {
    match kind {
        fatfs::FatType::Fat12 => "FAT12",
        fatfs::FatType::Fat16 => "FAT16",
        fatfs::FatType::Fat32 => "FAT32",
    }
}

fn try_all(corpus: &Corpus) {
    let folder = tempfile::tempdir().unwrap();
    let device = folder.path().join("device");
    let read = |bytes: &[u8]| {
        std::fs::write(&device, bytes).unwrap();
        let Some(volume) = Volume::open(File::open(&device).unwrap()) else { return false };
        volume.label().eq_ignore_ascii_case("cidata") && matches!(volume.read("user-data", MOST), Ok(Some(_)))
    };
    try_changes!(corpus, read, ITERATIONS / 10);
}
