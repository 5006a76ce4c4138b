//! Initramfs segments: cpio archives of the format `newc`, plain or compressed with zstd.
//!
//! The kernel unpacks any number of segments one after the other (`Documentation/driver-api/early-userspace/
//! buffer-format.rst`), so the OS layer's segment stays in the cache and the cluster layer's small one is
//! made anew. The kernel makes no missing parent folders, hence neither do we leave any out.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use cpio::newc;
use thiserror::Error;

use crate::rootfs::tree::{Entry, Kind, RootTree};

/// How a segment is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// As it is: for a few kilobytes.
    Plain,
    /// zstd of this level.
    Zstd(i32),
}

/// Why no segment was made.
#[derive(Debug, Error)]
pub enum InitramfsError {
    /// A file's contents could not be read or did not have the size that the tree says.
    #[error("cannot put {path} into the initramfs: {source}")]
    Contents {
        /// In the tree.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// `newc` sizes have 32 bits.
    #[error("{path} has {size} bytes, a file of the initramfs may have at most 4294967295: leave it out")]
    TooLarge {
        /// In the tree.
        path: String,
        /// Bytes.
        size: u64,
    },
    /// `newc` has no extended attributes.
    #[error("{path} has file capabilities, which an initramfs cannot hold: leave it out of the initramfs")]
    Capability {
        /// In the tree.
        path: String,
    },
    /// Times have 32 bits.
    #[error(
        "the build time {epoch} is past the year 2106, which an initramfs cannot hold: set SOURCE_DATE_EPOCH"
    )]
    Epoch {
        /// Seconds since the Unix epoch.
        epoch: u64,
    },
    /// Compressing failed.
    #[error("cannot compress the initramfs: {source}")]
    Compress {
        /// Why.
        source: io::Error,
    },
}

/// One segment with everything in `tree`; every time is `epoch`, seconds since the Unix epoch.
pub fn segment(tree: &RootTree, epoch: u64, packing: Packing) -> Result<Vec<u8>, InitramfsError> {
    let mtime = u32::try_from(epoch).map_err(|_| InitramfsError::Epoch { epoch })?;
    match packing {
        Packing::Plain => archive(tree, mtime, Vec::new()),
        Packing::Zstd(level) => {
            let compress = |source| InitramfsError::Compress { source };
            // One thread: the result must not depend on the number of cores.
            let encoder = zstd::Encoder::new(Vec::new(), level).map_err(compress)?;
            archive(tree, mtime, encoder)?.finish().map_err(compress)
        }
    }
}

fn archive<W: Write>(tree: &RootTree, mtime: u32, mut out: W) -> Result<W, InitramfsError> {
    let parents = missing_parents(tree);
    let entries: BTreeMap<&str, &Entry> =
        parents.iter().chain(&tree.entries).map(|(path, entry)| (path.as_str(), entry)).collect();
    for (index, (path, entry)) in entries.into_iter().enumerate() {
        out = write_entry(out, path, entry, index as u32 + 1, mtime)?;
    }
    let trailer = |source| InitramfsError::Contents { path: "the end mark".to_owned(), source };
    newc::trailer(out).map_err(trailer)
}

/// Folders 0755 of root for parents without an entry of their own.
fn missing_parents(tree: &RootTree) -> BTreeMap<String, Entry> {
    let mut parents = BTreeMap::new();
    for path in tree.entries.keys() {
        for (slash, _) in path.match_indices('/').filter(|(slash, _)| *slash > 0) {
            let parent = &path[..slash];
            if !tree.entries.contains_key(parent) && !parents.contains_key(parent) {
                let entry = Entry {
                    kind: Kind::Folder,
                    mode: 0o755,
                    uid: 0,
                    gid: 0,
                    capability: None,
                    origin: Arc::from("parent folder"),
                };
                parents.insert(parent.to_owned(), entry);
            }
        }
    }
    parents
}

/// Inode numbers are set because the kernel takes equal ones for hard links.
fn write_entry<W: Write>(
    out: W,
    path: &str,
    entry: &Entry,
    inode: u32,
    mtime: u32,
) -> Result<W, InitramfsError> {
    if entry.capability.is_some() {
        return Err(InitramfsError::Capability { path: path.to_owned() });
    }
    let failed = |source| InitramfsError::Contents { path: path.to_owned(), source };
    let links = if entry.kind == Kind::Folder { 2 } else { 1 };
    let builder = newc::Builder::new(path.trim_start_matches('/'))
        .ino(inode)
        .mode(entry.mode & 0o7777)
        .uid(entry.uid)
        .gid(entry.gid)
        .nlink(links)
        .mtime(mtime);
    match &entry.kind {
        Kind::Folder => builder.set_mode_file_type(newc::ModeFileType::Directory).write(out, 0).finish(),
        Kind::Character(major, minor) => builder
            .set_mode_file_type(newc::ModeFileType::Char)
            .rdev_major(*major)
            .rdev_minor(*minor)
            .write(out, 0)
            .finish(),
        Kind::Link(target) => {
            // A target is at most PATH_MAX long.
            let mut writer =
                builder.set_mode_file_type(newc::ModeFileType::Symlink).write(out, target.len() as u32);
            writer.write_all(target.as_bytes()).map_err(failed)?;
            writer.finish()
        }
        Kind::File(content) => {
            let size = content.len();
            let length =
                u32::try_from(size).map_err(|_| InitramfsError::TooLarge { path: path.to_owned(), size })?;
            let mut writer = builder.set_mode_file_type(newc::ModeFileType::Regular).write(out, length);
            content.copy_to(&mut writer).map_err(failed)?;
            writer.finish()
        }
    }
    .map_err(failed)
}

#[cfg(test)]
#[path = "initramfs_tests.rs"]
mod tests;
