//! Inputs of a build: the Debian archive, Kubernetes binaries, files; their cache and the lock.
//!
//! A build calls [`pin`] for exactly which inputs, from the lock or from the archive's indexes, and then
//! [`Pinned::fetch`] for the files themselves. With a lock and a filled cache, neither touches the network.

pub mod cache;
pub mod debian;
pub mod fetch;
pub mod files;
pub mod kubernetes;
pub mod lock;
pub mod pin;
pub mod readers;

#[cfg(test)]
#[allow(dead_code, reason = "the tests of whole builds use the rest")]
mod testing;

use std::path::PathBuf;

pub use cache::{Cache, CacheError};
pub use debian::upstream_version;
pub use lock::{LOCK_FILE, Lock, LockError, LockedBinary, LockedFile, LockedPackage};
pub use pin::{FetchedPackage, Inputs, PackageSet, Pinned, Request, SourcesError, pin};

/// A file in the content-addressed cache, or a local file whose digest is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// What it is, for people: `containerd_1.6.20_amd64.deb`.
    pub name: String,
    /// Version, for the lock; empty if it has none.
    pub version: String,
    /// SHA-256, 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
    /// Where it lies now.
    pub path: PathBuf,
}
