//! What first boot makes of the shipped table: the second root slot and the state partition, and the
//! end of a disk that has grown. A plan is a value; nothing here touches a disk.

use bootwright_model::baked::SecondSlot;
use bootwright_model::layout;

use super::disks::RootGuids;
use super::ext4;
use super::gpt::{Guid, Partition, Step, Table};

/// Partitions begin and end on this boundary, bytes: erase blocks and RAID stripes divide it.
pub(super) const ALIGNMENT_BYTES: u64 = 1 << 20;
/// Less state than this holds neither the workload images nor etcd's log, bytes.
pub const SMALLEST_STATE_BYTES: u64 = 512 << 20;
/// No slot is larger, bytes.
const MOST_SLOT_BYTES: u64 = 1 << 40;
/// `no-auto` of the Discoverable Partitions Specification: an empty slot is nobody's to mount.
const ATTRIBUTE_NO_AUTO: u64 = 1 << 63;

/// Numbers of the partitions that first boot makes, as the design's disk table has them.
const ROOT_B: u32 = 5;
const VERITY_B: u32 = 6;
const STATE: u32 = 7;

/// The table as it shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The edited table.
    pub table: Table,
    /// Number of the state partition.
    pub state: u32,
    /// The state partition is made by this plan.
    pub new: bool,
    /// Erases what an older installation left where the new state partition will be. To be written
    /// before the table: once the partition exists, what looks like a state filesystem is one.
    pub erase: Vec<Step>,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum GrowError {
    /// The disk does not hold what is needed.
    #[error(
        "the disk has {have} MiB; the second root slot of {slot} MiB and at least {} MiB of state need {need} MiB",
        SMALLEST_STATE_BYTES >> 20
    )]
    TooSmall {
        /// Size of the disk, MiB.
        have: u64,
        /// Size of the second root slot, MiB.
        slot: u64,
        /// Size that the disk must have, MiB.
        need: u64,
    },
    /// The root partitions are not in this table.
    #[error("the root partition {0} is not in the partition table")]
    NoRoot(Guid),
    /// The numbers are taken by somebody else's partitions.
    #[error(
        "partition {number} (`{name}`) is where the image puts its own, and none is called {}",
        layout::STATE_LABEL
    )]
    Foreign {
        /// Its number.
        number: u32,
        /// Its name.
        name: String,
    },
    /// The table has too few entries.
    #[error("the partition table has room for {0} partitions only")]
    Full(usize),
}

/// Plans the table of a disk of `blocks` blocks whose root lies at `root`. A second slot that has to be made gets the
/// sizes of `slot`, and at least those of the first.
pub fn plan(table: &Table, blocks: u64, root: RootGuids, slot: SecondSlot) -> Result<Plan, GrowError> {
    let mut table = table.clone();
    if blocks < 2 + table.entry_blocks() + table.first_usable {
        return Err(GrowError::TooSmall { have: mebibytes(blocks * table.sector), slot: 0, need: 0 });
    }
    table.fit(blocks);
    let known = table.by_name(layout::STATE_LABEL).map(|(number, _)| number);
    match known {
        Some(number) => {
            extend(&mut table, number);
            Ok(Plan { table, state: number, new: false, erase: Vec::new() })
        }
        None => add(table, blocks, root, slot),
    }
}

/// Extends partition `number` to the end of the disk if nothing lies behind it.
pub(super) fn extend(table: &mut Table, number: u32) {
    let unit = ALIGNMENT_BYTES / table.sector;
    let end = align_down(table.last_usable + 1, unit);
    let last_used = table.partitions().map(|(_, partition)| partition.last).max().unwrap_or(0);
    if let Some(Some(state)) = table.entries.get_mut(number as usize - 1)
        && state.last == last_used
        && state.last + 1 < end
    {
        state.last = end - 1;
    }
}

fn add(mut table: Table, blocks: u64, root: RootGuids, slot: SecondSlot) -> Result<Plan, GrowError> {
    if table.entries.len() < STATE as usize {
        return Err(GrowError::Full(table.entries.len()));
    }
    let (_, verity) = table.by_guid(root.verity).ok_or(GrowError::NoRoot(root.verity))?;
    let (_, root) = table.by_guid(root.root).ok_or(GrowError::NoRoot(root.root))?;
    let (root, verity) = (root.clone(), verity.clone());
    if let Some((number, partition)) = table.partitions().find(|(number, _)| *number >= ROOT_B) {
        return Err(GrowError::Foreign { number, name: partition.name.clone() });
    }

    let unit = ALIGNMENT_BYTES / table.sector;
    let after = table.partitions().map(|(_, partition)| partition.last).max().unwrap_or(0) + 1;
    // What is recorded comes from the image, and may be anything: a sum of these does not overflow.
    let blocks_for =
        |bytes: u64, first: &Partition| (bytes.min(MOST_SLOT_BYTES) / table.sector).max(first.blocks());
    let (root_blocks, verity_blocks) =
        (blocks_for(slot.root_bytes, &root), blocks_for(slot.verity_bytes, &verity));
    let root_first = align_up(after, unit);
    let verity_first = align_up(root_first + root_blocks, unit);
    let state_first = align_up(verity_first + verity_blocks, unit);
    let end = align_down(table.last_usable + 1, unit);
    if end < state_first + SMALLEST_STATE_BYTES / table.sector {
        let tail = align_up(1 + table.entry_blocks(), unit);
        let need = (state_first + tail) * table.sector + SMALLEST_STATE_BYTES;
        return Err(GrowError::TooSmall {
            have: mebibytes(blocks * table.sector),
            slot: mebibytes((state_first - root_first) * table.sector),
            need: mebibytes(need),
        });
    }

    let guid = |purpose: &str| Guid::derived(table.disk, purpose);
    let empty = |name: &str, like: &Partition, first: u64, blocks: u64| Partition {
        kind: like.kind,
        guid: guid(name),
        first,
        last: first + blocks - 1,
        attributes: ATTRIBUTE_NO_AUTO,
        name: name.to_owned(),
    };
    let generic = layout::TYPE_LINUX_GENERIC.parse().expect("a constant, parsed by a test");
    let state = Partition {
        kind: generic,
        guid: guid(layout::STATE_LABEL),
        first: state_first,
        last: end - 1,
        attributes: 0,
        name: layout::STATE_LABEL.to_owned(),
    };
    let root_b = empty("root-b", &root, root_first, root_blocks);
    let verity_b = empty("verity-b", &verity, verity_first, verity_blocks);
    let erase = erase(state_first * table.sector, state.blocks() * table.sector);
    for (number, partition) in [(ROOT_B, root_b), (VERITY_B, verity_b), (STATE, state)] {
        table.entries[number as usize - 1] = Some(partition);
    }
    Ok(Plan { table, state: STATE, new: true, erase })
}

pub(super) fn erase(start: u64, length: u64) -> Vec<Step> {
    let places = ext4::SUPERBLOCK_PLACES.iter().filter(|place| place.end <= length);
    places
        .map(|place| Step {
            offset: start + place.start,
            bytes: vec![0; (place.end - place.start) as usize],
            what: "remains of an older filesystem",
        })
        .collect()
}

fn align_up(block: u64, unit: u64) -> u64 {
    block.div_ceil(unit) * unit
}

pub(super) fn align_down(block: u64, unit: u64) -> u64 {
    block / unit * unit
}

fn mebibytes(bytes: u64) -> u64 {
    bytes >> 20
}
