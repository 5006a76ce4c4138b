//! **state**: the partition that keeps what the node must remember, mounted at `/var`.
//!
//! [`prepare`] does the slow part beside the stages before, as it needs the boot disk only; [`run`] mounts. Where the cluster
//! file gives nodes disks of their own for it, it waits until it is known which node this is. Every step looks at what is there first, so a boot goes on where a power cut ended the one before.

mod own_disk;
mod skeleton;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bootwright_model::baked::SecondSlot;
use bootwright_model::node::NodeFacts;
use rustix::mount::{MountFlags, mount};

use super::baked::{self, BakedError};
use super::root::{RootError, partition_device};
use super::{Advice, Done};
use crate::report::under;
use crate::storage::disks::{self, Disk, RootGuids};
use crate::storage::ext4::{self, Contents, Ext4Error, Superblock};
use crate::storage::gpt::{self, GptError, Step};
use crate::storage::grow::{self, GrowError, Plan};
use crate::storage::kernel::{Extent, resize_partition};
use crate::storage::own_disk::ChooseError;

const MOUNT_POINT: &str = "/var";

/// Why there is no state.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The root's disk.
    #[error("the disk below the root cannot be found")]
    Disk(#[source] io::Error),
    /// Its table.
    #[error("{disk}: the partition table cannot be read")]
    Table {
        /// Disk.
        disk: String,
        /// Why.
        source: GptError,
    },
    /// The room for a second slot is not known.
    #[error("what the image says of the second root slot cannot be read")]
    Baked(#[from] BakedError),
    /// The partitions that should be.
    #[error("{disk}: the partitions of the node cannot be made")]
    Plan {
        /// Disk.
        disk: String,
        /// Why.
        source: GrowError,
    },
    /// Writing the table.
    #[error("{disk}: writing the {what} failed")]
    Write {
        /// Disk.
        disk: String,
        /// Which part.
        what: &'static str,
        /// Why.
        source: GptError,
    },
    /// The kernel does not take the new partition.
    #[error("{disk}: the kernel does not take partition {number}")]
    Kernel {
        /// Disk.
        disk: String,
        /// From 1.
        number: u32,
        /// Why.
        source: io::Error,
    },
    /// The partition's device.
    #[error("the state partition has no device")]
    Device(#[from] RootError),
    /// The filesystem.
    #[error("the state filesystem cannot be brought into use")]
    Filesystem(#[from] Ext4Error),
    /// Not ours.
    #[error("{device} is the state partition but holds {what}; it is not touched")]
    Foreign {
        /// Device.
        device: PathBuf,
        /// What it holds.
        what: String,
    },
    /// A mount or folder.
    #[error("{path}: cannot {what}")]
    Io {
        /// On what.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The disk that the cluster file gives this node for it.
    #[error("the disk that is to keep the state of this node cannot be used")]
    Own(#[from] ChooseError),
    /// The thread that prepared it ended without a result.
    #[error("preparing the state partition failed inside first boot")]
    Lost,
}

impl Advice for StateError {
    fn advice(&self) -> String {
        match self {
            StateError::Plan { source: GrowError::TooSmall { need, .. }, .. } => {
                return format!("make the disk at least {need} MiB (qemu-img resize, or a larger disk) and boot again");
            }
            StateError::Baked(error) => return error.advice(),
            StateError::Plan { .. } => "write the image to the disk again, or move the foreign partition elsewhere",
            StateError::Foreign { .. } => {
                "save what is on it and erase its first megabyte, or write the image to the disk again"
            }
            StateError::Filesystem(Ext4Error::Program { program: "/usr/sbin/e2fsck", .. }) => {
                "the filesystem needs a person: run e2fsck on the partition from another system, or erase its first megabyte to lose the state"
            }
            StateError::Filesystem(Ext4Error::Run { .. }) => "name the package e2fsprogs in the profile and build again",
            StateError::Own(ChooseError::None { .. }) => {
                "connect the disk, or correct state-disk of the node in the cluster file; if the disk is not in the list, add its driver to the profile's kernel.modules"
            }
            StateError::Own(ChooseError::Used { .. }) => {
                "connect an empty disk; or save what is on one of these, and erase its first and last four megabytes from another system"
            }
            StateError::Own(ChooseError::Two { .. }) => {
                "disconnect the one that is a copy, or name the other by its serial in state-disk of the cluster file"
            }
            StateError::Lost => "restart; report it if it happens again",
            _ => "check the disk and its cable; if it happens again, replace the disk",
        }
        .to_owned()
    }
}

/// The state partition, ready to be mounted.
#[derive(Debug)]
pub struct Prepared {
    disk: Disk,
    device: PathBuf,
    bytes: u64,
    /// Absent if the filesystem was made just now.
    superblock: Option<Superblock>,
    /// What was done, for the summary.
    did: Vec<String>,
}

/// How far the state is before it is known which node this is.
#[derive(Debug)]
pub enum Early {
    /// It is on the boot disk whichever node this is, and ready to be mounted.
    Ready(Prepared),
    /// It may be on a disk of its own.
    Later(RootGuids),
}

/// Prepares what can be before it is known which node this is.
pub fn prepare(root: &Path, guids: RootGuids) -> Result<Early, StateError> {
    let layer = baked::cluster_layer(root)?;
    if layer.file.nodes.iter().any(|node| node.state_disk.is_some()) {
        return Ok(Early::Later(guids));
    }
    let began = Instant::now();
    let mut prepared = on_boot_disk(root, guids, layer.second_slot)?;
    if !prepared.did.is_empty() {
        prepared.did.push(format!("{:.3} s beside other stages", began.elapsed().as_secs_f64()));
    }
    Ok(Early::Ready(prepared))
}

fn late(root: &Path, guids: RootGuids, facts: &NodeFacts) -> Result<Prepared, StateError> {
    let node = facts.layer.file.nodes.iter().find(|node| node.name == facts.name);
    match node.and_then(|node| node.state_disk.as_ref()) {
        Some(wanted) => own_disk::prepare(root, wanted, facts),
        None => on_boot_disk(root, guids, facts.layer.second_slot),
    }
}

/// Partition table, partition and filesystem of the boot disk, as they should be.
fn on_boot_disk(root: &Path, guids: RootGuids, slot: SecondSlot) -> Result<Prepared, StateError> {
    let disk = disks::boot_disk(root).map_err(StateError::Disk)?;
    let plan = write_table(&disk, guids, slot)?;
    bring_up(root, disk, &plan)
}

/// Partition and filesystem, once the table is on the disk.
fn bring_up(root: &Path, disk: Disk, plan: &Plan) -> Result<Prepared, StateError> {
    let partition = plan.table.entries[plan.state as usize - 1].as_ref();
    let bytes = partition.map_or(0, |partition| partition.blocks() * disk.sector);
    let device = known_to_kernel(root, &disk, plan)?;
    let mut did = Vec::new();
    if plan.new {
        did.push("partitions made".to_owned());
    }
    let superblock = make_or_check(&device, &mut did)?;
    Ok(Prepared { disk, device, bytes, superblock, did })
}

/// Writes what of the planned table is not on the disk yet.
fn write_table(disk: &Disk, guids: RootGuids, slot: SecondSlot) -> Result<Plan, StateError> {
    let name = || disk.name.clone();
    let io = |offset| move |source| GptError::Io { offset, source };
    let table = disk.table().map_err(|source| StateError::Table { disk: name(), source })?;
    let plan = grow::plan(&table, disk.blocks, guids, slot)
        .map_err(|source| StateError::Plan { disk: name(), source })?;
    let opened = fs::OpenOptions::new().read(true).write(true).open(&disk.device);
    let file = opened.map_err(io(0)).map_err(|source| StateError::Table { disk: name(), source })?;
    let mut mbr = vec![0; disk.sector as usize];
    let read = file.read_exact_at(&mut mbr, 0).map_err(io(0));
    read.map_err(|source| StateError::Table { disk: name(), source })?;
    let steps = plan.erase.iter().cloned().chain(gpt::steps(&plan.table, &mbr));
    write(&disk.name, &file, steps)?;
    Ok(plan)
}

/// Writes what of the steps is not on the disk yet.
fn write(disk: &str, file: &File, steps: impl Iterator<Item = Step>) -> Result<(), StateError> {
    let pending: Vec<Step> = steps.filter(|step| !is_written(file, step)).collect();
    gpt::apply(file, &pending).map_err(|(step, source)| StateError::Write {
        disk: disk.to_owned(),
        what: step.what,
        source,
    })
}

fn is_written(file: &File, step: &Step) -> bool {
    let mut bytes = vec![0; step.bytes.len()];
    file.read_exact_at(&mut bytes, step.offset).is_ok() && bytes == step.bytes
}

/// The kernel learns new partitions and the state partition's new size.
fn known_to_kernel(root: &Path, disk: &Disk, plan: &Plan) -> Result<PathBuf, StateError> {
    for (number, partition) in plan.table.partitions() {
        partition_device(root, disk, number, &Some(partition.clone()))?;
    }
    let number = plan.state;
    let partition = &plan.table.entries[number as usize - 1];
    let device = partition_device(root, disk, number, partition)?;
    let kernel = |source| StateError::Kernel { disk: disk.name.clone(), number, source };
    if let Some(partition) = partition {
        let extent =
            Extent { start: partition.first * disk.sector, length: partition.blocks() * disk.sector };
        let file = File::open(&disk.device).map_err(kernel)?;
        resize_partition(&file, number, extent).map_err(kernel)?;
    }
    Ok(device)
}

fn make_or_check(device: &Path, did: &mut Vec<String>) -> Result<Option<Superblock>, StateError> {
    match ext4::inspect(device)? {
        Contents::State(superblock) if superblock.clean => Ok(Some(superblock)),
        Contents::State(_) | Contents::Damaged => {
            let repaired = ext4::check(device)?;
            did.push(repaired.map_or("checked".to_owned(), |text| format!("repaired: {text}")));
            match ext4::inspect(device)? {
                Contents::State(superblock) => Ok(Some(superblock)),
                _ => Err(StateError::Foreign {
                    device: device.to_owned(),
                    what: "a filesystem beyond repair".into(),
                }),
            }
        }
        Contents::Unfinished => {
            ext4::make(device)?;
            did.push("filesystem made".to_owned());
            Ok(None)
        }
        Contents::Foreign(what) => Err(StateError::Foreign { device: device.to_owned(), what }),
    }
}

/// Mounts what was prepared, and makes the folders that the image has below `/var`.
pub fn run(root: &Path, early: Early, facts: &NodeFacts) -> Result<Done<()>, StateError> {
    let prepared = match early {
        Early::Ready(prepared) => prepared,
        Early::Later(guids) => late(root, guids, facts)?,
    };
    let var = under(root, MOUNT_POINT);
    let image = skeleton::read(&var)?;
    // errors=remount-ro: a node that cannot trust its disk stops writing, which its services then say.
    let options = c"errors=remount-ro";
    let mounted = mount(&prepared.device, &var, "ext4", MountFlags::NOATIME, Some(options));
    mounted.map_err(|errno| StateError::Io {
        path: prepared.device.clone(),
        what: "be mounted",
        source: errno.into(),
    })?;
    skeleton::make(&var, &image)?;
    let mut did = prepared.did;
    match &prepared.superblock {
        None => ext4::finish(&var)?,
        Some(superblock) => {
            if ext4::grow(&var, superblock, prepared.bytes)? {
                did.push("grown".to_owned());
            }
        }
    }
    let mut summary =
        format!("{} ({} MiB of {})", prepared.device.display(), prepared.bytes >> 20, prepared.disk.name);
    if !did.is_empty() {
        summary += &format!(": {}", did.join(", "));
    }
    Ok(Done::new((), summary))
}
