//! A whole disk for a node's state: which one it is, what lies on it, and its partition table.
//!
//! A disk is the node's if the GUID of its partition table says so, which is derived from the names of cluster and node.
//! One is made the node's only if its first and last megabytes are empty, where every partition table and filesystem has
//! its signature: whoever wants a used disk to be taken erases it. Nothing else is ever written to.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bootwright_model::layout;
use bootwright_model::state_disk::{StateDisk, wwn_digits};

use super::disks::{self, Disk, Marks};
use super::gpt::{self, Copy, GptError, Guid, Partition, Step, Table};
use super::grow::{ALIGNMENT_BYTES, Plan, SMALLEST_STATE_BYTES, align_down, erase, extend};

/// What is looked at at either end, bytes: beyond the superblock of VMFS, the farthest one.
const LOOKED_AT: u64 = 4 << 20;
/// Number of the only partition.
const STATE: u32 = 1;
/// Usual number and size of a table's entries (UEFI 2.10, section 5.3.1).
const ENTRIES: usize = 128;
const ENTRY_BYTES: u32 = 128;
const PROTECTIVE_MBR: &str = "protective MBR";

/// Signatures: byte, what is there, whose it is.
const SIGNATURES: [(usize, &[u8], &str); 13] = [
    (512, b"EFI PART", "a damaged GUID partition table"),
    (4096, b"EFI PART", "a GUID partition table for sectors of another size"),
    (0, b"XFSB", "an XFS filesystem"),
    (65_600, b"_BHRfS_M", "a Btrfs filesystem"),
    (512, b"LABELONE", "a physical volume of LVM"),
    (0, b"LUKS\xba\xbe", "an encrypted volume (LUKS)"),
    (4_086, b"SWAPSPACE2", "a swap area"),
    (4096, b"\xfc\x4e\x2b\xa9", "a member of a RAID array"),
    (0, b"\xfc\x4e\x2b\xa9", "a member of a RAID array"),
    (32_769, b"CD001", "an ISO 9660 filesystem"),
    (3, b"NTFS    ", "an NTFS filesystem"),
    (1080, b"\x53\xef", "an ext4 filesystem"),
    (510, b"\x55\xaa", "an MBR partition table or a FAT filesystem"),
];

/// The disk for the node's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The disk.
    pub disk: Disk,
    /// It is empty, or the making of its table was interrupted.
    pub new: bool,
}

/// Why there is no disk for the state. Nothing was written to any.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ChooseError {
    /// None fits.
    #[error("no disk fits {wanted}; there are {seen}")]
    None {
        /// What the cluster file says.
        wanted: String,
        /// All disks but the one that the machine started from, with their marks.
        seen: String,
    },
    /// What fits is in use.
    #[error("no disk that fits {wanted} is empty, and none is touched: {seen}")]
    Used {
        /// What the cluster file says.
        wanted: String,
        /// What each of them holds.
        seen: String,
    },
    /// Two hold the node's state.
    #[error("{first} and {second} both hold the state of this node")]
    Two {
        /// One.
        first: String,
        /// The other.
        second: String,
    },
}

/// The GUID of the partition table on the disk of a node's state.
pub fn guid(cluster: &str, node: &str) -> Guid {
    // Neither name has a slash.
    Guid::derived(Guid::NONE, &format!("state disk of {cluster}/{node}"))
}

/// Looks for the disk; `boot` is the name of the one that the machine started from. Only reads.
pub fn choose(root: &Path, wanted: &StateDisk, own: Guid, boot: &str) -> Result<Chosen, ChooseError> {
    let others: Vec<(Disk, Marks)> = (disks::disks(root).into_iter())
        .filter(|disk| disk.name != boot)
        .map(|disk| {
            let marks = disk.marks(root);
            (disk, marks)
        })
        .collect();
    let (mut ours, mut empty, mut used) = (None::<(&Disk, &Marks)>, None, Vec::new());
    for (disk, marks) in others.iter().filter(|(disk, marks)| fits(wanted, disk, marks)) {
        match contents(disk, own) {
            Ok(Contents::Ours) => match &ours {
                None => ours = Some((disk, marks)),
                // By another path of a storage network.
                Some((_, known)) if known.wwn.is_some() && known.wwn == marks.wwn => {}
                Some((first, _)) => {
                    let (first, second) = (first.name.clone(), disk.name.clone());
                    return Err(ChooseError::Two { first, second });
                }
            },
            Ok(Contents::Empty) => empty = empty.or_else(|| Some(disk.clone())),
            Ok(Contents::Other(what)) => used.push(format!("{} holds {what}", disk.name)),
            Err(error) => used.push(format!("{} cannot be read ({error})", disk.name)),
        }
    }
    match (ours, empty) {
        (Some((disk, _)), _) => Ok(Chosen { disk: disk.clone(), new: false }),
        (None, Some(disk)) => Ok(Chosen { disk, new: true }),
        (None, None) if used.is_empty() => {
            let seen: Vec<String> = others.iter().map(|(disk, marks)| describe(disk, marks)).collect();
            let seen = if seen.is_empty() { "no others".to_owned() } else { seen.join("; ") };
            Err(ChooseError::None { wanted: written(wanted), seen })
        }
        (None, None) => Err(ChooseError::Used { wanted: written(wanted), seen: used.join("; ") }),
    }
}

fn fits(wanted: &StateDisk, disk: &Disk, marks: &Marks) -> bool {
    let bytes = disk.blocks * disk.sector;
    let serial = wanted.serial.as_deref().is_none_or(|serial| marks.serial.as_deref() == Some(serial));
    let wwn = wanted
        .wwn
        .as_deref()
        .is_none_or(|wanted| marks.wwn.as_deref().is_some_and(|wwn| wwn_digits(wwn) == wwn_digits(wanted)));
    let path = wanted.path.as_deref().is_none_or(|path| passes(&marks.path, path));
    serial && wwn && path && bytes >= wanted.min_bytes().max(SMALLEST_STATE_BYTES + 2 * ALIGNMENT_BYTES)
}

/// Whether whole folders of the path are these, one below the other.
fn passes(path: &Path, part: &str) -> bool {
    let folders: Vec<&str> = path.iter().filter_map(|folder| folder.to_str()).collect();
    let wanted: Vec<&str> = part.split('/').filter(|folder| !folder.is_empty()).collect();
    !wanted.is_empty() && folders.windows(wanted.len()).any(|window| window == wanted)
}

/// As the cluster file has it.
fn written(wanted: &StateDisk) -> String {
    let keys = [
        ("serial", &wanted.serial),
        ("wwn", &wanted.wwn),
        ("path", &wanted.path),
        ("min-size", &wanted.min_size),
    ];
    let written = keys.iter().filter_map(|(key, value)| Some(format!("{key} {}", value.as_ref()?)));
    written.collect::<Vec<_>>().join(", ")
}

fn describe(disk: &Disk, marks: &Marks) -> String {
    let mark = |key: &str, value: &Option<String>| {
        value.as_ref().map(|value| format!(", {key} {value}")).unwrap_or_default()
    };
    let path = marks.path.display();
    let size = (disk.blocks * disk.sector) as f64 / 1e9;
    format!(
        "{} ({size:.1}G{}{}, path {path})",
        disk.name,
        mark("serial", &marks.serial),
        mark("wwn", &marks.wwn)
    )
}

#[derive(Debug, PartialEq, Eq)]
enum Contents {
    /// The node's own table.
    Ours,
    /// Nothing, or parts of the table that the node would write.
    Empty,
    /// Something else, for a person.
    Other(String),
}

fn contents(disk: &Disk, own: Guid) -> Result<Contents, GptError> {
    let bytes = disk.blocks * disk.sector;
    let length = LOOKED_AT.min(bytes);
    match disk.table() {
        Ok(table) if table.disk == own && table.copy == Copy::Primary => return Ok(Contents::Ours),
        // A copy at the end that nobody erased: the front, up to the partition, may be somebody else's by now.
        Ok(table) if table.disk == own => {
            let other = other(disk, own, 0, ALIGNMENT_BYTES.min(length))?;
            return Ok(other.map_or(Contents::Ours, Contents::Other));
        }
        Ok(table) => {
            let names: Vec<&str> = table.partitions().map(|(_, partition)| partition.name.as_str()).collect();
            return Ok(Contents::Other(match names.as_slice() {
                [] => "a partition table without partitions".to_owned(),
                _ => format!("a partition table with {}", names.join(", ")),
            }));
        }
        Err(error @ GptError::Io { .. }) => return Err(error),
        Err(_) => {}
    }
    let other = match other(disk, own, 0, length)? {
        None => other(disk, own, bytes - length, length)?.map(|_| "data at its end".to_owned()),
        front => front,
    };
    Ok(other.map_or(Contents::Empty, Contents::Other))
}

/// What a region of a disk holds besides parts of the node's own table; named by the front of the region.
fn other(disk: &Disk, own: Guid, start: u64, length: u64) -> Result<Option<String>, GptError> {
    let io = |source: io::Error| GptError::Io { offset: start, source };
    let mut region = vec![0; length as usize];
    File::open(&disk.device).and_then(|file| file.read_exact_at(&mut region, start)).map_err(io)?;
    let what = name(&region);
    forget(&mut region, start, disk.sector, &table_steps(disk, &new_table(disk, own)));
    Ok(region.iter().any(|&byte| byte != 0).then_some(what))
}

/// Clears the sectors that are as the node's own table has them: a power cut may have left some.
fn forget(region: &mut [u8], start: u64, sector: u64, steps: &[Step]) {
    let size = sector as usize;
    for step in steps {
        for (number, wanted) in (0_u64..).zip(step.bytes.chunks(size)) {
            let Some(at) = (step.offset + number * sector).checked_sub(start) else { continue };
            if let Some(found) = region.get_mut(at as usize..).and_then(|rest| rest.get_mut(..wanted.len()))
                && found == wanted
            {
                found.fill(0);
            }
        }
    }
}

/// What the front of a disk holds, for a person.
fn name(front: &[u8]) -> String {
    let is = |(at, bytes, _): &&(usize, &[u8], &str)| front.get(*at..*at + bytes.len()) == Some(*bytes);
    SIGNATURES.iter().find(is).map_or("data", |(_, _, name)| name).to_owned()
}

/// The table of the disk as it shall be.
pub fn plan(chosen: &Chosen, own: Guid) -> Result<Plan, GptError> {
    let disk = &chosen.disk;
    if chosen.new {
        let table = new_table(disk, own);
        let length = table.entries[STATE as usize - 1].as_ref().map_or(0, Partition::blocks) * disk.sector;
        // A copy of the superblock of an older installation may lie beyond what was looked at.
        let erase = erase(ALIGNMENT_BYTES, length);
        return Ok(Plan { table, state: STATE, new: true, erase });
    }
    let mut table = disk.table()?;
    table.fit(disk.blocks);
    extend(&mut table, STATE);
    Ok(Plan { table, state: STATE, new: false, erase: Vec::new() })
}

fn new_table(disk: &Disk, own: Guid) -> Table {
    let unit = ALIGNMENT_BYTES / disk.sector;
    let mut table = Table {
        sector: disk.sector,
        disk: own,
        first_usable: 0,
        last_usable: 0,
        backup: 0,
        entries_lba: 2,
        entry_size: ENTRY_BYTES,
        entries: vec![None; ENTRIES],
        copy: Copy::Primary,
    };
    table.first_usable = table.entries_lba + table.entry_blocks();
    table.fit(disk.blocks);
    table.entries[STATE as usize - 1] = Some(Partition {
        kind: layout::TYPE_LINUX_GENERIC.parse().expect("a constant, parsed by a test"),
        guid: Guid::derived(own, layout::STATE_LABEL),
        first: unit,
        last: align_down(table.last_usable + 1, unit) - 1,
        attributes: 0,
        name: layout::STATE_LABEL.to_owned(),
    });
    table
}

/// What has to be written for the table, the protective MBR last.
pub fn table_steps(disk: &Disk, table: &Table) -> Vec<Step> {
    let mbr = protective_mbr(disk);
    let mut steps = gpt::steps(table, &mbr);
    steps.push(Step { offset: 0, bytes: mbr, what: PROTECTIVE_MBR });
    steps
}

/// One record for the whole disk (UEFI 2.10, section 5.2.3).
fn protective_mbr(disk: &Disk) -> Vec<u8> {
    let mut bytes = vec![0; disk.sector as usize];
    let blocks = u32::try_from(disk.blocks - 1).unwrap_or(u32::MAX);
    bytes[446..454].copy_from_slice(&[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff]);
    bytes[454..458].copy_from_slice(&1_u32.to_le_bytes());
    bytes[458..462].copy_from_slice(&blocks.to_le_bytes());
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    bytes
}

#[cfg(test)]
mod tests;
