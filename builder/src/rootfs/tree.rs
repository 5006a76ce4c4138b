//! The root tree: a sorted map from path to entry, with owner, mode and capabilities.
//!
//! Nothing is unpacked to a disk: contents are bytes in memory or ranges of files in the cache, so
//! that composing needs neither root nor a copy.

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

pub use super::content::Content;
pub use super::entry::{Entry, Kind};
use super::paths::{self, PathError};
use crate::digests::hex;

/// Origin of folders that nothing brought explicitly: parents of what was inserted.
pub const IMPLICIT: &str = "parent folder";

/// The tree. Keys are absolute, normalised paths of the merged `/usr` (`/bin/ls` is stored as `/usr/bin/ls`);
/// the root itself has no entry: it is a folder 0755 of root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RootTree {
    /// Entries in byte order of their paths: a folder comes before what is in it.
    pub entries: BTreeMap<String, Entry>,
}

/// Why an entry cannot be in the tree.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The path is no path of a tree.
    #[error("{origin}: {source}")]
    Path {
        /// What brought it.
        origin: Arc<str>,
        /// Why.
        source: PathError,
    },
    /// Two sources bring different things to one path.
    #[error(
        "{path} is brought twice and differently: {first_origin} has a {first}, {second_origin} has a {second}; \
         prune one of them, or list the path in the overlay's `replace` if the overlay is to win"
    )]
    Conflict {
        /// Canonical path.
        path: String,
        /// What was there.
        first: String,
        /// Who brought that.
        first_origin: Arc<str>,
        /// What came.
        second: String,
        /// Who brought that.
        second_origin: Arc<str>,
    },
    /// Something on the way to the path is not a folder.
    #[error("{origin} has {path}, but {parent} is a {kind} of {parent_origin}, not a folder")]
    NotFolder {
        /// Canonical path.
        path: String,
        /// What brought it.
        origin: Arc<str>,
        /// The path on the way.
        parent: String,
        /// What that is.
        kind: &'static str,
        /// Who brought that.
        parent_origin: Arc<str>,
    },
    /// Contents could not be compared.
    #[error(
        "{path} is brought by {first_origin} and {second_origin}, and they could not be compared: {source}"
    )]
    Compare {
        /// Canonical path.
        path: String,
        /// Who brought it first.
        first_origin: Arc<str>,
        /// Who brought it second.
        second_origin: Arc<str>,
        /// Why.
        source: std::io::Error,
    },
}

impl RootTree {
    /// Puts an entry at `path` (any spelling) and makes the folders on the way.
    ///
    /// The same thing twice is one entry. A folder that was only implied takes the explicit owner and
    /// mode, whichever comes first. Anything else at the path is a conflict.
    pub fn insert(&mut self, path: &str, entry: Entry) -> Result<(), TreeError> {
        self.put(path, entry, false)
    }

    /// As [`RootTree::insert`], but what is at the path (not: below it) gives way.
    pub fn replace(&mut self, path: &str, entry: Entry) -> Result<(), TreeError> {
        self.put(path, entry, true)
    }

    fn put(&mut self, path: &str, entry: Entry, replace: bool) -> Result<(), TreeError> {
        let path = paths::canonical(path)
            .map_err(|source| TreeError::Path { origin: entry.origin.clone(), source })?;
        if path.is_empty() {
            return Ok(()); // The root: nobody's.
        }
        // A package that ships the folder /bin means the one that the link /bin leads to.
        let merged = entry.kind == Kind::Folder && paths::MERGED.contains(&&path[1..]);
        let path = if merged { format!("/usr{path}") } else { path };
        self.make_parents(&path, &entry.origin)?;
        let Some(present) = self.entries.get(&path) else {
            self.entries.insert(path, entry);
            return Ok(());
        };
        let keep = match (&present.kind, &entry.kind) {
            (Kind::Folder, Kind::Folder) => !(present.origin.as_ref() == IMPLICIT || replace),
            (Kind::Folder, _) | (_, Kind::Folder) => return Err(conflict(path, present, &entry)),
            _ if replace => false,
            _ => true,
        };
        if !keep {
            self.entries.insert(path, entry);
        } else if !same(&path, present, &entry)? {
            return Err(conflict(path, present, &entry));
        }
        Ok(())
    }

    fn make_parents(&mut self, path: &str, origin: &Arc<str>) -> Result<(), TreeError> {
        let folder = paths::parent(path);
        match self.entries.get(folder) {
            _ if folder.is_empty() => Ok(()),
            Some(Entry { kind: Kind::Folder, .. }) => Ok(()),
            Some(other) => Err(TreeError::NotFolder {
                path: path.to_owned(),
                origin: origin.clone(),
                parent: folder.to_owned(),
                kind: other.kind.noun(),
                parent_origin: other.origin.clone(),
            }),
            None => {
                self.make_parents(folder, origin)?;
                self.entries.insert(folder.to_owned(), Entry::folder(&IMPLICIT.into()));
                Ok(())
            }
        }
    }

    /// The entry at `path` (any spelling); links are not followed.
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.entries.get(&paths::canonical(path).ok()?)
    }

    /// Follows links, in the last component and on the way, as the kernel would inside the root.
    /// The canonical path and the entry there, or `None` if it leads nowhere or in a circle.
    pub fn resolve(&self, path: &str) -> Option<(String, &Entry)> {
        /// As the kernel's limit, `MAXSYMLINKS`.
        const MOST_LINKS: usize = 40;
        let mut path = paths::canonical(path).ok()?;
        for _ in 0..MOST_LINKS {
            let link = prefixes(&path).find_map(|prefix| match self.entries.get(prefix) {
                Some(Entry { kind: Kind::Link(target), .. }) => Some((prefix, target)),
                _ => None,
            });
            let Some((prefix, target)) = link else {
                return self.entries.get_key_value(&path).map(|(path, entry)| (path.clone(), entry));
            };
            let beyond = &path[prefix.len()..];
            path = paths::canonical(&format!("{}{beyond}", paths::target_of(prefix, target).ok()?)).ok()?;
        }
        None
    }

    /// A digest of everything that the tree's bytes are a function of: metadata, bytes in memory and
    /// the digests of the files that ranges are of. Reads no file. 64 hexadecimal digits.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for (path, entry) in &self.entries {
            let Entry { kind, mode, uid, gid, capability, origin: _ } = entry;
            hash.update(format!("{path}\0{mode:o} {uid} {gid} {}\0", kind.noun()));
            hash.update(capability.as_deref().map(hex).unwrap_or_default());
            match kind {
                Kind::Folder => {}
                Kind::File(content) => content.identify(&mut hash),
                Kind::Link(target) => hash.update(format!("\0{target}\0")),
                Kind::Character(major, minor) => hash.update(format!("\0{major}:{minor}\0")),
            }
        }
        hex(&hash.finalize())
    }

    /// Sum of the files' sizes, bytes.
    pub fn size(&self) -> u64 {
        let files = self.entries.values().filter_map(|entry| match &entry.kind {
            Kind::File(content) => Some(content.len()),
            _ => None,
        });
        files.sum()
    }
}

/// `/usr`, `/usr/bin`, `/usr/bin/x` of the last.
fn prefixes(path: &str) -> impl Iterator<Item = &str> {
    path.char_indices().skip(1).filter(|(_, c)| *c == '/').map(|(end, _)| &path[..end]).chain([path])
}

fn same(path: &str, first: &Entry, second: &Entry) -> Result<bool, TreeError> {
    let alike = match (&first.kind, &second.kind) {
        (Kind::File(a), Kind::File(b)) => a.same_bytes(b).map_err(|source| TreeError::Compare {
            path: path.to_owned(),
            first_origin: first.origin.clone(),
            second_origin: second.origin.clone(),
            source,
        })?,
        (a, b) => a == b,
    };
    // A link has no mode of its own.
    Ok(alike && (matches!(first.kind, Kind::Link(_)) || first.same_owner_and_mode(second)))
}

fn conflict(path: String, first: &Entry, second: &Entry) -> TreeError {
    TreeError::Conflict {
        path,
        first: first.describe(),
        first_origin: first.origin.clone(),
        second: second.describe(),
        second_origin: second.origin.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(name: &str) -> Arc<str> {
        name.into()
    }

    #[test]
    fn parents_are_made_and_explicit_ones_win_in_either_order() {
        for explicit_first in [true, false] {
            let mut tree = RootTree::default();
            let folder = Entry { uid: 7, mode: 0o700, ..Entry::folder(&origin("package a")) };
            let file = Entry::file("x", 0o644, &origin("package b"));
            if explicit_first {
                tree.insert("/var/lib/a", folder.clone()).expect("inserted");
                tree.insert("/var/lib/a/x", file).expect("inserted");
            } else {
                tree.insert("/var/lib/a/x", file).expect("inserted");
                tree.insert("/var/lib/a", folder.clone()).expect("inserted");
            }
            tree.insert("/var/lib/a", folder.clone()).expect("the same folder of another package");
            assert_eq!(tree.get("/var/lib/a"), Some(&folder));
            let other = Entry { mode: 0o755, ..folder.clone() };
            assert!(matches!(tree.insert("/var/lib/a", other), Err(TreeError::Conflict { .. })));
            assert_eq!(tree.get("/var").map(|entry| entry.origin.as_ref()), Some(IMPLICIT));
            assert_eq!(
                tree.entries.keys().collect::<Vec<_>>(),
                ["/var", "/var/lib", "/var/lib/a", "/var/lib/a/x"]
            );
        }
    }

    #[test]
    fn the_same_file_twice_is_one_and_a_different_one_names_both() {
        let mut tree = RootTree::default();
        tree.insert("/bin/x", Entry::file("x", 0o755, &origin("package a 1"))).expect("inserted");
        tree.insert("/usr/bin/x", Entry::file("x", 0o755, &origin("package b 2"))).expect("the same");
        let error =
            tree.insert("/usr/bin/x", Entry::file("yy", 0o755, &origin("overlay c"))).expect_err("differs");
        assert_eq!(
            error.to_string(),
            "/usr/bin/x is brought twice and differently: package a 1 has a file of 1 bytes, mode 0755, owner 0:0, \
             overlay c has a file of 2 bytes, mode 0755, owner 0:0; prune one of them, or list the path in the \
             overlay's `replace` if the overlay is to win"
        );
        let mode = tree.insert("/usr/bin/x", Entry::file("x", 0o700, &origin("overlay c")));
        assert!(matches!(mode, Err(TreeError::Conflict { .. })));
        tree.replace("/usr/bin/x", Entry::file("yy", 0o755, &origin("overlay c"))).expect("told to");
        assert_eq!(tree.size(), 2);
    }

    #[test]
    fn nothing_is_put_below_a_file_or_instead_of_a_folder() {
        let mut tree = RootTree::default();
        tree.insert("/etc/x", Entry::file("x", 0o644, &origin("package a"))).expect("inserted");
        let below =
            tree.insert("/etc/x/y", Entry::file("y", 0o644, &origin("package b"))).expect_err("a file");
        assert_eq!(
            below.to_string(),
            "package b has /etc/x/y, but /etc/x is a file of package a, not a folder"
        );
        let instead = tree.replace("/etc", Entry::link("x", &origin("package b")));
        assert!(matches!(instead, Err(TreeError::Conflict { .. })));
    }

    #[test]
    fn links_are_followed_inside_the_root() {
        let mut tree = RootTree::default();
        let by = origin("t");
        tree.insert("/usr/bin/kmod", Entry::file("k", 0o755, &by)).expect("inserted");
        tree.insert("/sbin/modprobe", Entry::link("../bin/kmod", &by)).expect("inserted");
        tree.insert("/opt/tools", Entry::link("/sbin", &by)).expect("inserted");
        tree.insert("/a", Entry::link("/b", &by)).expect("inserted");
        tree.insert("/b", Entry::link("a", &by)).expect("inserted");
        tree.insert("/sbin", Entry::link("usr/sbin", &by)).expect("inserted");
        assert_eq!(
            tree.resolve("/opt/tools/modprobe").map(|found| found.0).as_deref(),
            Some("/usr/bin/kmod")
        );
        assert_eq!(tree.resolve("/a"), None);
        assert_eq!(tree.resolve("/nowhere"), None);
    }

    #[test]
    fn the_digest_tells_trees_apart_without_reading() {
        let missing = |source: &str| {
            let content = Content::Range {
                path: "/does/not/exist".into(),
                offset: 1,
                length: 2,
                source: source.into(),
            };
            let mut tree = RootTree::default();
            let entry = Entry::new(Kind::File(content), 0o644, &origin("t"));
            tree.insert("/x", entry).expect("inserted");
            tree
        };
        assert_eq!(missing("a").digest(), missing("a").digest());
        assert_ne!(missing("a").digest(), missing("b").digest());
        let mut changed = missing("a");
        changed.entries.get_mut("/x").expect("is there").capability = Some(vec![1]);
        assert_ne!(missing("a").digest(), changed.digest());
    }
}
