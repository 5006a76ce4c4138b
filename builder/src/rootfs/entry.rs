//! What stands at one path of the root tree.

use std::sync::Arc;

use super::content::Content;

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

impl Kind {
    /// For messages.
    pub fn noun(&self) -> &'static str {
        match self {
            Kind::Folder => "folder",
            Kind::File(_) => "file",
            Kind::Link(_) => "link",
            Kind::Character(..) => "device",
        }
    }
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

impl Entry {
    /// An entry of root's.
    pub fn new(kind: Kind, mode: u32, origin: &Arc<str>) -> Entry {
        Entry { kind, mode, uid: 0, gid: 0, capability: None, origin: origin.clone() }
    }

    /// A folder 0755 of root.
    pub fn folder(origin: &Arc<str>) -> Entry {
        Entry::new(Kind::Folder, 0o755, origin)
    }

    /// A file of root with these bytes.
    pub fn file(bytes: impl Into<Vec<u8>>, mode: u32, origin: &Arc<str>) -> Entry {
        Entry::new(Kind::File(Content::bytes(bytes)), mode, origin)
    }

    /// A symbolic link.
    pub fn link(target: impl Into<String>, origin: &Arc<str>) -> Entry {
        Entry::new(Kind::Link(target.into()), 0o777, origin)
    }

    /// Whether the attributes that are not contents are alike.
    pub(super) fn same_owner_and_mode(&self, other: &Entry) -> bool {
        (self.mode, self.uid, self.gid, &self.capability)
            == (other.mode, other.uid, other.gid, &other.capability)
    }

    /// For messages.
    pub(super) fn describe(&self) -> String {
        match &self.kind {
            Kind::Link(target) => format!("link to {target}"),
            kind => {
                let size = if let Kind::File(content) = kind {
                    format!(" of {} bytes", content.len())
                } else {
                    String::new()
                };
                format!("{}{size}, mode {:04o}, owner {}:{}", kind.noun(), self.mode, self.uid, self.gid)
            }
        }
    }
}
