//! The root tree: a sorted map from path to entry, with owner, mode and capabilities.
//!
//! Nothing is unpacked to a disk: contents are bytes in memory or ranges of files in the cache, so
//! that composing needs neither root nor a copy.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Where the bytes of a regular file are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// In memory.
    Bytes(Arc<[u8]>),
    /// `length` bytes at `offset` of a file that does not change while the tree lives: an unpacked
    /// package in the cache, a Kubernetes binary.
    Range {
        /// The file.
        path: PathBuf,
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
    },
}

impl Content {
    /// Size in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Range { length, .. } => *length,
        }
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A regular file.
    File(Content),
    /// A symbolic link to this target, verbatim.
    Link(String),
    /// A character device: major, minor.
    Character(u32, u32),
}

/// One entry of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Permission bits, setuid, setgid and sticky included.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// `security.capability` extended attribute, as the kernel stores it.
    pub capability: Option<Vec<u8>>,
    /// What brought it: `package iptables 1.8.9-2`, `overlay base`, for conflicts and `bootwright explain`.
    pub origin: Arc<str>,
}

/// The tree. Keys are absolute, normalised paths of the merged `/usr` (`/bin/ls` is stored as `/usr/bin/ls`);
/// the root itself has no entry: it is a folder 0755 of root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RootTree {
    /// Entries in byte order of their paths: a folder comes before what is in it.
    pub entries: BTreeMap<String, Entry>,
}
