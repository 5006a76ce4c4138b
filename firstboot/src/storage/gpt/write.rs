//! Writes a table in steps, each of which is on the disk before the next begins.
//!
//! The backup goes first: until the primary header is written, either the old primary table is valid
//! or the new backup is. The protective MBR comes last; its boot code is never touched.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::read::{HEADER_BYTES, NAME, REVISION, SIGNATURE};
use super::{GptError, Partition, Table};

/// One write, flushed before the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Byte on the disk.
    pub offset: u64,
    /// What is written there.
    pub bytes: Vec<u8>,
    /// For error messages.
    pub what: &'static str,
}

/// What has to be written for `table` on a disk whose first block is `mbr`.
pub fn steps(table: &Table, mbr: &[u8]) -> Vec<Step> {
    let array = entry_array(table);
    let backup_entries = table.backup - table.entry_blocks();
    let at = |lba: u64| lba * table.sector;
    let mut steps = vec![
        Step { offset: at(backup_entries), bytes: array.clone(), what: "backup partition entries" },
        Step {
            offset: at(table.backup),
            bytes: header(table, &array, table.backup, 1, backup_entries),
            what: "backup partition table header",
        },
        Step { offset: at(table.entries_lba), bytes: array.clone(), what: "partition entries" },
        Step {
            offset: at(1),
            bytes: header(table, &array, 1, table.backup, table.entries_lba),
            what: "partition table header",
        },
    ];
    if let Some(bytes) = protective_mbr(mbr, table.backup) {
        steps.push(Step { offset: 0, bytes, what: "protective MBR" });
    }
    steps
}

/// Writes the steps, each flushed to the disk before the next.
pub fn apply(disk: &File, steps: &[Step]) -> Result<(), (Step, GptError)> {
    for step in steps {
        let written = disk.write_all_at(&step.bytes, step.offset).and_then(|()| disk.sync_data());
        written.map_err(|source: io::Error| (step.clone(), GptError::Io { offset: step.offset, source }))?;
    }
    Ok(())
}

fn header(table: &Table, array: &[u8], mine: u64, other: u64, entries: u64) -> Vec<u8> {
    let mut bytes = vec![0; table.sector as usize];
    bytes[..8].copy_from_slice(SIGNATURE);
    bytes[8..12].copy_from_slice(&REVISION.to_le_bytes());
    bytes[12..16].copy_from_slice(&(HEADER_BYTES as u32).to_le_bytes());
    bytes[24..32].copy_from_slice(&mine.to_le_bytes());
    bytes[32..40].copy_from_slice(&other.to_le_bytes());
    bytes[40..48].copy_from_slice(&table.first_usable.to_le_bytes());
    bytes[48..56].copy_from_slice(&table.last_usable.to_le_bytes());
    bytes[56..72].copy_from_slice(&table.disk.to_disk());
    bytes[72..80].copy_from_slice(&entries.to_le_bytes());
    bytes[80..84].copy_from_slice(&(table.entries.len() as u32).to_le_bytes());
    bytes[84..88].copy_from_slice(&table.entry_size.to_le_bytes());
    bytes[88..92].copy_from_slice(&crc32fast::hash(array).to_le_bytes());
    let checksum = crc32fast::hash(&bytes[..HEADER_BYTES]);
    bytes[16..20].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn entry_array(table: &Table) -> Vec<u8> {
    let size = table.entry_size as usize;
    let mut array = vec![0; size * table.entries.len()];
    for (bytes, entry) in array.chunks_exact_mut(size).zip(&table.entries) {
        if let Some(partition) = entry {
            fill_entry(bytes, partition);
        }
    }
    array
}

fn fill_entry(bytes: &mut [u8], partition: &Partition) {
    bytes[..16].copy_from_slice(&partition.kind.to_disk());
    bytes[16..32].copy_from_slice(&partition.guid.to_disk());
    bytes[32..40].copy_from_slice(&partition.first.to_le_bytes());
    bytes[40..48].copy_from_slice(&partition.last.to_le_bytes());
    bytes[48..56].copy_from_slice(&partition.attributes.to_le_bytes());
    for (field, unit) in bytes[NAME].chunks_exact_mut(2).zip(partition.name.encode_utf16()) {
        field.copy_from_slice(&unit.to_le_bytes());
    }
}

/// The first block with its protective record grown to the whole disk (UEFI 2.10, section 5.2.3), or
/// `None` if it says so already or has no such record.
fn protective_mbr(mbr: &[u8], last_block: u64) -> Option<Vec<u8>> {
    const RECORDS: usize = 446;
    const PROTECTIVE: u8 = 0xee;
    let record = (0..4).map(|n| RECORDS + 16 * n).find(|&at| mbr.get(at + 4) == Some(&PROTECTIVE))?;
    let size = u32::try_from(last_block).unwrap_or(u32::MAX).to_le_bytes();
    let mut bytes = mbr.to_vec();
    bytes[record + 12..record + 16].copy_from_slice(&size);
    (bytes != mbr).then_some(bytes)
}
