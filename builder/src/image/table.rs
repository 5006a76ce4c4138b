//! GUID partition table and protective master boot record (UEFI specification, chapter 5).
//!
//! The crate gpt writes headers and entries. The master boot record is ours: the crate's would clear the
//! boot code and the disk would not boot under a BIOS.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;

use gpt::GptConfig;
use gpt::header::HeaderBuilder;
use gpt::partition::Partition;
use gpt::partition_types::{OperatingSystem, Type};
use thiserror::Error;
use uuid::Uuid;

use super::bios::BOOT_CODE;
use super::disk::{ALIGNMENT, PlacedPartition, SectorSize};

/// Why no partition table was written.
#[derive(Debug, Error)]
pub enum TableError {
    /// The crate gpt refused.
    #[error("cannot write the partition table: {source}")]
    Gpt {
        /// Why.
        source: gpt::GptError,
    },
    /// The first block could not be written.
    #[error("cannot write the master boot record: {source}")]
    Mbr {
        /// Why.
        source: io::Error,
    },
}

/// Writes both tables and the master boot record to a file that has its final length.
///
/// The first usable block is at [`ALIGNMENT`]: what lies before belongs to the boot loader.
pub fn write(
    disk: &mut File,
    guid: Uuid,
    sector_size: SectorSize,
    boot_code: Option<&[u8; BOOT_CODE]>,
    partitions: &[PlacedPartition],
) -> Result<(), TableError> {
    let mbr = |source| TableError::Mbr { source };
    let gpt = |source| TableError::Gpt { source };
    let size = disk.seek(SeekFrom::End(0)).map_err(mbr)?;
    let blocks = size / sector_size.bytes();

    disk.write_all_at(&protective_mbr(boot_code, blocks), 0).map_err(mbr)?;
    // The crate takes the first usable block over from a header that is there, and has no other way to set it.
    HeaderBuilder::new()
        .disk_guid(guid)
        .backup_lba(blocks - 1)
        .first_usable(ALIGNMENT / sector_size.bytes())
        .build(sector_size.logical())
        .and_then(|mut header| header.write_primary(disk, sector_size.logical()))
        .map_err(|source| gpt(source.into()))?;
    let mut table = GptConfig::new()
        .writable(true)
        .logical_block_size(sector_size.logical())
        .open_from_device(disk)
        .map_err(gpt)?;
    table.update_partitions(entries(partitions, sector_size)).map_err(gpt)?;
    table.write().map_err(gpt)?;
    Ok(())
}

fn entries(partitions: &[PlacedPartition], sector_size: SectorSize) -> BTreeMap<u32, Partition> {
    partitions
        .iter()
        .map(|partition| {
            let entry = Partition {
                part_type_guid: Type { guid: partition.type_guid, os: OperatingSystem::None },
                part_guid: partition.guid,
                first_lba: partition.offset / sector_size.bytes(),
                last_lba: (partition.offset + partition.size) / sector_size.bytes() - 1,
                flags: partition.attributes,
                name: partition.label.to_owned(),
            };
            (partition.number, entry)
        })
        .collect()
}

/// One partition of type 0xEE over everything behind the first block (UEFI specification, table 5-4).
fn protective_mbr(boot_code: Option<&[u8; BOOT_CODE]>, blocks: u64) -> [u8; 512] {
    let mut record = [0; 512];
    if let Some(code) = boot_code {
        record[..BOOT_CODE].copy_from_slice(code);
    }
    let entry = &mut record[446..462];
    entry[1..4].copy_from_slice(&[0x00, 0x02, 0x00]); // first block as cylinder, head, sector
    entry[4] = 0xee;
    entry[5..8].copy_from_slice(&[0xff, 0xff, 0xff]);
    entry[8..12].copy_from_slice(&1_u32.to_le_bytes());
    let length = u32::try_from(blocks - 1).unwrap_or(u32::MAX);
    entry[12..16].copy_from_slice(&length.to_le_bytes());
    record[510..].copy_from_slice(&[0x55, 0xaa]);
    record
}
