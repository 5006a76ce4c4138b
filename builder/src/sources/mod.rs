//! Inputs of a build: the Debian archive, Kubernetes binaries, files; their cache and the lock.

use std::path::PathBuf;

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
