//! Drives that somebody made for this machine: a small filesystem with a label, the files of which say who it is.
//!
//! Their files are read here, as far as a source knows them, so that sources work on bytes. FAT and ISO 9660 are read in
//! this process and not mounted: neither modules nor mount points are needed, and a damaged filesystem is an error
//! here instead of in the kernel, on a thread that can be given up.

pub mod iso9660;
pub mod volume;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::document::MOST_BYTES;
use crate::report::under;
use volume::Volume;

/// Labels, in lower case, and the files that sources read from a drive that has one.
const KNOWN: [(&str, &[&str]); 3] = [
    (super::nocloud::LABEL, &super::nocloud::FILES),
    (super::config_drive::LABEL, &super::config_drive::FILES),
    (super::vmware::ovf::LABEL, &super::vmware::ovf::FILES),
];
/// Devices that are no drives: memory, mappings of other devices, floppies (a read of an empty one takes seconds).
const NO_DRIVES: [&str; 7] = ["loop", "ram", "zram", "dm-", "md", "fd", "nbd"];
/// Fixed drives and their partitions are looked at up to this size, bytes. OpenStack's are of 64 MiB at most, and a
/// hypervisor's hold a few files; a disk of data, that may have to spin up first, is larger.
const SMALL: u64 = 512 << 20;
/// How long drives may take to answer altogether, when there are some: a disc that was just put in spins up first. None is
/// waited for that is not there.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// A drive with a label that a source knows.
#[derive(Debug)]
pub struct Drive {
    /// Device file.
    pub device: PathBuf,
    /// In lower case.
    pub label: &'static str,
    /// Files that it has, by path, or why they cannot be read.
    pub files: Result<BTreeMap<&'static str, Vec<u8>>, io::Error>,
}

/// What a look at the drives brought.
#[derive(Debug, Default)]
pub struct Found {
    /// Drives with a label that is known, by device.
    pub drives: Vec<Drive>,
    /// Devices that gave no answer in time.
    pub silent: Vec<PathBuf>,
}

/// The labelled drives of this machine, without the disk that was booted from.
pub fn find(root: &Path, boot_disk: Option<&str>) -> Found {
    let (sender, answers) = mpsc::channel();
    let mut silent = BTreeSet::new();
    for device in candidates(root, boot_disk) {
        silent.insert(device.clone());
        let sender = sender.clone();
        // A thread each: a drive that hangs holds up no other, and a fault in the reading of a strange filesystem is
        // not one of PID 1's main thread. Without a thread the drive gives no answer.
        let work = move || {
            let drive = open(&device);
            // Nobody listens any more after the time is up.
            let _ = sender.send((device, drive));
        };
        let _ = std::thread::Builder::new().name("drive".to_owned()).spawn(work);
    }
    drop(sender);
    let end = Instant::now() + PATIENCE;
    let mut drives = Vec::new();
    while !silent.is_empty() {
        let Ok((device, drive)) = answers.recv_timeout(end.saturating_duration_since(Instant::now())) else {
            break;
        };
        silent.remove(&device);
        drives.extend(drive);
    }
    drives.sort_by(|a, b| a.device.cmp(&b.device));
    Found { drives, silent: silent.into_iter().collect() }
}

/// Device files that are worth a look.
fn candidates(root: &Path, boot_disk: Option<&str>) -> Vec<PathBuf> {
    let class = under(root, "/sys/class/block");
    let entries = fs::read_dir(&class).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let names = names.filter(|name| !NO_DRIVES.iter().any(|prefix| name.starts_with(prefix)));
    let worth_it = |name: &String| {
        // A link to the device's folder, in which that of a partition lies in its disk's.
        let Ok(folder) = fs::canonicalize(class.join(name)) else { return false };
        let is_partition = folder.join("partition").exists();
        let disk: &Path = if is_partition { folder.parent().unwrap_or(&folder) } else { &folder };
        if boot_disk.is_some_and(|boot_disk| disk.ends_with(boot_disk)) {
            return false;
        }
        // /sys counts in 512 bytes whatever the sector size is. A card reader without a card has none.
        let bytes = number(&folder.join("size")).unwrap_or(0).saturating_mul(512);
        let removable = number(&disk.join("removable")) == Some(1);
        bytes > 0 && (removable || bytes <= SMALL)
    };
    names.filter(worth_it).map(|name| under(root, "/dev").join(name)).collect()
}

/// The drive, if it has a label that is known.
fn open(device: &Path) -> Option<Drive> {
    let file = open_medium(device).ok()?;
    let volume = Volume::open(file)?;
    let label = volume.label().to_ascii_lowercase();
    let (label, names) = KNOWN.into_iter().find(|(known, _)| *known == label)?;
    let (mut found, mut failed) = (BTreeMap::new(), None);
    for name in names {
        match volume.read(name, MOST_BYTES) {
            Ok(bytes) => found.extend(bytes.map(|bytes| (*name, bytes))),
            Err(error) => failed = Some(io::Error::new(error.kind(), format!("{name}: {error}"))),
        }
    }
    let files = failed.map_or(Ok(found), Err);
    Some(Drive { device: device.to_owned(), label, files })
}

/// Opens a device that has a medium in it. An optical drive is asked first, as opening one without a disc can
/// take seconds.
fn open_medium(device: &Path) -> io::Result<File> {
    /// `CDROM_DRIVE_STATUS` of the current slot, and its answer if there is a disc (linux/cdrom.h).
    const CDROM_DRIVE_STATUS: libc::Ioctl = 0x5326;
    const CDSL_CURRENT: libc::c_int = libc::c_int::MAX;
    const CDS_DISC_OK: libc::c_int = 4;
    let is_optical = device.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"sr"));
    if is_optical {
        let drive = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(device)?;
        // SAFETY: the request takes a number and writes to no memory.
        let status = unsafe { libc::ioctl(drive.as_raw_fd(), CDROM_DRIVE_STATUS, CDSL_CURRENT) };
        // A drive that cannot tell, which is an error, is tried.
        if status >= 0 && status != CDS_DISC_OK {
            return Err(io::ErrorKind::NotFound.into());
        }
    }
    File::open(device)
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
pub(super) mod tests;
