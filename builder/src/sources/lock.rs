//! `bootwright.lock`: exactly which inputs a build is made of.
//!
//! It names no mirror: a package is known by suite, pool path and digest, so that another machine with
//! another mirror builds the same from it. What ties it to the request is written out (suite, package
//! lists, versions, file names), so that a difference can be told by name and the file can be reviewed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digests::is_sha256;
use crate::files;

/// Its name, beside the cluster file.
pub const LOCK_FILE: &str = "bootwright.lock";

/// The layout that this program reads and writes.
const VERSION: u32 = 1;

const HEADER: &str = "# Exactly which inputs the images are built from. Written by bootwright; keep it under version control.\n\
    # `bootwright build --update` renews it.\n\n";

/// Why a lock cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// It cannot be read or written.
    #[error(
        "could not {action} {path}: {source}; see to the rights and the room in its folder, which is the cluster file's"
    )]
    Io {
        /// What was tried.
        action: &'static str,
        /// The lock.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not in the format.
    #[error("{path}: {reason}\ncorrect the file, or build with --update to make it anew")]
    Form {
        /// The lock.
        path: PathBuf,
        /// What is wrong, with line and column.
        reason: String,
    },
}

/// A lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Lock {
    /// Layout of the file.
    pub version: u32,
    /// Debian suite that the packages are from.
    pub suite: String,
    /// Components of the archive, if the cluster file named any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<String>,
    /// Newest `Date` of the archive's suites, seconds since the Unix epoch: SOURCE_DATE_EPOCH of the build.
    pub epoch: u64,
    /// What was asked for, by name.
    #[serde(default, rename = "set")]
    pub sets: Vec<LockedSet>,
    /// Every package of every set, by name.
    #[serde(default, rename = "package")]
    pub packages: Vec<LockedPackage>,
    /// Kubernetes binaries, by name.
    #[serde(default, rename = "binary")]
    pub binaries: Vec<LockedBinary>,
    /// Local files, by path.
    #[serde(default, rename = "file")]
    pub files: Vec<LockedFile>,
}

/// A set of packages: the request, and which packages came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LockedSet {
    /// Its name.
    pub name: String,
    /// Whether dependencies were closed over.
    pub dependencies: bool,
    /// Wanted packages, sorted.
    pub install: Vec<String>,
    /// Excluded packages, sorted.
    pub exclude: Vec<String>,
    /// What came of it, sorted: names in [`Lock::packages`].
    pub packages: Vec<String>,
}

/// A package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LockedPackage {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// `amd64` or `all`.
    pub architecture: String,
    /// Suite that it is in.
    pub suite: String,
    /// Path below the archive's root, `pool/…`.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Digest.
    pub sha256: String,
}

/// A Kubernetes binary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LockedBinary {
    /// Its name.
    pub name: String,
    /// Kubernetes version.
    pub version: String,
    /// Bytes.
    pub size: u64,
    /// Digest.
    pub sha256: String,
}

/// A local file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LockedFile {
    /// As written in the cluster file.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Digest.
    pub sha256: String,
}

impl Lock {
    /// A lock without inputs yet.
    pub fn new(suite: &str, epoch: u64) -> Lock {
        Lock {
            version: VERSION,
            suite: suite.to_owned(),
            components: Vec::new(),
            epoch,
            sets: Vec::new(),
            packages: Vec::new(),
            binaries: Vec::new(),
            files: Vec::new(),
        }
    }

    /// Reads the lock at `path`; `None` if there is none.
    pub fn read(path: &Path) -> Result<Option<Lock>, LockError> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(LockError::Io { action: "read", path: path.to_owned(), source }),
        };
        let form = |reason: String| LockError::Form { path: path.to_owned(), reason };
        let text = String::from_utf8(bytes).map_err(|_| form("it is no text (UTF-8)".to_owned()))?;
        let lock = Lock::parse(&text).map_err(form)?;
        Ok(Some(lock))
    }

    fn parse(text: &str) -> Result<Lock, String> {
        #[derive(Deserialize)]
        struct Layout {
            version: u32,
        }
        let layout: Layout = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        if layout.version != VERSION {
            return Err(format!(
                "layout {} is not known to this bootwright, which writes {VERSION}",
                layout.version
            ));
        }
        let lock: Lock = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        lock.check()?;
        Ok(lock)
    }

    /// What the rest relies on: digests are digests, paths stay in the archive, sets name packages.
    fn check(&self) -> Result<(), String> {
        let digests = self.packages.iter().map(|package| (&package.name, &package.sha256));
        let digests = digests.chain(self.binaries.iter().map(|binary| (&binary.name, &binary.sha256)));
        for (name, sha256) in digests.chain(self.files.iter().map(|file| (&file.path, &file.sha256))) {
            if !is_sha256(sha256) {
                return Err(format!("{name}: {sha256:?} is not a SHA-256"));
            }
        }
        let mut names = BTreeSet::new();
        for package in &self.packages {
            if package.path.starts_with('/') || package.path.split('/').any(|part| part == "..") {
                return Err(format!("{}: path {:?} leads out of the archive", package.name, package.path));
            }
            if !names.insert(package.name.as_str()) {
                return Err(format!("package {:?} is there twice", package.name));
            }
        }
        for set in &self.sets {
            if let Some(name) = set.packages.iter().find(|name| !names.contains(name.as_str())) {
                return Err(format!("set {:?} has package {name:?}, which is not in the lock", set.name));
            }
        }
        Ok(())
    }

    /// The text of the file.
    pub fn to_text(&self) -> String {
        let body = toml::to_string_pretty(self).expect("strings, numbers and lists of them are always TOML");
        format!("{HEADER}{body}")
    }

    /// Writes the lock at `path`, whole or not at all. A file that is the same already is left alone.
    pub fn write(&self, path: &Path) -> Result<(), LockError> {
        let text = self.to_text();
        if fs::read(path).is_ok_and(|known| known == text.as_bytes()) {
            return Ok(());
        }
        let io = |source| LockError::Io { action: "write", path: path.to_owned(), source };
        files::replace(path, text.as_bytes(), 0o644).map_err(io)
    }

    /// The packages of a set, by name; empty if there is no such set.
    pub fn packages_of(&self, set: &str) -> Vec<&LockedPackage> {
        let Some(set) = self.sets.iter().find(|locked| locked.name == set) else { return Vec::new() };
        set.packages.iter().filter_map(|name| self.package(name)).collect()
    }

    /// A package by name.
    pub fn package(&self, name: &str) -> Option<&LockedPackage> {
        self.packages.iter().find(|package| package.name == name)
    }
}

#[cfg(test)]
#[path = "lock_tests.rs"]
mod tests;
