//! Reads a table: the primary copy, or the backup if the primary is damaged.

use std::io::{Read, Seek, SeekFrom};

use super::{Copy, GptError, Guid, Partition, Table};

pub(super) const SIGNATURE: &[u8; 8] = b"EFI PART";
pub(super) const REVISION: u32 = 0x0001_0000;
pub(super) const HEADER_BYTES: usize = 92;
/// Name field: 36 UTF-16 units from byte 56 on.
pub(super) const NAME: std::ops::Range<usize> = 56..128;
/// More entries than Linux numbers on any disk; a larger count is damage, not intent.
const MOST_ENTRIES: u32 = 1024;
const MOST_ENTRY_BYTES: u32 = 4096;

/// Reads the table of a disk of `blocks` blocks of `sector` bytes.
pub fn read<D: Read + Seek>(disk: &mut D, sector: u64, blocks: u64) -> Result<Table, GptError> {
    if blocks < 8 {
        return Err(GptError::None);
    }
    match read_copy(disk, sector, blocks, 1) {
        Ok(table) => Ok(Table { copy: Copy::Primary, ..table }),
        // Only the disk's last block is tried: where a damaged header says the backup is, is not to
        // be believed. The error of the primary copy is the one to tell.
        Err(primary) => match read_copy(disk, sector, blocks, blocks - 1) {
            Ok(table) => Ok(Table { copy: Copy::Backup, ..table }),
            Err(_) => Err(primary),
        },
    }
}

fn read_copy<D: Read + Seek>(disk: &mut D, sector: u64, blocks: u64, lba: u64) -> Result<Table, GptError> {
    let header = read_at(disk, lba * sector, sector as usize)?;
    if &header[..8] != SIGNATURE {
        return Err(GptError::None);
    }
    let damaged = |what: String| GptError::Header { offset: lba * sector, what };
    check_header(&header, lba).map_err(damaged)?;
    let (mine, other) = (word64(&header, 24), word64(&header, 32));
    let (first_usable, last_usable) = (word64(&header, 40), word64(&header, 48));
    let (entries_lba, count, entry_size) = (word64(&header, 72), word32(&header, 80), word32(&header, 84));
    check_geometry(blocks, first_usable, last_usable).map_err(damaged)?;
    check_entry_array(blocks, entries_lba, count, entry_size).map_err(damaged)?;

    let array = read_at(disk, entries_lba * sector, count as usize * entry_size as usize)?;
    if crc32fast::hash(&array) != word32(&header, 88) {
        return Err(damaged("the checksum of the partition entries does not match".to_owned()));
    }
    let usable = first_usable..=last_usable;
    let entries = array.chunks_exact(entry_size as usize).enumerate();
    let entries =
        entries.map(|(place, bytes)| entry(bytes, place + 1, &usable)).collect::<Result<Vec<_>, _>>()?;
    check_overlap(&entries)?;
    Ok(Table {
        sector,
        disk: Guid::from_disk(bytes16(&header, 56)),
        first_usable,
        last_usable,
        backup: mine.max(other),
        // The backup's header points at the backup's array; the primary's is where it always is.
        entries_lba: if lba == 1 { entries_lba } else { 2 },
        entry_size,
        entries,
        copy: Copy::Primary,
    })
}

fn check_header(header: &[u8], lba: u64) -> Result<(), String> {
    let size = word32(header, 12) as usize;
    if !(HEADER_BYTES..=header.len()).contains(&size) {
        return Err(format!("its size is {size} bytes"));
    }
    let mut summed = header[..size].to_vec();
    summed[16..20].fill(0);
    if crc32fast::hash(&summed) != word32(header, 16) {
        return Err("its checksum does not match".to_owned());
    }
    if word64(header, 24) != lba {
        return Err(format!("it says that it lies in block {}", word64(header, 24)));
    }
    Ok(())
}

fn check_geometry(blocks: u64, first_usable: u64, last_usable: u64) -> Result<(), String> {
    if first_usable < 3 || last_usable < first_usable || last_usable >= blocks {
        return Err(format!("usable blocks {first_usable} to {last_usable} on a disk of {blocks}"));
    }
    Ok(())
}

fn check_entry_array(blocks: u64, lba: u64, count: u32, size: u32) -> Result<(), String> {
    if count == 0 || count > MOST_ENTRIES {
        return Err(format!("{count} partition entries"));
    }
    if !(128..=MOST_ENTRY_BYTES).contains(&size) || !size.is_power_of_two() {
        return Err(format!("entries of {size} bytes"));
    }
    if lba < 2 || lba >= blocks {
        return Err(format!("its entries begin in block {lba}"));
    }
    Ok(())
}

fn entry(
    bytes: &[u8],
    number: usize,
    usable: &std::ops::RangeInclusive<u64>,
) -> Result<Option<Partition>, GptError> {
    let kind = Guid::from_disk(bytes16(bytes, 0));
    if kind == Guid::NONE {
        return Ok(None);
    }
    let (first, last) = (word64(bytes, 32), word64(bytes, 40));
    if first > last || !usable.contains(&first) || !usable.contains(&last) {
        return Err(GptError::Entry { number, what: format!("blocks {first} to {last}") });
    }
    let units: Vec<u16> =
        bytes[NAME].chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    let end = units.iter().position(|&unit| unit == 0).unwrap_or(units.len());
    Ok(Some(Partition {
        kind,
        guid: Guid::from_disk(bytes16(bytes, 16)),
        first,
        last,
        attributes: word64(bytes, 48),
        name: String::from_utf16_lossy(&units[..end]),
    }))
}

fn check_overlap(entries: &[Option<Partition>]) -> Result<(), GptError> {
    let mut used: Vec<(u64, u64, usize)> =
        (1..).zip(entries).filter_map(|(n, entry)| entry.as_ref().map(|e| (e.first, e.last, n))).collect();
    used.sort_unstable();
    match used.windows(2).find(|pair| pair[0].1 >= pair[1].0) {
        Some(pair) => {
            Err(GptError::Entry { number: pair[1].2, what: format!("it overlaps partition {}", pair[0].2) })
        }
        None => Ok(()),
    }
}

pub(super) fn read_at<D: Read + Seek>(disk: &mut D, offset: u64, length: usize) -> Result<Vec<u8>, GptError> {
    let mut bytes = vec![0; length];
    let result = disk.seek(SeekFrom::Start(offset)).and_then(|_| disk.read_exact(&mut bytes));
    result.map_err(|source| GptError::Io { offset, source })?;
    Ok(bytes)
}

fn bytes16(bytes: &[u8], at: usize) -> [u8; 16] {
    let mut field = [0; 16];
    field.copy_from_slice(&bytes[at..at + 16]);
    field
}

fn word32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn word64(bytes: &[u8], at: usize) -> u64 {
    u64::from(word32(bytes, at)) | u64::from(word32(bytes, at + 4)) << 32
}
