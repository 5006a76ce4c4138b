//! The root filesystem: squashfs, made by `tar2sqfs` from a tar stream.
//!
//! tar2sqfs (squashfs-tools-ng) needs no root and no unpacked tree, keeps owners, devices and capabilities,
//! and writes the same bytes whatever the number of threads. Rejected: mksquashfs (implicit folders get the
//! builder's uid, and its times cannot all be set), backhand (drops extended attributes).
//!
//! zstd rather than another compressor: xz unpacks at less than half the speed, gzip is slower and larger, and
//! lz4 is half as large again without programs starting noticeably faster.

use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use thiserror::Error;

use super::host::{self, MissingTool};
use crate::progress::Progress;
use crate::sources::cache::free_bytes;

/// zstd level. Level 9 takes a third more time than 6 for 1 to 2 % fewer bytes, level 15 ten times as much for 8 %.
pub const ZSTD_LEVEL: u32 = 6;
/// Bytes of a data block. Starting a large program took as long with 128, 256 and 1024 KiB; larger blocks are smaller
/// on the disk (2 and 6 %), but each page that is missing brings a whole block into memory, and a node may have
/// little of it.
pub const BLOCK_SIZE: u32 = 256 << 10;
/// Less than this, bytes, is a full filesystem: what can be written between two looks at it.
const FULL: u64 = 16 << 20;
/// How often it is looked whether to stop, and how much room there is.
const INTERVAL: Duration = Duration::from_millis(50);
/// The file is padded to this, bytes: the block size of dm-verity.
const PADDING: u32 = 4096;

/// Ends the watch over tar2sqfs when it is dropped: also when what feeds it panics, as a scope waits for its threads.
struct Over<'a>(&'a AtomicBool, std::thread::Thread);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        self.1.unpark();
    }
}

/// Why no squashfs was made.
#[derive(Debug, Error)]
pub enum SquashfsError {
    /// Host tool.
    #[error(transparent)]
    Tool(#[from] MissingTool),
    /// A file could not be used.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// File.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The tree could not be turned into a tar stream.
    #[error("cannot feed the root tree to tar2sqfs: {0}")]
    Feed(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// tar2sqfs did not do it.
    #[error("tar2sqfs failed ({status}): {message}")]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        message: String,
    },
    /// The filesystem filled up. tar2sqfs calls that an I/O error, and removes its file before it ends.
    #[error(
        "no space left for {path}: {lowest} bytes were free when tar2sqfs gave up ({message}); make room there, \
         or name a cache on another filesystem with --cache or XDG_CACHE_HOME"
    )]
    Full {
        /// File.
        path: PathBuf,
        /// Fewest bytes that were seen free.
        lowest: u64,
        /// What tar2sqfs said.
        message: String,
    },
    /// Times have 32 bits.
    #[error(
        "the build time {epoch} is past the year 2106, which squashfs cannot hold: set SOURCE_DATE_EPOCH"
    )]
    Epoch {
        /// Seconds since the Unix epoch.
        epoch: u64,
    },
    /// tar2sqfs ended well and wrote something else.
    #[error("tar2sqfs wrote {path}, which is not a squashfs of whole {PADDING}-byte blocks: {reason}")]
    Output {
        /// File.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Looks for tar2sqfs.
pub fn check_tools() -> Result<(), MissingTool> {
    host::find_tool("tar2sqfs", "squashfs-tools-ng").map(drop)
}

/// Makes `out` from the tar stream that `feed` writes; returns its length.
///
/// `epoch` (seconds since the Unix epoch) is the time in the superblock and of folders that the stream does
/// not name. `out` must not exist; a caller gives a path in a temporary folder. When the person asks to
/// stop, tar2sqfs is ended: packing is the longest piece of work that a build has.
pub fn build<E>(
    feed: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    epoch: u64,
    threads: usize,
    out: &Path,
    progress: &dyn Progress,
) -> Result<u64, SquashfsError>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let epoch = u32::try_from(epoch).map_err(|_| SquashfsError::Epoch { epoch })?;
    let tool = host::find_tool("tar2sqfs", "squashfs-tools-ng")?;
    let mut child = Command::new(&tool)
        .args(["--quiet", "--no-skip", "--compressor", "zstd"])
        .args(["--comp-extra", &format!("level={ZSTD_LEVEL}")])
        .args(["--block-size", &BLOCK_SIZE.to_string()])
        .args(["--dev-block-size", &PADDING.to_string()])
        .args(["--num-jobs", &threads.max(1).to_string()])
        .args(["--defaults", &format!("uid=0,gid=0,mode=0755,mtime={epoch}")])
        .arg(out)
        .env_clear()
        .env("LC_ALL", "C")
        .env("SOURCE_DATE_EPOCH", epoch.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| SquashfsError::Io { action: "run", path: tool, source })?;

    let stdin = child.stdin.take().expect("stdin was asked for as a pipe");
    let mut stderr = child.stderr.take().expect("stderr was asked for as a pipe");
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let ended = AtomicBool::new(false);
    let mut lowest = free_bytes(out);
    // Read aside, so that neither side waits for the other with a full pipe.
    let (fed, message) = std::thread::scope(|scope| {
        let lowest = &mut lowest;
        let messages = scope.spawn(move || {
            let mut text = Vec::new();
            // What cannot be read is not shown; the exit status still counts.
            let _ = stderr.read_to_end(&mut text);
            String::from_utf8_lossy(&text).trim().to_owned()
        });
        // Beside the feeding, which may wait for a full pipe. The child is waited for after this scope, so
        // that its number is its own until then.
        let ended = &ended;
        let watch = scope.spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                *lowest = (*lowest).min(free_bytes(out));
                if let (true, Some(id)) = (progress.interrupted(), id) {
                    // It may have ended by itself: then there is nothing to end.
                    let _ = kill_process(id, Signal::KILL);
                    break;
                }
                std::thread::park_timeout(INTERVAL);
            }
        });
        let over = Over(ended, watch.thread().clone());
        let mut pipe = BufWriter::with_capacity(1 << 20, stdin);
        let fed = feed(&mut pipe).map_err(|error| SquashfsError::Feed(Box::new(error)));
        let fed = fed.and_then(|()| pipe.flush().map_err(|error| SquashfsError::Feed(Box::new(error))));
        if fed.is_err() {
            // A stream cut short at an entry's border would pass for a whole one.
            let _ = child.kill();
        }
        drop(pipe);
        let message = messages.join().unwrap_or_default();
        drop(over);
        (fed, message)
    });
    let status = child.wait().map_err(|source| SquashfsError::Io {
        action: "wait for",
        path: "tar2sqfs".into(),
        source,
    })?;
    // When tar2sqfs stops by itself, its own words say more than our broken pipe.
    if !status.success() && (fed.is_ok() || !message.is_empty()) {
        if let Some(lowest) = lowest.filter(|lowest| *lowest < FULL && message.contains("I/O error")) {
            return Err(SquashfsError::Full { path: out.to_owned(), lowest, message });
        }
        return Err(SquashfsError::Failed { status, message });
    }
    fed?;
    check(out)
}

/// The length of a squashfs of whole blocks.
fn check(path: &Path) -> Result<u64, SquashfsError> {
    let io = |action| move |source| SquashfsError::Io { action, path: path.to_owned(), source };
    let wrong = |reason: String| SquashfsError::Output { path: path.to_owned(), reason };
    let mut file = std::fs::File::open(path).map_err(io("open"))?;
    let length = file.metadata().map_err(io("look at"))?.len();
    let mut magic = [0; 4];
    file.read_exact(&mut magic).map_err(io("read"))?;
    if magic != *b"hsqs" {
        return Err(wrong("no magic number".to_owned()));
    }
    if length % u64::from(PADDING) != 0 {
        return Err(wrong(format!("{length} bytes")));
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    /// A tar stream with an owner, a device, a link and some text.
    fn feed(out: &mut dyn Write) -> io::Result<()> {
        let mut archive = tar::Builder::new(out);
        let mut entry = |path: &str, kind: tar::EntryType, mode: u32, body: &[u8]| {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_uid(7);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_size(body.len() as u64);
            if kind == tar::EntryType::Char {
                header.set_device_major(5)?;
                header.set_device_minor(1)?;
            }
            if kind == tar::EntryType::Symlink {
                header.set_link_name("bin/tool")?;
            }
            archive.append_data(&mut header, path, body)
        };
        entry("bin/", tar::EntryType::Directory, 0o755, b"")?;
        let body: Vec<u8> = (0..3_000_000_u32).flat_map(|n| (n / 3).to_le_bytes()).collect();
        entry("bin/tool", tar::EntryType::Regular, 0o4755, &body)?;
        entry("console", tar::EntryType::Char, 0o600, b"")?;
        entry("tool", tar::EntryType::Symlink, 0o777, b"")?;
        archive.finish()
    }

    fn made(threads: usize, epoch: u64) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("root.squashfs");
        let length = build(feed, epoch, threads, &out, &Silent).unwrap();
        let bytes = std::fs::read(&out).unwrap();
        assert_eq!(bytes.len() as u64, length);
        bytes
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let one = made(1, 1_700_000_000);
        assert_eq!(one.len() % 4096, 0);
        assert!(one == made(4, 1_700_000_000));
        // Offset 8 of the superblock is the time (kernel Documentation/filesystems/squashfs.rst).
        assert_eq!(one[8..12], 1_700_000_000_u32.to_le_bytes());
    }

    #[test]
    fn owners_devices_and_modes_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("root.squashfs");
        build(feed, 5, 2, &out, &Silent).unwrap();
        let done = Command::new("rdsquashfs").arg("--describe").arg(&out).output().expect("rdsquashfs runs");
        assert!(done.status.success());
        insta::assert_snapshot!(String::from_utf8(done.stdout).unwrap(), @r#"
        dir bin 0755 7 0
        file bin/tool 04755 7 0
        nod console 0600 7 0 c 5 1
        slink tool 0777 7 0 bin/tool
        "#);
    }

    #[test]
    fn a_feed_that_fails_is_reported_and_not_taken_for_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("root.squashfs");
        let error =
            build(|_| Err(io::Error::other("bad sector in the cache")), 0, 1, &out, &Silent).unwrap_err();
        assert!(error.to_string().contains("bad sector in the cache"), "{error}");
    }

    #[test]
    fn what_is_not_tar_is_refused_with_the_words_of_tar2sqfs() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("root.squashfs");
        let error = build(|pipe| pipe.write_all(&[b'x'; 4096]), 0, 1, &out, &Silent).unwrap_err();
        assert!(matches!(error, SquashfsError::Failed { .. }), "{error}");
        let error = build(|_| Ok::<_, io::Error>(()), 1 << 32, 1, &out, &Silent).unwrap_err();
        assert!(matches!(error, SquashfsError::Epoch { .. }), "{error}");
    }
}
