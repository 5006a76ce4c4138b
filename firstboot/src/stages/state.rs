//! **state**: the partition that keeps what the node must remember, mounted at `/var`.
//!
//! [`prepare`] does the slow part, which needs the disk only, beside the stages before; [`run`] mounts.
//! Every step looks at what is there first, so a boot goes on where a power cut ended the one before.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use bootwright_model::baked::SecondSlot;
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

/// Partition table, partition and filesystem of the boot disk, as they should be.
pub fn prepare(root: &Path, guids: RootGuids) -> Result<Prepared, StateError> {
    let began = Instant::now();
    let disk = disks::boot_disk(root).map_err(StateError::Disk)?;
    let slot = baked::cluster_layer(root)?.second_slot;
    let plan = write_table(&disk, guids, slot)?;
    let partition = plan.table.entries[plan.state as usize - 1].as_ref();
    let bytes = partition.map_or(0, |partition| partition.blocks() * disk.sector);
    let device = known_to_kernel(root, &disk, &plan)?;
    let mut did = Vec::new();
    if plan.new {
        did.push("partitions made".to_owned());
    }
    let superblock = make_or_check(&device, &mut did)?;
    if !did.is_empty() {
        did.push(format!("{:.3} s beside other stages", began.elapsed().as_secs_f64()));
    }
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
    let pending: Vec<Step> = steps.filter(|step| !is_written(&file, step)).collect();
    gpt::apply(&file, &pending).map_err(|(step, source)| StateError::Write {
        disk: name(),
        what: step.what,
        source,
    })?;
    Ok(plan)
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
pub fn run(root: &Path, prepared: Prepared) -> Result<Done<()>, StateError> {
    let var = under(root, MOUNT_POINT);
    let image = skeleton(&var)?;
    // errors=remount-ro: a node that cannot trust its disk stops writing, which its services then say.
    let options = c"errors=remount-ro";
    let mounted = mount(&prepared.device, &var, "ext4", MountFlags::NOATIME, Some(options));
    mounted.map_err(|errno| StateError::Io {
        path: prepared.device.clone(),
        what: "be mounted",
        source: errno.into(),
    })?;
    make_skeleton(&var, &image)?;
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

/// Something below `/var` in the image.
struct Entry {
    path: PathBuf,
    mode: u32,
    owner: (u32, u32),
    kind: Kind,
}

enum Kind {
    Folder,
    Link(PathBuf),
    File(Vec<u8>),
}

/// What the image has below `/var`, before the state hides it.
fn skeleton(var: &Path) -> Result<Vec<Entry>, StateError> {
    let mut entries = Vec::new();
    let mut folders = vec![var.to_owned()];
    while let Some(folder) = folders.pop() {
        let error = |source| StateError::Io { path: folder.clone(), what: "be read", source };
        for entry in fs::read_dir(&folder).map_err(error)? {
            let path = entry.map_err(error)?.path();
            let metadata = fs::symlink_metadata(&path).map_err(error)?;
            let kind = if metadata.is_dir() {
                folders.push(path.clone());
                Kind::Folder
            } else if metadata.is_symlink() {
                Kind::Link(fs::read_link(&path).map_err(error)?)
            } else {
                Kind::File(fs::read(&path).map_err(error)?)
            };
            let owner = (metadata.uid(), metadata.gid());
            entries.push(Entry { path, mode: metadata.permissions().mode() & 0o7777, owner, kind });
        }
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
}

/// Makes what is missing. What is there is the node's and stays.
fn make_skeleton(var: &Path, image: &[Entry]) -> Result<(), StateError> {
    for entry in image.iter().filter(|entry| fs::symlink_metadata(&entry.path).is_err()) {
        let made = match &entry.kind {
            Kind::Folder => fs::DirBuilder::new().mode(entry.mode).create(&entry.path),
            Kind::Link(target) => std::os::unix::fs::symlink(target, &entry.path),
            Kind::File(bytes) => fs::write(&entry.path, bytes),
        };
        let (uid, gid) = entry.owner;
        let made = made.and_then(|()| std::os::unix::fs::lchown(&entry.path, Some(uid), Some(gid)));
        let made = made.and_then(|()| match entry.kind {
            Kind::Link(_) => Ok(()),
            _ => fs::set_permissions(&entry.path, fs::Permissions::from_mode(entry.mode)),
        });
        made.map_err(|source| StateError::Io { path: entry.path.clone(), what: "be made", source })?;
    }
    // Without these nothing of Debian's runs, whatever the profile forgot.
    for (name, mode) in [("lib", 0o755), ("log", 0o755), ("cache", 0o755), ("tmp", 0o1777)] {
        let path = var.join(name);
        if !path.exists() {
            let made = fs::create_dir(&path)
                .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)));
            made.map_err(|source| StateError::Io { path, what: "be made", source })?;
        }
    }
    for (name, target) in [("run", "/run"), ("lock", "/run/lock")] {
        let path = var.join(name);
        if fs::symlink_metadata(&path).is_err() {
            let made = std::os::unix::fs::symlink(target, &path);
            made.map_err(|source| StateError::Io { path, what: "be made", source })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_gets_what_the_image_has_and_keeps_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let var = folder.path().join("var");
        fs::create_dir_all(var.join("lib/etcd")).unwrap();
        fs::set_permissions(var.join("lib/etcd"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(var.join("lib/seed"), "image").unwrap();
        std::os::unix::fs::symlink("/run", var.join("run")).unwrap();
        let image = skeleton(&var).unwrap();
        fs::rename(&var, folder.path().join("image")).unwrap();
        fs::create_dir_all(var.join("lib")).unwrap();
        fs::write(var.join("lib/seed"), "node").unwrap();
        for _ in 0..2 {
            make_skeleton(&var, &image).unwrap();
        }
        assert_eq!(fs::metadata(var.join("lib/etcd")).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_to_string(var.join("lib/seed")).unwrap(), "node");
        assert_eq!(fs::read_link(var.join("run")).unwrap(), Path::new("/run"));
        assert_eq!(fs::metadata(var.join("tmp")).unwrap().permissions().mode() & 0o7777, 0o1777);
    }
}
