//! What can go wrong with the cache; a full disk is told apart.

use std::io;
use std::path::{Path, PathBuf};

/// Why the cache could not be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// Neither variable that says where the cache lies is set.
    #[error("no place for the cache: neither XDG_CACHE_HOME nor HOME is set; set one of them")]
    NoHome,
    /// The filesystem has no room.
    #[error(
        "no space left for {path}: at least {needed} more bytes are needed, {free} are free; make room there, \
         or name a cache on another filesystem with --cache or XDG_CACHE_HOME"
    )]
    Full {
        /// The file that was being written.
        path: PathBuf,
        /// Bytes that could not be written.
        needed: u64,
        /// Bytes that the filesystem still has for this user.
        free: u64,
    },
    /// An operation on a file of the cache failed.
    #[error(
        "could not {action} {path}: {source}; see to the rights of the cache's folders, \
         or name another cache with --cache or XDG_CACHE_HOME"
    )]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Reading what should go into the cache failed.
    #[error("could not read {path}: {source}")]
    Input {
        /// The file that was read.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The inserted bytes are not what was announced.
    #[error("{path} has SHA-256 {found}, expected {expected}")]
    Digest {
        /// The file that was read.
        path: PathBuf,
        /// What the caller expects.
        expected: String,
        /// What the bytes have.
        found: String,
    },
    /// A key that is not a file name.
    #[error("{key:?} cannot be a key in the cache: letters, digits, '.', '-', '_' and '+' only")]
    Key {
        /// The key.
        key: String,
    },
}

/// Fails early, before a download is started, if `bytes` do not fit where `path` lies.
pub fn require_space(path: &Path, bytes: u64) -> Result<(), CacheError> {
    match free_bytes(path) {
        Some(free) if free < bytes => Err(CacheError::Full { path: path.to_owned(), needed: bytes, free }),
        _ => Ok(()),
    }
}

/// An I/O error of writing `path`, told apart from a full disk.
pub fn full_or_io(action: &'static str, path: &Path, needed: u64, source: io::Error) -> CacheError {
    if is_full(&source) {
        let free = free_bytes(path).unwrap_or(0);
        return CacheError::Full { path: path.to_owned(), needed: needed.max(1), free };
    }
    io_error(action, path, source)
}

pub(super) fn io_error(action: &'static str, path: &Path, source: io::Error) -> CacheError {
    CacheError::Io { action, path: path.to_owned(), source }
}

/// Whether this, or what it comes from, is a write that the filesystem had no room for.
pub fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| {
        error.downcast_ref::<io::Error>().is_some_and(|error| {
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        })
    })
}

/// Bytes that the filesystem where `path` lies, or will lie, has for this user.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let existing = path.ancestors().find(|path| path.exists())?;
    rustix::fs::statvfs(existing).ok().map(|fs| fs.f_bavail.saturating_mul(fs.f_frsize))
}
