//! The disk: partition table, boot code and partitions, written sparsely to one file.
//!
//! Layout: ESP, root A, verity A, seed, each at a multiple of 1 MiB; types and UUIDs as the UAPI Group's
//! "Discoverable Partitions Specification" says. First boot adds the rest. The partition numbers have no
//! gap, because the crate gpt renumbers them otherwise.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use bootwright_model::layout;
use gpt::disk::LogicalBlockSize;
use thiserror::Error;
use uuid::Uuid;

use super::bios::{self, BiosLoader};
use super::refusal::REFUSAL;
use super::table::{self, TableError};
use crate::files::{self, Draft};
use crate::sources::cache::{free_bytes, is_full};

/// Alignment of partitions, bytes.
pub const ALIGNMENT: u64 = 1 << 20;
/// Unit in which zeros become holes, bytes.
const HOLE: usize = 4096;
/// Attribute "read-only" of the Discoverable Partitions Specification.
const READ_ONLY: u64 = 1 << 60;

/// Logical sector size of the disk that the image is for.
///
/// A partition table counts in sectors and its first header lies in the second, so a disk has to be written for
/// one size. Rejected: two tables in one file, at byte 512 and at byte 4096. Every later change of the table would
/// have to be made in both at once, and FAT32 with sectors of 4096 bytes, which both could read, has 256 MiB at
/// least.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SectorSize {
    /// 512 bytes: what virtual machines, SATA and most NVMe disks show.
    #[default]
    S512,
    /// 4096 bytes: 4Kn disks; no BIOS boots from them.
    S4096,
}

impl SectorSize {
    /// The one of that many bytes, if there is one.
    pub fn of(bytes: u32) -> Option<SectorSize> {
        [SectorSize::S512, SectorSize::S4096].into_iter().find(|size| size.bytes() == u64::from(bytes))
    }

    /// Bytes.
    pub fn bytes(self) -> u64 {
        match self {
            SectorSize::S512 => 512,
            SectorSize::S4096 => 4096,
        }
    }

    /// As the crate gpt has it.
    pub fn logical(self) -> LogicalBlockSize {
        match self {
            SectorSize::S512 => LogicalBlockSize::Lb512,
            SectorSize::S4096 => LogicalBlockSize::Lb4096,
        }
    }
}

/// Why no disk image was written.
#[derive(Debug, Error)]
pub enum DiskError {
    /// A file could not be read or written.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// File.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The filesystem has no room for the image.
    #[error(
        "no space left for {path}: the image has {size} bytes, of which zeros take no room, and {free} are free \
         there; make room there, or choose another folder with -o (an image that was there before is \
         untouched, and takes its room until the new one is whole)"
    )]
    Full {
        /// The image.
        path: PathBuf,
        /// Its logical size, bytes.
        size: u64,
        /// Bytes that the filesystem has for this user without the part that was written.
        free: u64,
    },
    /// The cached file is not what was recorded.
    #[error(
        "{path} has {actual} bytes, {expected} were recorded: delete its folder in the cache and build again"
    )]
    Size {
        /// File.
        path: PathBuf,
        /// Bytes.
        actual: u64,
        /// Bytes.
        expected: u64,
    },
    /// Not 64 hexadecimal digits.
    #[error("`{text}` is not a root hash of 64 hexadecimal digits")]
    RootHash {
        /// Text.
        text: String,
    },
    /// No BIOS reads such a disk.
    #[error("a disk with sectors of 4096 bytes cannot be booted by a BIOS: leave the BIOS loader out")]
    BiosSectors,
    /// The BIOS loader does not fit.
    #[error(transparent)]
    Bios(#[from] bios::BiosError),
    /// The partition table could not be made.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// A file of the OS layer and the bytes it must have.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// Where it lies.
    pub path: &'a Path,
    /// Bytes.
    pub size: u64,
}

/// What goes onto the disk.
#[derive(Debug, Clone, Copy)]
pub struct DiskSpec<'a> {
    /// GUID of the disk; the other GUIDs that no specification decides derive from it.
    pub guid: Uuid,
    /// Sectors of the disk.
    pub sector_size: SectorSize,
    /// The filesystem of the ESP.
    pub esp: &'a [u8],
    /// squashfs.
    pub root: Part<'a>,
    /// Hash tree.
    pub verity: Part<'a>,
    /// 64 hexadecimal digits.
    pub root_hash: &'a str,
    /// The filesystem of the node seed.
    pub seed: &'a [u8],
    /// For disks that a BIOS boots.
    pub bios: Option<&'a BiosLoader>,
}

/// A partition on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedPartition {
    /// From 1.
    pub number: u32,
    /// Name in the table.
    pub label: &'static str,
    /// Type GUID.
    pub type_guid: Uuid,
    /// Partition GUID.
    pub guid: Uuid,
    /// Attribute bits.
    pub attributes: u64,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskSummary {
    /// Logical size of the file, bytes.
    pub size: u64,
    /// Bytes that the file takes up on the build machine's disk.
    pub allocated: u64,
    /// In order.
    pub partitions: Vec<PlacedPartition>,
}

/// Where the partitions will lie, and the size of the disk; nothing is read or written.
pub fn place(spec: &DiskSpec<'_>) -> Result<(Vec<PlacedPartition>, u64), DiskError> {
    let (root_guid, verity_guid) = guids_of_root_hash(spec.root_hash)?;
    let named = |name: &str| Uuid::new_v5(&spec.guid, name.as_bytes());
    // Constants of the model, checked by a test.
    let type_guid = |text: &str| Uuid::parse_str(text).expect("a GUID of the specification");
    let wanted = [
        (layout::ESP_LABEL, layout::TYPE_ESP, named("esp"), 0, spec.esp.len() as u64),
        ("root-a", layout::TYPE_ROOT_X86_64, root_guid, READ_ONLY, spec.root.size),
        ("verity-a", layout::TYPE_ROOT_VERITY_X86_64, verity_guid, READ_ONLY, spec.verity.size),
        (layout::SEED_LABEL, layout::TYPE_LINUX_GENERIC, named("seed"), 0, spec.seed.len() as u64),
    ];
    let mut offset = ALIGNMENT;
    let mut partitions = Vec::new();
    for (number, (label, kind, guid, attributes, size)) in (1..).zip(wanted) {
        let size = size.next_multiple_of(ALIGNMENT);
        partitions.push(PlacedPartition {
            number,
            label,
            type_guid: type_guid(kind),
            guid,
            attributes,
            offset,
            size,
        });
        offset += size;
    }
    // The backup table needs 33 blocks; a whole MiB keeps the file a multiple of what clouds ask for.
    Ok((partitions, offset + ALIGNMENT))
}

/// Root and verity partition GUIDs: the halves of the root hash, in the order of its text.
fn guids_of_root_hash(text: &str) -> Result<(Uuid, Uuid), DiskError> {
    let wrong = || DiskError::RootHash { text: text.to_owned() };
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let half = |digits: &str| Uuid::try_parse(digits).map_err(|_| wrong());
    Ok((half(&text[..32])?, half(&text[32..])?))
}

/// Writes the disk to a temporary file beside `out`, syncs it and renames it.
pub fn assemble(spec: &DiskSpec<'_>, out: &Path) -> Result<DiskSummary, DiskError> {
    let io = |action: &'static str, path: &Path| {
        let path = path.to_owned();
        move |source| DiskError::Io { action, path, source }
    };
    if spec.bios.is_some() && spec.sector_size != SectorSize::S512 {
        return Err(DiskError::BiosSectors);
    }
    if let Some(loader) = spec.bios {
        bios::check_room(&loader.core, ALIGNMENT)?;
    }
    let (partitions, size) = place(spec)?;
    let folder = files::folder_of(out);
    std::fs::create_dir_all(folder).map_err(io("create", folder))?;
    // A CA key may be in the ESP: nobody but the owner reads the image.
    let mut draft = Draft::beside(out, 0o600).map_err(io("write into", folder))?;
    if let Err(error) = fill(draft.file(), spec, &partitions, size, out) {
        if !is_full(&error) {
            return Err(error);
        }
        // What was written gives its room back before it is asked how much there is.
        drop(draft);
        return Err(DiskError::Full { path: out.to_owned(), size, free: free_bytes(folder).unwrap_or(0) });
    }
    let disk = draft.publish(out).map_err(io("finish", out))?;
    let allocated = disk.metadata().map_err(io("look at", out))?.blocks() * 512;
    Ok(DiskSummary { size, allocated, partitions })
}

/// Writes everything, and waits until the disk has it.
fn fill(
    disk: &mut File,
    spec: &DiskSpec<'_>,
    partitions: &[PlacedPartition],
    size: u64,
    out: &Path,
) -> Result<(), DiskError> {
    let io = |action| move |source| DiskError::Io { action, path: out.to_owned(), source };
    disk.set_len(size).map_err(io("grow"))?;
    let boot_code = match (spec.bios, spec.sector_size) {
        (Some(loader), _) => Some(&loader.boot_code),
        (None, SectorSize::S4096) => Some(&REFUSAL),
        (None, SectorSize::S512) => None,
    };
    table::write(disk, spec.guid, spec.sector_size, boot_code, partitions)?;
    if let Some(loader) = spec.bios {
        disk.write_all_at(&loader.core, bios::CORE_LBA * 512).map_err(io("write"))?;
    }
    let [esp, root, verity, seed] = partitions else { unreachable!("`place` returns four partitions") };
    write_sparse(disk, spec.esp, esp.offset).map_err(io("write"))?;
    write_sparse(disk, spec.seed, seed.offset).map_err(io("write"))?;
    copy(spec.root, disk, root.offset)?;
    copy(spec.verity, disk, verity.offset)?;
    disk.sync_all().map_err(io("sync"))
}

/// Writes what is not zero.
fn write_sparse(disk: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let is_zero = |block: &[u8]| *block == [0; HOLE][..block.len()];
    let mut at = 0;
    while at < bytes.len() {
        let end = (at + HOLE).min(bytes.len());
        if is_zero(&bytes[at..end]) {
            at = end;
            continue;
        }
        let start = at;
        while at < bytes.len() && !is_zero(&bytes[at..(at + HOLE).min(bytes.len())]) {
            at = (at + HOLE).min(bytes.len());
        }
        disk.write_all_at(&bytes[start..at], offset + start as u64)?;
    }
    Ok(())
}

/// Copies a file of the OS layer into the disk: shared blocks where the filesystem can (`FICLONERANGE` by way of
/// `copy_file_range`), a copy within the kernel otherwise.
fn copy(part: Part<'_>, disk: &mut File, offset: u64) -> Result<(), DiskError> {
    let io = |action| move |source| DiskError::Io { action, path: part.path.to_owned(), source };
    let mut input = File::open(part.path).map_err(io("open"))?;
    let actual = input.metadata().map_err(io("look at"))?.len();
    if actual != part.size {
        return Err(DiskError::Size { path: part.path.to_owned(), actual, expected: part.size });
    }
    let (mut from, mut to) = (0_u64, offset);
    while from < part.size {
        let length = (part.size - from).min(1 << 30) as usize;
        match rustix::fs::copy_file_range(&input, Some(&mut from), &*disk, Some(&mut to), length) {
            Ok(0) => break,
            Ok(_) => {}
            // Between filesystems, or one that cannot: the ordinary way.
            Err(
                rustix::io::Errno::XDEV
                | rustix::io::Errno::OPNOTSUPP
                | rustix::io::Errno::NOSYS
                | rustix::io::Errno::INVAL,
            ) => break,
            Err(error) => return Err(io("copy")(error.into())),
        }
    }
    if from < part.size {
        input.seek(SeekFrom::Start(from)).map_err(io("read"))?;
        disk.seek(SeekFrom::Start(to)).map_err(io("copy"))?;
        let rest = part.size - from;
        let copied = io::copy(&mut input.take(rest), disk).map_err(io("copy"))?;
        if copied != rest {
            return Err(DiskError::Size {
                path: part.path.to_owned(),
                actual: from + copied,
                expected: part.size,
            });
        }
    }
    disk.flush().map_err(io("copy"))
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
