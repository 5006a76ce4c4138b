//! Disk images: where partitions lie in them, and what tests do to them.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bootwright::lab::disk;
use fscommon::StreamSlice;

use crate::Image;

/// Where the partition named `label` lies in a disk image: offset and length, bytes.
///
/// # Panics
/// There is none.
pub fn partition(path: &Path, label: &str) -> (u64, u64) {
    let size = disk::sector_size(path).expect("the image is readable").logical();
    let table = gpt::GptConfig::new().writable(false).logical_block_size(size).open(path);
    let table = table.expect("the image has a partition table");
    let names: Vec<String> = table.partitions().values().map(|partition| partition.name.clone()).collect();
    let partition = table
        .partitions()
        .values()
        .find(|partition| partition.name == label)
        .unwrap_or_else(|| panic!("no partition {label} among {names:?}"));
    let bytes = |sectors: Result<u64, std::io::Error>| sectors.expect("the numbers fit");
    (bytes(partition.bytes_start(size)), bytes(partition.bytes_len(size)))
}

/// A copy of the image to do damage to.
///
/// # Panics
/// The copy fails.
pub fn damaged(image: &Image, folder: &Path, damage: impl FnOnce(&File)) -> PathBuf {
    let copy = folder.join("damaged.raw");
    std::fs::copy(image.path(), &copy).expect("the copy fits on the disk");
    let file = File::options().read(true).write(true).open(&copy).expect("the copy was just made");
    damage(&file);
    copy
}

/// Flips one bit.
///
/// # Panics
/// The file is shorter.
pub fn flip_bit(file: &File, offset: u64) {
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("the offset lies in the file");
    byte[0] ^= 1;
    file.write_all_at(&byte, offset).expect("the file is writable");
}

/// Puts a FAT filesystem with `node.toml` where the seed partition is.
///
/// # Panics
/// The file is not writable.
pub fn write_seed(file: &File, offset: u64, length: u64, text: &str) {
    let open = || {
        let file = file.try_clone().expect("a descriptor is free");
        StreamSlice::new(file, offset, offset + length).expect("the partition lies in the file")
    };
    fatfs::format_volume(open(), fatfs::FormatVolumeOptions::new()).expect("the partition is large enough");
    let filesystem = fatfs::FileSystem::new(open(), fatfs::FsOptions::new()).expect("it was just made");
    let mut seed = filesystem.root_dir().create_file("node.toml").expect("the folder is empty");
    seed.write_all(text.as_bytes()).expect("there is room");
}
