//! FAT filesystems in memory: the ESP and the node seed.
//!
//! The crate fatfs writes them; two things that it does are put right afterwards, because fsck.vfat and
//! firmware object: `.` and `..` carry long names, and `..` of a first-level folder points to the root's
//! cluster instead of 0. Sources: Microsoft's "FAT: General Overview of On-Disk Format" (fatgen103).
//!
//! Every time is 1980-01-01, the first that FAT can hold: nothing reads them, and so a file depends on its
//! contents alone.

use std::collections::BTreeSet;
use std::io::{self, Cursor, Write as _};

use fatfs::{Date, DateTime, FatType, FileSystem, FormatVolumeOptions, FsOptions, Time, TimeProvider};
use thiserror::Error;

use super::disk::SectorSize;

/// Bytes of a directory entry.
const ENTRY: usize = 32;
const ATTRIBUTE_FOLDER: u8 = 0x10;
const ATTRIBUTE_LONG_NAME: u8 = 0x0f;
const DELETED: u8 = 0xe5;

/// The first day that FAT can hold. (Without a provider, fatfs writes month 0 and day 0.)
#[derive(Debug)]
struct FirstDay;

impl TimeProvider for FirstDay {
    fn get_current_date(&self) -> Date {
        Date { year: 1980, month: 1, day: 1 }
    }

    fn get_current_date_time(&self) -> DateTime {
        DateTime { date: self.get_current_date(), time: Time { hour: 0, min: 0, sec: 0, millis: 0 } }
    }
}

/// Why no filesystem was made.
#[derive(Debug, Error)]
pub enum FatError {
    /// A label that FAT cannot hold.
    #[error(
        "`{label}` cannot be the label of a FAT filesystem: use up to 11 capital letters, digits, `-` or `_`"
    )]
    Label {
        /// Label.
        label: String,
    },
    /// A name that FAT cannot hold.
    #[error("`{path}` cannot be a path on a FAT filesystem: use letters, digits, `.`, `-`, `_` and `+`")]
    Path {
        /// Path.
        path: String,
    },
    /// The filesystem could not be made.
    #[error("cannot make the FAT filesystem {label} of {size} bytes: {source}")]
    Format {
        /// Label.
        label: String,
        /// Bytes.
        size: u64,
        /// Why.
        source: io::Error,
    },
    /// Wrong type for the size.
    #[error("a FAT filesystem of {size} bytes is {actual:?}, {wanted:?} was asked for: change its size")]
    Type {
        /// Bytes.
        size: u64,
        /// What came out.
        actual: FatType,
        /// What was asked for.
        wanted: FatType,
    },
    /// A file could not be written.
    #[error("cannot write {path} ({length} bytes) to the FAT filesystem {label} of {size} bytes: {source}")]
    Write {
        /// File or folder.
        path: String,
        /// Bytes of the file.
        length: usize,
        /// Label.
        label: String,
        /// Bytes of the filesystem.
        size: u64,
        /// Why.
        source: io::Error,
    },
}

/// A filesystem to make.
#[derive(Debug, Clone)]
pub struct FatSpec<'a> {
    /// Up to 11 capital letters, digits, `-` or `_`.
    pub label: &'a str,
    /// Volume serial number.
    pub volume_id: u32,
    /// Bytes, a multiple of the sector size.
    pub size: u64,
    /// Sectors of the disk it will lie on.
    pub sector_size: SectorSize,
    /// Bytes per cluster; chosen by size if absent.
    pub cluster: Option<u32>,
    /// The type it must come out as; any if absent.
    pub fat_type: Option<FatType>,
    /// Files as paths without a leading slash and contents, written in this order, each contiguous.
    pub files: &'a [(&'a str, &'a [u8])],
}

/// Makes the filesystem.
pub fn image(spec: &FatSpec<'_>) -> Result<Vec<u8>, FatError> {
    check_names(spec)?;
    let mut bytes = vec![0; spec.size as usize];
    let format = |source| FatError::Format { label: spec.label.to_owned(), size: spec.size, source };
    fatfs::format_volume(Cursor::new(&mut bytes[..]), options(spec)).map_err(format)?;
    {
        let options = FsOptions::new().time_provider(&FirstDay);
        let filesystem = FileSystem::new(Cursor::new(&mut bytes[..]), options).map_err(format)?;
        let actual = filesystem.fat_type();
        if let Some(wanted) = spec.fat_type.filter(|wanted| *wanted != actual) {
            return Err(FatError::Type { size: spec.size, actual, wanted });
        }
        write_files(&filesystem, spec)?;
        // Counting the free clusters before closing is what makes fatfs write the count down.
        filesystem.stats().map_err(format)?;
        filesystem.unmount().map_err(format)?;
    }
    mend_dot_entries(&mut bytes)
        .ok_or_else(|| format(io::Error::other("its folders cannot be read back")))?;
    Ok(bytes)
}

fn options(spec: &FatSpec<'_>) -> FormatVolumeOptions {
    let mut label = [b' '; 11];
    label[..spec.label.len()].copy_from_slice(spec.label.as_bytes());
    let mut options = FormatVolumeOptions::new()
        .volume_id(spec.volume_id)
        .volume_label(label)
        .bytes_per_sector(spec.sector_size.bytes() as u16)
        .drive_num(0x80);
    if let Some(cluster) = spec.cluster {
        options = options.bytes_per_cluster(cluster);
    }
    if let Some(fat_type) = spec.fat_type {
        options = options.fat_type(fat_type);
    }
    options
}

fn check_names(spec: &FatSpec<'_>) -> Result<(), FatError> {
    let label = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    if spec.label.is_empty() || spec.label.len() > 11 || !spec.label.chars().all(label) {
        return Err(FatError::Label { label: spec.label.to_owned() });
    }
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+' | '~');
    for (path, _) in spec.files {
        let sound = |part: &str| {
            !part.is_empty()
                && part.len() <= 255
                && !part.starts_with('.')
                && !part.ends_with('.')
                && part.chars().all(name)
        };
        if !path.split('/').all(sound) {
            return Err(FatError::Path { path: (*path).to_owned() });
        }
    }
    Ok(())
}

fn write_files(filesystem: &FileSystem<Cursor<&mut [u8]>>, spec: &FatSpec<'_>) -> Result<(), FatError> {
    let root = filesystem.root_dir();
    let mut folders = BTreeSet::new();
    for (path, contents) in spec.files {
        let failed = |source| FatError::Write {
            path: (*path).to_owned(),
            length: contents.len(),
            label: spec.label.to_owned(),
            size: spec.size,
            source,
        };
        for (slash, _) in path.match_indices('/') {
            if folders.insert(&path[..slash]) {
                root.create_dir(&path[..slash]).map_err(failed)?;
            }
        }
        let mut file = root.create_file(path).map_err(failed)?;
        file.write_all(contents).map_err(failed)?;
        file.flush().map_err(failed)?;
    }
    Ok(())
}

/// Where things lie in a FAT filesystem.
struct Geometry {
    fat_type: FatType,
    cluster_size: usize,
    fat: usize,
    data: usize,
    /// Of the root folder in FAT12 and FAT16; FAT32 has a cluster chain instead.
    fixed_root: std::ops::Range<usize>,
    root_cluster: u32,
}

impl Geometry {
    fn read(bytes: &[u8]) -> Option<Geometry> {
        let u16_at =
            |at: usize| Some(usize::from(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?)));
        let u32_at = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize);
        let sector = u16_at(11)?;
        let cluster_size = sector * usize::from(*bytes.get(13)?);
        let fat = u16_at(14)? * sector;
        let fats = usize::from(*bytes.get(16)?);
        let root_size = u16_at(17)? * ENTRY;
        let sectors = if u16_at(19)? != 0 { u16_at(19)? } else { u32_at(32)? };
        let sectors_per_fat = if u16_at(22)? != 0 { u16_at(22)? } else { u32_at(36)? };
        let root = fat + fats * sectors_per_fat * sector;
        let data = root + root_size;
        let clusters = (sectors * sector).checked_sub(data)?.checked_div(cluster_size)?;
        // The limits of fatgen103, which readers go by.
        let fat_type = match clusters {
            0..=4084 => FatType::Fat12,
            4085..=65524 => FatType::Fat16,
            _ => FatType::Fat32,
        };
        let root_cluster = if fat_type == FatType::Fat32 { u32_at(44)? as u32 } else { 0 };
        Some(Geometry { fat_type, cluster_size, fat, data, fixed_root: root..data, root_cluster })
    }

    /// Byte offsets of the entries of the folder that starts at `cluster`.
    fn entries(&self, bytes: &[u8], cluster: u32) -> Option<Vec<usize>> {
        if cluster == 0 {
            return Some(self.fixed_root.clone().step_by(ENTRY).collect());
        }
        let mut offsets = Vec::new();
        let mut next = cluster;
        while (2..self.end_mark()).contains(&next) {
            let start = self.data + (next as usize - 2) * self.cluster_size;
            if start + self.cluster_size > bytes.len() || offsets.len() > 1 << 16 {
                return None;
            }
            offsets.extend((start..start + self.cluster_size).step_by(ENTRY));
            next = self.next_cluster(bytes, next)?;
        }
        Some(offsets)
    }

    /// Values from here on end a chain or mark a bad cluster.
    fn end_mark(&self) -> u32 {
        match self.fat_type {
            FatType::Fat12 => 0xff0,
            FatType::Fat16 => 0xfff0,
            FatType::Fat32 => 0x0fff_fff0,
        }
    }

    fn next_cluster(&self, bytes: &[u8], cluster: u32) -> Option<u32> {
        let index = cluster as usize;
        let word = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        Some(match self.fat_type {
            FatType::Fat12 => {
                let pair = u32::from(word(self.fat + index * 3 / 2)?);
                if index.is_multiple_of(2) { pair & 0xfff } else { pair >> 4 }
            }
            FatType::Fat16 => u32::from(word(self.fat + index * 2)?),
            FatType::Fat32 => {
                let at = self.fat + index * 4;
                u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?) & 0x0fff_ffff
            }
        })
    }
}

/// Gives every folder plain `.` and `..` entries as its first two.
fn mend_dot_entries(bytes: &mut [u8]) -> Option<()> {
    let geometry = Geometry::read(bytes)?;
    let mut waiting = vec![(geometry.root_cluster, None)];
    while let Some((cluster, parent)) = waiting.pop() {
        let entries = geometry.entries(bytes, cluster)?;
        if let Some(parent) = parent {
            mend_folder(bytes, &entries, parent)?;
        }
        // What a subfolder's `..` has to say: 0 stands for the root, whatever cluster that has.
        let as_parent = if cluster == geometry.root_cluster { 0 } else { cluster };
        for &at in &entries {
            let attributes = bytes[at + 11];
            let is_folder = attributes & ATTRIBUTE_FOLDER != 0 && attributes != ATTRIBUTE_LONG_NAME;
            if is_folder && !matches!(bytes[at], 0 | DELETED | b'.') {
                let high = u16::from_le_bytes([bytes[at + 20], bytes[at + 21]]);
                let low = u16::from_le_bytes([bytes[at + 26], bytes[at + 27]]);
                waiting.push((u32::from(high) << 16 | u32::from(low), Some(as_parent)));
            }
        }
    }
    Some(())
}

/// fatfs wrote: long name, `.`, long name, `..`. Afterwards: `.`, `..`, free, free.
fn mend_folder(bytes: &mut [u8], entries: &[usize], parent: u32) -> Option<()> {
    let short = |bytes: &[u8], at: usize, name: &[u8; 11]| {
        bytes[at..at + 11] == name[..] && bytes[at + 11] != ATTRIBUTE_LONG_NAME
    };
    let [first, second, third, fourth] = *entries.first_chunk::<4>()?;
    if !short(bytes, second, b".          ") || !short(bytes, fourth, b"..         ") {
        // Another version of fatfs may have learnt it; then only the parent is left to do.
        if !short(bytes, first, b".          ") || !short(bytes, second, b"..         ") {
            return None;
        }
    } else {
        bytes.copy_within(second..second + ENTRY, first);
        bytes.copy_within(fourth..fourth + ENTRY, second);
        for free in [third, fourth] {
            bytes[free..free + ENTRY].fill(0);
            bytes[free] = DELETED;
        }
    }
    bytes[second + 20..second + 22].copy_from_slice(&((parent >> 16) as u16).to_le_bytes());
    bytes[second + 26..second + 28].copy_from_slice(&(parent as u16).to_le_bytes());
    Some(())
}

#[cfg(test)]
#[path = "fat_tests.rs"]
mod tests;
