//! The state filesystem: recognised by its superblock, made, checked, grown, labelled.
//!
//! The label tells a finished filesystem from one that a power cut interrupted: it is made as
//! `STATE-NEW` and becomes `STATE` when everything in it is on the disk. Not a marker file, because
//! that could be read only after mounting what may be half-made.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use bootwright_model::layout;

/// Label of a state filesystem that is not finished.
const UNFINISHED_LABEL: &str = "STATE-NEW";
const MAKE: &str = "/usr/sbin/mkfs.ext4";
const CHECK: &str = "/usr/sbin/e2fsck";

/// Bytes of a partition that tell what filesystem it has: the primary superblock with whatever other
/// filesystems keep at the front, and the first backup (block group 1, 4 KiB blocks).
pub const SUPERBLOCK_PLACES: [Range<u64>; 2] = [0..64 << 10, 128 << 20..(128 << 20) + 4096];

/// `FS_IOC_SETFSLABEL` of linux/fs.h, `_IOW(0x94, 50, char[256])`.
const SET_LABEL: libc::c_ulong = 0x4100_9432;
/// `EXT4_IOC_RESIZE_FS` of Linux' fs/ext4/ext4.h, `_IOW('f', 16, __u64)`: what resize2fs does online.
const RESIZE: libc::c_ulong = 0x4008_6610;

/// What a partition holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contents {
    /// A finished state filesystem.
    State(Superblock),
    /// Nothing, or a state filesystem whose making was interrupted.
    Unfinished,
    /// The primary superblock is gone but a backup of a finished state filesystem is there.
    Damaged,
    /// Something that first boot did not make.
    Foreign(String),
}

/// What matters of an ext4 superblock (Linux, Documentation/filesystems/ext4/super.rst).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// Volume label.
    pub label: String,
    /// No error was noted and no journal is left to replay.
    pub clean: bool,
    /// Size in blocks.
    pub blocks: u64,
    /// Bytes per block.
    pub block_bytes: u64,
}

/// A program that failed, or could not be run.
#[derive(Debug, thiserror::Error)]
pub enum Ext4Error {
    /// A device or mount cannot be read or written.
    #[error("{path}: cannot {what}")]
    Io {
        /// Device or mount point.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The program is not there.
    #[error("{program} cannot be run")]
    Run {
        /// The program.
        program: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It ran and failed.
    #[error("{program} {device} ended with {status}: {output}")]
    Program {
        /// The program.
        program: &'static str,
        /// The device that it worked on.
        device: PathBuf,
        /// `exit code 8` or `signal 9`.
        status: String,
        /// The last lines it wrote.
        output: String,
    },
}

/// Looks at a partition.
pub fn inspect(device: &Path) -> Result<Contents, Ext4Error> {
    let error = |source| Ext4Error::Io { path: device.to_owned(), what: "read the superblock", source };
    let file = File::open(device).map_err(error)?;
    let mut front = [0; 4096];
    file.read_exact_at(&mut front, 0).map_err(error)?;
    if let Some(superblock) = Superblock::parse(&front[1024..2048]) {
        return Ok(match superblock.label.as_str() {
            layout::STATE_LABEL => Contents::State(superblock),
            UNFINISHED_LABEL => Contents::Unfinished,
            other => Contents::Foreign(format!("an ext4 filesystem labelled `{other}`")),
        });
    }
    if front.iter().any(|&byte| byte != 0) {
        return Ok(Contents::Foreign("data that is no ext4 filesystem".to_owned()));
    }
    let mut backup = [0; 1024];
    // A partition too short for a second block group has no backup.
    let backup = file.read_exact_at(&mut backup, SUPERBLOCK_PLACES[1].start).map(|()| backup);
    let backup = backup.ok().and_then(|bytes| Superblock::parse(&bytes));
    Ok(match backup {
        Some(superblock) if superblock.label == layout::STATE_LABEL => Contents::Damaged,
        _ => Contents::Unfinished,
    })
}

impl Superblock {
    fn parse(bytes: &[u8]) -> Option<Superblock> {
        const MAGIC: u16 = 0xef53;
        const VALID: u16 = 1;
        const RECOVER: u32 = 4;
        let word16 = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let word32 = |at: usize| u32::from(word16(at)) | u32::from(word16(at + 2)) << 16;
        if bytes.len() < 1024 || word16(56) != MAGIC || word32(24) > 6 {
            return None;
        }
        let label = &bytes[120..136];
        let end = label.iter().position(|&byte| byte == 0).unwrap_or(label.len());
        Some(Superblock {
            label: String::from_utf8_lossy(&label[..end]).into_owned(),
            clean: word16(58) == VALID && word32(96) & RECOVER == 0,
            blocks: u64::from(word32(4)) | u64::from(word32(336)) << 32,
            block_bytes: 1024 << word32(24),
        })
    }
}

/// Makes an unfinished state filesystem.
///
/// Inode tables and journal are zeroed later by the kernel, and nothing is discarded: both would take
/// time in proportion to the disk.
pub fn make(device: &Path) -> Result<(), Ext4Error> {
    let mut command = Command::new(MAKE);
    command.args(["-q", "-F", "-m", "1", "-L", UNFINISHED_LABEL, "-b", "4096"]);
    command.args(["-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"]).arg(device);
    let output = run(MAKE, &mut command)?;
    if output.status.success() { Ok(()) } else { Err(failed(MAKE, device, &output)) }
}

/// Repairs what can be repaired without a question; says what it did, `None` if nothing.
pub fn check(device: &Path) -> Result<Option<String>, Ext4Error> {
    /// e2fsck(8): 0 no errors, 1 corrected, 2 corrected and "reboot" (of a mounted root: not ours).
    const CORRECTED: i32 = 2;
    let output = run(CHECK, Command::new(CHECK).arg("-p").arg(device))?;
    match output.status.code() {
        Some(0) => Ok(None),
        Some(code) if code <= CORRECTED => Ok(Some(last_lines(&output))),
        _ => Err(failed(CHECK, device, &output)),
    }
}

/// Marks the mounted filesystem as finished; everything in it is on the disk first.
pub fn finish(mount: &Path) -> Result<(), Ext4Error> {
    let error = |what| move |source: io::Error| Ext4Error::Io { path: mount.to_owned(), what, source };
    let folder = File::open(mount).map_err(error("be opened"))?;
    sync(&folder).map_err(error("be flushed"))?;
    let mut label = [0_u8; 256];
    label[..layout::STATE_LABEL.len()].copy_from_slice(layout::STATE_LABEL.as_bytes());
    // SAFETY: the kernel reads 256 bytes from the buffer.
    let result = unsafe { libc::ioctl(folder.as_raw_fd(), SET_LABEL, label.as_ptr()) };
    if result < 0 {
        return Err(error("take its label")(io::Error::last_os_error()));
    }
    sync(&folder).map_err(error("be flushed"))
}

/// Grows the mounted filesystem to `bytes`; false if it has that size already.
pub fn grow(mount: &Path, now: &Superblock, bytes: u64) -> Result<bool, Ext4Error> {
    let blocks = bytes / now.block_bytes;
    if blocks <= now.blocks {
        return Ok(false);
    }
    let error = |source| Ext4Error::Io { path: mount.to_owned(), what: "be grown", source };
    let folder = File::open(mount).map_err(error)?;
    // SAFETY: the kernel reads one 64-bit number.
    let result = unsafe { libc::ioctl(folder.as_raw_fd(), RESIZE, &blocks) };
    if result < 0 { Err(error(io::Error::last_os_error())) } else { Ok(true) }
}

fn sync(folder: &File) -> io::Result<()> {
    rustix::fs::syncfs(folder).map_err(io::Error::from)
}

fn run(program: &'static str, command: &mut Command) -> Result<Output, Ext4Error> {
    let command = command.stdin(Stdio::null()).env_clear().env("PATH", "/usr/sbin:/usr/bin");
    command.output().map_err(|source| Ext4Error::Run { program, source })
}

fn failed(program: &'static str, device: &Path, output: &Output) -> Ext4Error {
    let status = match (output.status.code(), output.status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => output.status.to_string(),
    };
    Ext4Error::Program { program, device: device.to_owned(), status, output: last_lines(output) }
}

fn last_lines(output: &Output) -> String {
    const MOST_LINES: usize = 4;
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(MOST_LINES)..].join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A partition of 256 MiB with a filesystem by the real mkfs.
    fn partition() -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(256 << 20).unwrap();
        file
    }

    fn set_label(device: &Path, label: &str) {
        let output = Command::new("/usr/sbin/tune2fs").args(["-L", label]).arg(device).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    #[test]
    fn a_partition_goes_from_empty_to_finished() {
        let file = partition();
        assert_eq!(inspect(file.path()).unwrap(), Contents::Unfinished);
        make(file.path()).unwrap();
        assert_eq!(inspect(file.path()).unwrap(), Contents::Unfinished);
        // Stands for `finish`, which wants a mount.
        set_label(file.path(), "STATE");
        let Contents::State(superblock) = inspect(file.path()).unwrap() else { panic!("no state") };
        assert!(superblock.clean);
        assert_eq!(superblock.blocks * superblock.block_bytes, 256 << 20);
        assert_eq!(check(file.path()).unwrap(), None);
    }

    #[test]
    fn a_lost_superblock_is_not_taken_for_an_empty_partition() {
        let file = partition();
        make(file.path()).unwrap();
        set_label(file.path(), "STATE");
        file.as_file().write_all_at(&[0; 65536], 0).unwrap();
        assert_eq!(inspect(file.path()).unwrap(), Contents::Damaged);
        let repaired = check(file.path());
        // e2fsck may ask for a person; it never passes in silence.
        assert!(!matches!(repaired, Ok(None)), "{repaired:?}");
    }

    #[test]
    fn others_data_is_left_alone() {
        let file = partition();
        make(file.path()).unwrap();
        set_label(file.path(), "photos");
        assert!(matches!(inspect(file.path()).unwrap(), Contents::Foreign(what) if what.contains("photos")));
        file.as_file().write_all_at(b"LUKS\xba\xbe", 0).unwrap();
        file.as_file().write_all_at(&[0; 1024], 1024).unwrap();
        assert!(matches!(inspect(file.path()).unwrap(), Contents::Foreign(_)));
    }

    #[test]
    fn a_program_that_fails_says_what_it_said() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(4096).unwrap();
        let error = make(file.path()).unwrap_err().to_string();
        assert!(error.contains("exit code 1"), "{error}");
    }
}
