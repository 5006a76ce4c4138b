//! Lays unpacked packages into a tree: headers are read, contents stay where they are in the cache.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::PathBuf;
use std::sync::Arc;

use tar::EntryType;

use super::globs::Globs;
use super::paths::{self, PathError};
use super::tree::{Content, Entry, Kind, RootTree, TreeError};

/// An unpacked package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Name.
    pub name: String,
    /// Full Debian version.
    pub version: String,
    /// SHA-256 of the `.deb`, hexadecimal.
    pub sha256: String,
    /// Its `data.tar`, decompressed.
    pub data: PathBuf,
}

/// Why a package could not be laid.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// The unpacked tar could not be read.
    #[error("package {package}: {path}: {source}; delete the file and build again to unpack it anew")]
    Read {
        /// Name.
        package: String,
        /// The tar.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A member that no root of ours can have.
    #[error("package {package} has {path}: {what}")]
    Member {
        /// Name.
        package: String,
        /// Path in the tar.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// A member's path.
    #[error("package {package}: {source}")]
    Path {
        /// Name.
        package: String,
        /// Why.
        source: PathError,
    },
    /// It cannot be in the tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// It lacks a file that was asked of it.
    #[error("package {package} {version} has no file {path}")]
    Missing {
        /// Name.
        package: String,
        /// Version.
        version: String,
        /// Path asked for.
        path: String,
    },
}

/// Which of a package's paths come into the tree.
pub struct Selection<'a> {
    /// Left out.
    pub prune: &'a Globs,
    /// Kept although `prune` matches.
    pub keep: &'a Globs,
}

impl Selection<'_> {
    fn takes(&self, path: &str) -> bool {
        !self.prune.matches(path) || self.keep.matches(path)
    }
}

/// The members of a package, in the tar's order, at canonical paths.
pub fn entries(package: &Package) -> Result<Vec<(String, Entry)>, PackageError> {
    let read =
        |source| PackageError::Read { package: package.name.clone(), path: package.data.clone(), source };
    // Small: a member's header is read, then its contents are sought over.
    let file = BufReader::with_capacity(4 << 10, File::open(&package.data).map_err(read)?);
    let mut archive = tar::Archive::new(file);
    let mut reader = Reader {
        package,
        origin: format!("package {} {}", package.name, package.version).into(),
        source: package.sha256.as_str().into(),
        files: BTreeMap::new(),
    };
    let mut found = Vec::new();
    for member in archive.entries_with_seek().map_err(read)? {
        let mut member = member.map_err(read)?;
        let shipped = String::from_utf8(member.path_bytes().into_owned())
            .map_err(|e| reader.refuse(&String::from_utf8_lossy(e.as_bytes()), "its path is not UTF-8"))?;
        let path = paths::canonical(&shipped)
            .map_err(|source| PackageError::Path { package: package.name.clone(), source })?;
        if let (false, Some(entry)) = (path.is_empty(), reader.entry(&mut member, &shipped, &path)?) {
            found.push((path, entry));
        }
    }
    Ok(found)
}

struct Reader<'a> {
    package: &'a Package,
    origin: Arc<str>,
    source: Arc<str>,
    /// Regular files by canonical path, for the hard links that follow them.
    files: BTreeMap<String, Entry>,
}

impl Reader<'_> {
    fn refuse(&self, path: &str, what: &str) -> PackageError {
        PackageError::Member {
            package: self.package.name.clone(),
            path: path.to_owned(),
            what: what.to_owned(),
        }
    }

    fn io(&self, source: std::io::Error) -> PackageError {
        PackageError::Read { package: self.package.name.clone(), path: self.package.data.clone(), source }
    }

    fn entry<R: Read>(
        &mut self,
        member: &mut tar::Entry<'_, R>,
        shipped: &str,
        path: &str,
    ) -> Result<Option<Entry>, PackageError> {
        let kind = match member.header().entry_type() {
            EntryType::Directory => Kind::Folder,
            EntryType::Regular | EntryType::Continuous => Kind::File(Content::Range {
                path: self.package.data.clone(),
                offset: member.raw_file_position(),
                length: member.size(),
                source: self.source.clone(),
            }),
            EntryType::Symlink => {
                let target = self.link_name(member, shipped)?;
                let moved = paths::moved_target(shipped, &target);
                Kind::Link(moved.map_err(|e| self.refuse(shipped, &format!("a link to {target}: {e}")))?)
            }
            EntryType::Link => {
                let target = self.link_name(member, shipped)?;
                let same = paths::canonical(&target).ok().and_then(|target| self.files.get(&target));
                let what = format!("a hard link to {target}, which is no file before it in the package");
                return Ok(Some(same.cloned().ok_or_else(|| self.refuse(shipped, &what))?));
            }
            EntryType::XGlobalHeader => return Ok(None),
            other => {
                return Err(
                    self.refuse(shipped, &format!("a member of type {other:?}, which a root cannot have"))
                );
            }
        };
        let owner = |id: std::io::Result<u64>| {
            let id = id.map_err(|e| self.io(e))?;
            u32::try_from(id).map_err(|_| self.refuse(shipped, &format!("owner {id} is out of range")))
        };
        let entry = Entry {
            kind,
            mode: member.header().mode().map_err(|e| self.io(e))? & 0o7777,
            uid: owner(member.header().uid())?,
            gid: owner(member.header().gid())?,
            capability: self.capability(member)?,
            origin: self.origin.clone(),
        };
        if let Kind::File(_) = entry.kind {
            self.files.insert(path.to_owned(), entry.clone());
        }
        Ok(Some(entry))
    }

    fn link_name<R: Read>(&self, member: &tar::Entry<'_, R>, shipped: &str) -> Result<String, PackageError> {
        let target =
            member.link_name_bytes().ok_or_else(|| self.refuse(shipped, "a link without a target"))?;
        String::from_utf8(target.into_owned())
            .map_err(|_| self.refuse(shipped, "a link whose target is not UTF-8"))
    }

    /// `security.capability` from the PAX records, as GNU tar and star write it.
    fn capability<R: Read>(&self, member: &mut tar::Entry<'_, R>) -> Result<Option<Vec<u8>>, PackageError> {
        let Some(records) = member.pax_extensions().map_err(|e| self.io(e))? else { return Ok(None) };
        for record in records {
            let record = record.map_err(|e| self.io(e))?;
            if record.key_bytes() == super::tar::CAPABILITY_RECORD.as_bytes() {
                return Ok(Some(record.value_bytes().to_owned()));
            }
        }
        Ok(None)
    }
}

/// Lays what `selection` takes of a package into the tree.
pub fn lay(tree: &mut RootTree, package: &Package, selection: &Selection) -> Result<(), PackageError> {
    for (path, entry) in entries(package)? {
        if selection.takes(&path) {
            tree.insert(&path, entry)?;
        }
    }
    Ok(())
}

/// One regular file of a package, at `path` in any spelling; links are followed inside the package.
pub fn file(package: &Package, path: &str) -> Result<Content, PackageError> {
    let missing = || PackageError::Missing {
        package: package.name.clone(),
        version: package.version.clone(),
        path: path.to_owned(),
    };
    let mut tree = RootTree::default();
    for (path, entry) in entries(package)? {
        tree.insert(&path, entry)?;
    }
    match tree.resolve(path).map(|(_, entry)| &entry.kind) {
        Some(Kind::File(content)) => Ok(content.clone()),
        _ => Err(missing()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Members: path, type, contents or target.
    fn package(folder: &std::path::Path, members: &[(&str, EntryType, &str)]) -> Package {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, kind, text) in members {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(if *kind == EntryType::Directory { 0o755 } else { 0o4755 });
            header.set_uid(0);
            header.set_gid(42);
            match kind {
                EntryType::Symlink | EntryType::Link => {
                    header.set_size(0);
                    builder.append_link(&mut header, path, text).expect("appended");
                }
                _ => {
                    header.set_size(text.len() as u64);
                    builder.append_data(&mut header, path, text.as_bytes()).expect("appended");
                }
            }
        }
        let data = folder.join("data.tar");
        std::fs::write(&data, builder.into_inner().expect("finished")).expect("written");
        Package { name: "p".to_owned(), version: "1".to_owned(), sha256: "aa".to_owned(), data }
    }

    fn globs(patterns: &[&str]) -> Globs {
        let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        Globs::new("test", &patterns).expect("good globs")
    }

    #[test]
    fn a_package_is_laid_pruned_and_its_hard_links_are_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let package = package(
            folder.path(),
            &[
                ("./", EntryType::Directory, ""),
                ("./bin/", EntryType::Directory, ""),
                ("./bin/real", EntryType::Regular, "program"),
                ("./sbin/hard", EntryType::Link, "./bin/real"),
                ("./sbin/soft", EntryType::Symlink, "../bin/real"),
                ("./usr/share/doc/p/copyright", EntryType::Regular, "free"),
                ("./usr/share/doc/p/README", EntryType::Regular, "words"),
            ],
        );
        let mut tree = RootTree::default();
        let (prune, keep) = (globs(&["/usr/share/**", "/usr/bin/*"]), globs(&["/usr/share/doc/*/copyright"]));
        lay(&mut tree, &package, &Selection { prune: &prune, keep: &keep }).expect("laid");
        let all: Vec<_> = tree.entries.keys().map(String::as_str).collect();
        assert_eq!(
            all,
            [
                "/usr",
                "/usr/bin",
                "/usr/sbin",
                "/usr/sbin/hard",
                "/usr/sbin/soft",
                "/usr/share",
                "/usr/share/doc",
                "/usr/share/doc/p",
                "/usr/share/doc/p/copyright"
            ]
        );
        let hard = tree.get("/sbin/hard").expect("laid although its first name was pruned");
        assert_eq!((hard.mode, hard.uid, hard.gid), (0o4755, 0, 42));
        let Kind::File(content) = &hard.kind else { panic!("a hard link is a file") };
        assert_eq!(content.read().expect("read"), b"program");
        assert_eq!(
            tree.get("/sbin/soft").map(|entry| &entry.kind),
            Some(&Kind::Link("../bin/real".to_owned()))
        );
        assert_eq!(file(&package, "/bin/real").expect("there").read().expect("read"), b"program");
        let missing = file(&package, "/bin/other").expect_err("not there");
        assert_eq!(missing.to_string(), "package p 1 has no file /bin/other");
    }

    #[test]
    fn members_that_a_root_cannot_have_are_refused_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        for (member, expected) in [
            (
                ("./dev/sda", EntryType::Block, ""),
                "package p has dev/sda: a member of type Block, which a root cannot have",
            ),
            (
                ("./a", EntryType::Link, "./b"),
                "package p has a: a hard link to ./b, which is no file before it in the package",
            ),
            (
                ("./a", EntryType::Symlink, "../../b"),
                "package p has a: a link to ../../b: path \"../../b\" leaves the root",
            ),
        ] {
            let error = entries(&package(folder.path(), &[member])).expect_err("refused");
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn a_truncated_tar_is_an_error_that_says_what_to_do() {
        let folder = tempfile::tempdir().expect("a folder");
        let package = package(folder.path(), &[("./a", EntryType::Regular, "text")]);
        let bytes = std::fs::read(&package.data).expect("read");
        std::fs::write(&package.data, &bytes[..300]).expect("written");
        let error = entries(&package).expect_err("half a header").to_string();
        assert!(
            error.starts_with("package p: ") && error.ends_with("build again to unpack it anew"),
            "{error}"
        );
    }

    #[test]
    fn capabilities_are_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut builder = tar::Builder::new(Vec::new());
        let value = [1u8, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0];
        builder
            .append_pax_extensions([(super::super::tar::CAPABILITY_RECORD, value.as_slice())])
            .expect("appended");
        let mut header = tar::Header::new_ustar();
        header.set_size(1);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        builder.append_data(&mut header, "usr/bin/ping", b"x".as_slice()).expect("appended");
        let data = folder.path().join("t");
        std::fs::write(&data, builder.into_inner().expect("finished")).expect("written");
        let package = Package { name: "p".into(), version: "1".into(), sha256: "aa".into(), data };
        let found = entries(&package).expect("read");
        assert_eq!(found[0].1.capability.as_deref(), Some(value.as_slice()));
    }
}
