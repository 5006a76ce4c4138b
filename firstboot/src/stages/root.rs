//! **root**: finds the root partition by its hash, maps it through dm-verity, mounts it, carries the
//! cluster layer over and makes it the root of the machine.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bootwright_model::layout;
use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::mount::{MountFlags, mount, mount_move};

use super::command_line::CommandLine;
use super::modules::{Coldplug, ModulesError};
use super::{Advice, Done};
use crate::report::under;
use crate::storage::disks::{Disk, RootGuids, RootPlace, find_root};
use crate::storage::gpt::Partition;
use crate::storage::kernel::{Extent, add_partition};
use crate::storage::verity::{self, VerityError};

/// How long the disk may take to appear: USB and large arrays need many seconds.
const DISK_PATIENCE: Duration = Duration::from_secs(30);
/// Name of the mapping below `/dev/mapper`.
const MAPPING: &str = "root";
/// Where the root is mounted before it becomes the root.
const SYSROOT: &str = "/sysroot";
/// Mounts that move along.
const MOVED: [&str; 4] = ["/dev", "/proc", "/sys", "/run"];

/// Why there is no root.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// Nothing to look for.
    #[error(
        "the kernel command line has no valid {}=: 64 hexadecimal digits are expected",
        layout::CMDLINE_ROOT_HASH
    )]
    CommandLine,
    /// No disk has it.
    #[error("no disk has the root partition {} within {} s; seen: {seen}", wanted.root, DISK_PATIENCE.as_secs())]
    NotFound {
        /// What was looked for.
        wanted: RootGuids,
        /// A phrase per disk.
        seen: String,
    },
    /// Device events failed.
    #[error("waiting for the disk failed")]
    Wait(#[from] ModulesError),
    /// The partition has no device.
    #[error("the kernel has no device for partition {number} of {disk}")]
    NoDevice {
        /// Disk.
        disk: String,
        /// From 1.
        number: u32,
        /// Why, if it was told to make one.
        source: io::Error,
    },
    /// No mapping.
    #[error("the root cannot be mapped")]
    Verity(#[from] VerityError),
    /// A file system operation.
    #[error("{path}: cannot {what}")]
    Io {
        /// On what.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The root does not mount.
    #[error(
        "{partition}: the root cannot be mounted; it is not what the root hash {root_hash} says, or it is damaged"
    )]
    Mount {
        /// The partition with the root.
        partition: PathBuf,
        /// From the command line.
        root_hash: String,
        /// Why.
        source: io::Error,
    },
    /// The initramfs lacks the cluster layer.
    #[error("the boot image has no cluster layer ({}/{})", layout::INITRAMFS_CLUSTER, layout::CLUSTER_FILE)]
    NoClusterLayer,
}

impl Advice for RootError {
    fn advice(&self) -> String {
        match self {
            RootError::CommandLine => "boot the entry that the image came with; another boot loader must pass roothash= on",
            RootError::NotFound { .. } => {
                "connect the disk that the image was written to; if it is not in the list, add its driver to the profile's kernel.initramfs-modules; if it is, write the image to it again"
            }
            RootError::Wait(error) => return error.advice(),
            RootError::NoDevice { .. } => "check the disk; write the image to it again",
            RootError::Verity(VerityError::Mapper { .. }) => {
                "dm-verity must be in the profile's kernel.initramfs-modules; if it is, write the image to the disk again"
            }
            RootError::Verity(_) | RootError::Mount { .. } => {
                "write the image to the disk again; if it happens again, replace the disk"
            }
            RootError::Io { .. } => "restart; if it happens again, build the image again",
            RootError::NoClusterLayer => "build the image again with bootwright build",
        }
        .to_owned()
    }
}

/// Runs in the initramfs. Afterwards the process is in the new root, and has to replace itself.
pub fn run(coldplug: &mut Coldplug, command_line: &CommandLine) -> Result<Done<()>, RootError> {
    let root = Path::new("/");
    let hash = command_line.root_hash().ok_or(RootError::CommandLine)?.to_ascii_lowercase();
    let wanted = RootGuids::of(&hash).ok_or(RootError::CommandLine)?;
    let place = wait_for_root(root, coldplug, wanted)?;
    let device =
        |number| partition_device(root, &place.disk, number, &place.table.entries[number as usize - 1]);
    let (data, tree) = (device(place.root)?, device(place.verity)?);
    let mapped = verity::activate(root, MAPPING, &data, &tree, &hash)?;
    mount_root(&mapped, &data, &hash)?;
    carry_cluster_layer(root)?;
    // Their files go away with the initramfs.
    let cards = coldplug.end_cards();
    let freed = switch()?;
    Ok(Done::new((), summary(&place, &data, freed, cards.as_deref())))
}

fn summary(place: &RootPlace, data: &Path, freed: u64, cards: Option<&str>) -> String {
    let mut text = format!("{} proved by dm-verity, initramfs freed ({} MiB)", data.display(), freed >> 20);
    if let Some(cards) = cards {
        text += &format!(", {cards} for cards meanwhile");
    }
    if !place.also_on.is_empty() {
        text += &format!("; the same image is on {}", place.also_on.join(", "));
    }
    text
}

fn wait_for_root(root: &Path, coldplug: &mut Coldplug, wanted: RootGuids) -> Result<RootPlace, RootError> {
    let end = Instant::now() + DISK_PATIENCE;
    loop {
        match find_root(root, wanted) {
            Ok(place) => return Ok(place),
            Err(seen) if Instant::now() >= end => {
                let seen = if seen.is_empty() { "no disk at all".to_owned() } else { seen.join("; ") };
                return Err(RootError::NotFound { wanted, seen });
            }
            Err(_) => coldplug.wait(end)?,
        };
    }
}

/// The device of a partition. The kernel passes over a primary table whose writing was cut off, so a
/// partition that only we found in the backup table is told to it.
pub fn partition_device(
    root: &Path,
    disk: &Disk,
    number: u32,
    partition: &Option<Partition>,
) -> Result<PathBuf, RootError> {
    if let Some(device) = disk.partition(root, number) {
        return Ok(device);
    }
    let missing = |source| RootError::NoDevice { disk: disk.name.clone(), number, source };
    let partition = partition.as_ref().ok_or_else(|| missing(io::ErrorKind::NotFound.into()))?;
    let extent = Extent { start: partition.first * disk.sector, length: partition.blocks() * disk.sector };
    let file = File::open(&disk.device).map_err(missing)?;
    add_partition(&file, number, extent).map_err(missing)?;
    disk.partition(root, number).ok_or_else(|| missing(io::ErrorKind::NotFound.into()))
}

fn mount_root(mapped: &Path, partition: &Path, root_hash: &str) -> Result<(), RootError> {
    make_folder(Path::new(SYSROOT), 0o755)?;
    let mounted = mount(mapped, SYSROOT, "squashfs", MountFlags::RDONLY | MountFlags::NOATIME, None);
    mounted.map_err(|errno| RootError::Mount {
        partition: partition.to_owned(),
        root_hash: root_hash.to_owned(),
        source: errno.into(),
    })
}

/// Copies the cluster layer to its tmpfs, with its modes.
fn carry_cluster_layer(root: &Path) -> Result<(), RootError> {
    let from = under(root, layout::INITRAMFS_CLUSTER);
    if !from.join(layout::CLUSTER_FILE).exists() {
        return Err(RootError::NoClusterLayer);
    }
    make_folder(&under(root, layout::RUN), 0o755)?;
    let to = under(root, layout::RUN_CLUSTER);
    make_folder(&to, 0o700)?;
    // A tmpfs of its own, so that keys are apart from what services write to /run, and never on a disk.
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let mounted = mount("cluster", &to, "tmpfs", flags, Some(c"mode=0700,size=16m"));
    mounted.map_err(|errno| RootError::Io { path: to.clone(), what: "be mounted", source: errno.into() })?;
    copy_tree(&from, &to)
}

fn copy_tree(from: &Path, to: &Path) -> Result<(), RootError> {
    let error = |path: &Path, what| {
        let path = path.to_owned();
        move |source| RootError::Io { path, what, source }
    };
    for entry in fs::read_dir(from).map_err(error(from, "be read"))? {
        let entry = entry.map_err(error(from, "be read"))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let metadata = entry.metadata().map_err(error(&source, "be read"))?;
        if metadata.is_dir() {
            make_folder(&target, 0o700)?;
            copy_tree(&source, &target)?;
        } else {
            fs::copy(&source, &target).map_err(error(&target, "be written"))?;
        }
        let mode = fs::Permissions::from_mode(metadata.permissions().mode() & 0o7777);
        fs::set_permissions(&target, mode).map_err(error(&target, "get its mode"))?;
    }
    Ok(())
}

/// Makes [`SYSROOT`] the root of this process and empties the initramfs, which nothing can reach
/// afterwards and whose memory would stay taken. Returns the bytes freed.
fn switch() -> Result<u64, RootError> {
    let error = |path: &'static str, what| {
        move |errno: rustix::io::Errno| RootError::Io { path: path.into(), what, source: errno.into() }
    };
    let old =
        File::open("/").map_err(|source| RootError::Io { path: "/".into(), what: "be opened", source })?;
    for mount in MOVED {
        let target = format!("{SYSROOT}{mount}");
        mount_move(mount, &target)
            .map_err(error(mount, "be moved into the root (does the image have the folder?)"))?;
    }
    rustix::process::chdir(SYSROOT).map_err(error(SYSROOT, "be entered"))?;
    mount_move(".", "/").map_err(error(SYSROOT, "be moved to /"))?;
    rustix::process::chroot(".").map_err(error(SYSROOT, "become the root"))?;
    rustix::process::chdir("/").map_err(error("/", "be entered"))?;
    let device = old.metadata().map_or(0, |metadata| metadata.dev());
    Ok(empty(&old, device))
}

/// Deletes what lies below `folder` on `device`, other mounts excepted. A file that cannot be deleted
/// costs memory, nothing more.
fn empty(folder: &File, device: u64) -> u64 {
    let mut freed = 0;
    let Ok(entries) = Dir::read_from(folder) else { return 0 };
    let names: Vec<CString> = entries.flatten().map(|entry| entry.file_name().to_owned()).collect();
    for name in names.iter().filter(|name| !matches!(name.to_bytes(), b"." | b"..")) {
        let Ok(stat) = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if stat.st_dev != device {
            continue;
        }
        if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            if let Ok(below) = rustix::fs::openat(folder, name, flags, Mode::empty()) {
                freed += empty(&File::from(below), device);
            }
            let _ = rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR);
        } else if rustix::fs::unlinkat(folder, name, AtFlags::empty()).is_ok() && stat.st_nlink == 1 {
            freed += u64::try_from(stat.st_size).unwrap_or(0);
        }
    }
    freed
}

fn make_folder(path: &Path, mode: u32) -> Result<(), RootError> {
    let made = fs::DirBuilder::new().mode(mode).create(path);
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result.map_err(|source| RootError::Io { path: path.to_owned(), what: "be made", source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cluster_layer_keeps_its_modes() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("pki")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("pki/ca.key"), "key").unwrap();
        fs::set_permissions(from.join("pki/ca.key"), fs::Permissions::from_mode(0o600)).unwrap();
        copy_tree(&from, &to).unwrap();
        let mode = fs::metadata(to.join("pki/ca.key")).unwrap().permissions().mode() & 0o777;
        assert_eq!((fs::read_to_string(to.join("pki/ca.key")).unwrap().as_str(), mode), ("key", 0o600));
    }

    #[test]
    fn the_old_root_is_emptied_to_the_last_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        fs::write(folder.path().join("a/b/file"), [0; 1000]).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();
        let handle = File::open(folder.path()).unwrap();
        let device = handle.metadata().unwrap().dev();
        assert!(empty(&handle, device) >= 1000);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(Path::new("/etc/passwd").exists());
    }
}
