//! GUID partition tables (UEFI specification 2.10, chapter 5) as values: read, edited in memory, and
//! written in an order that a power cut at any moment leaves readable.
//!
//! Not the `gpt` crate that the builder uses: it writes the primary table first and never flushes in
//! between, renumbers entries, recomputes the first usable block (the gap before it holds the BIOS
//! loader), and draws random GUIDs.

mod guid;
mod read;
mod write;

use std::io;

pub use guid::Guid;
pub use read::read;
pub use write::{Step, apply, steps};

/// Smallest and usual size of the whole entry array (UEFI 2.10, section 5.3.1).
const MINIMUM_ENTRY_ARRAY_BYTES: u64 = 16 * 1024;

/// A disk's partition table as it was read, and as edited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Bytes per logical block, 512 or 4096.
    pub sector: u64,
    /// GUID of the disk.
    pub disk: Guid,
    /// First block that partitions may use.
    pub first_usable: u64,
    /// Last block that partitions may use.
    pub last_usable: u64,
    /// Block of the backup header.
    pub backup: u64,
    /// Block of the primary entry array.
    pub entries_lba: u64,
    /// Bytes per entry.
    pub entry_size: u32,
    /// All entries, used or not; partition `n` is `entries[n - 1]`.
    pub entries: Vec<Option<Partition>>,
    /// Which of the two copies this was read from.
    pub copy: Copy,
}

/// The two copies of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copy {
    /// In the second block.
    Primary,
    /// In the last block; the primary one is damaged.
    Backup,
}

/// One used entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Partition type.
    pub kind: Guid,
    /// The partition's own GUID, `PARTUUID`.
    pub guid: Guid,
    /// First block.
    pub first: u64,
    /// Last block, inclusive.
    pub last: u64,
    /// Attribute bits.
    pub attributes: u64,
    /// Name, at most 36 UTF-16 units.
    pub name: String,
}

impl Partition {
    /// Length in blocks.
    pub fn blocks(&self) -> u64 {
        self.last - self.first + 1
    }
}

impl Table {
    /// Used entries with their numbers, from 1.
    pub fn partitions(&self) -> impl Iterator<Item = (u32, &Partition)> {
        (1..).zip(&self.entries).filter_map(|(number, entry)| Some((number, entry.as_ref()?)))
    }

    /// The partition with this GUID.
    pub fn by_guid(&self, guid: Guid) -> Option<(u32, &Partition)> {
        self.partitions().find(|(_, partition)| partition.guid == guid)
    }

    /// The partition with this name.
    pub fn by_name(&self, name: &str) -> Option<(u32, &Partition)> {
        self.partitions().find(|(_, partition)| partition.name == name)
    }

    /// Blocks of the entry array.
    pub fn entry_blocks(&self) -> u64 {
        let bytes = u64::from(self.entry_size) * self.entries.len() as u64;
        bytes.max(MINIMUM_ENTRY_ARRAY_BYTES).div_ceil(self.sector)
    }

    /// Moves the backup table to the end of a disk of `blocks` blocks. False if it lies there already.
    pub fn fit(&mut self, blocks: u64) -> bool {
        let (backup, last_usable) = (blocks - 1, blocks - 2 - self.entry_blocks());
        let changed = (self.backup, self.last_usable) != (backup, last_usable);
        (self.backup, self.last_usable) = (backup, last_usable);
        changed
    }
}

/// Why a disk has no readable table.
#[derive(Debug, thiserror::Error)]
pub enum GptError {
    /// The disk cannot be read or written.
    #[error("input/output error at byte {offset}")]
    Io {
        /// Byte on the disk.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// No signature: another kind of table or none.
    #[error("no GPT")]
    None,
    /// A field that does not fit.
    #[error("the GPT header at byte {offset} is damaged: {what}")]
    Header {
        /// Byte on the disk.
        offset: u64,
        /// Which field, and its value.
        what: String,
    },
    /// An entry that does not fit.
    #[error("partition {number} of the GPT is damaged: {what}")]
    Entry {
        /// From 1.
        number: usize,
        /// Which field, and its value.
        what: String,
    },
}

#[cfg(test)]
mod tests;
