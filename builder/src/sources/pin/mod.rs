//! Which inputs exactly ([`pin`]), and then the inputs ([`Pinned::fetch`]).

mod check;
mod fetch_inputs;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bootwright_model::cluster::{Base, Kubernetes};

use super::debian::apt_config::AptConfig;
use super::debian::deb::DebError;
use super::debian::index::{IndexError, Universe};
use super::debian::resolve::{self, ResolveError};
use super::debian::{Archive, ArchiveError, SourceError, source};
use super::fetch::{FetchError, Fetcher, Options};
use super::files::{self, FilesError};
use super::kubernetes::{self, KubernetesError};
use super::lock::{Lock, LockError, LockedBinary, LockedFile, LockedPackage, LockedSet};
use super::{Artifact, Cache, CacheError};
use crate::progress::Progress;

/// Why the inputs cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SourcesError {
    /// The sources of the archive.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The package lists.
    #[error("package set {set:?}: {reason}")]
    Resolve {
        /// The set.
        set: String,
        /// Why.
        reason: ResolveError,
    },
    /// An index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A package.
    #[error(transparent)]
    Deb(#[from] DebError),
    /// A Kubernetes binary.
    #[error(transparent)]
    Kubernetes(#[from] KubernetesError),
    /// A local file.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The lock.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A download.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The request is not the one that the lock was made for, or an input changed.
    #[error("{difference}, so the lock does not describe this build; build with --update to renew it")]
    Locked {
        /// What differs.
        difference: String,
    },
    /// What came is not what the lock says.
    #[error(
        "{package} {version} is not what the lock says: {reason}; if the lock was changed by hand, \
         change it back, or build with --update to make it anew"
    )]
    NotAsLocked {
        /// The package.
        package: String,
        /// Its version in the lock.
        version: String,
        /// The difference.
        reason: Box<FetchError>,
    },
    /// The words of the lock about a package are not those of the package.
    #[error(
        "package {package} of the lock: {field} is {locked:?} there and {found:?} in the package itself; \
         if the lock was changed by hand, change it back, or build with --update to make it anew"
    )]
    Mislabelled {
        /// The package.
        package: String,
        /// Field of its control file (deb-control(5)).
        field: &'static str,
        /// What the lock says.
        locked: String,
        /// What the package says.
        found: String,
    },
    /// The lock names a file that the mirror no longer has.
    #[error(
        "{package} {version} of the lock is not in the archive any more ({reason}); \
         build with --update to take what is current, or set mirror in [base] to one that keeps old packages"
    )]
    Gone {
        /// The package.
        package: String,
        /// Its version.
        version: String,
        /// The answer.
        reason: Box<FetchError>,
    },
}

/// A named list of Debian packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageSet {
    /// Unique name, for the lock: `os`, `uefi`, `image/bootwright.local/web:1`.
    pub name: String,
    /// Wanted packages; the kernel's meta package is one of them.
    pub install: Vec<String>,
    /// Never installed although depended upon.
    pub exclude: Vec<String>,
    /// Close over `Depends` and `Pre-Depends`.
    pub dependencies: bool,
    /// What the build does without if the archive lacks a wanted package, and how to get it, for a warning; without
    /// this a package that is missing is an error.
    pub optional: Option<String>,
}

/// Everything that a build needs from outside.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// `[base]` of the cluster file.
    pub base: &'a Base,
    /// `[kubernetes]` of the cluster file.
    pub kubernetes: &'a Kubernetes,
    /// Folder of the cluster file, which paths in it are relative to.
    pub base_dir: &'a Path,
    /// Debian packages.
    pub sets: Vec<PackageSet>,
    /// Names of Kubernetes binaries.
    pub binaries: Vec<String>,
    /// Local files, as written in the cluster file.
    pub files: Vec<String>,
}

/// What of the machine a build depends on; apart, so that tests bring their own.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    /// Root that the apt configuration lies below.
    pub root: PathBuf,
    /// How to fetch.
    pub options: Options,
}

/// Inputs that are known exactly. Nothing of the packages has been fetched yet.
#[derive(Debug, Clone)]
pub struct Pinned {
    /// The lock of this build; to be written once the build is good.
    pub lock: Lock,
    base: Base,
    kubernetes: Kubernetes,
    base_dir: PathBuf,
    machine: Machine,
    /// Whether the lock was there before, and not resolved just now.
    from_lock: bool,
    sets: Vec<String>,
    binaries: Vec<String>,
    local_binaries: Vec<Artifact>,
    files: BTreeMap<String, Artifact>,
}

/// A package with its contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedPackage {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The `.deb`.
    pub deb: Artifact,
    /// Its `data.tar`, uncompressed, in the cache.
    pub data_tar: PathBuf,
}

/// All inputs of a build, here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inputs {
    /// Packages by set, sorted by name.
    pub packages: BTreeMap<String, Vec<FetchedPackage>>,
    /// Kubernetes binaries in the order of the request; those of a folder stay there.
    pub binaries: Vec<Artifact>,
    /// Local files by what the cluster file calls them; they stay where they are.
    pub files: BTreeMap<String, Artifact>,
}

/// Finds out which inputs exactly. With a `lock` and without `update`, those of the lock, and an error if the
/// request or a local file is not what it was made for; no index is read and the network is not used.
/// Otherwise the archive's current ones.
pub fn pin(
    request: &Request,
    lock: Option<&Lock>,
    update: bool,
    cache: &Cache,
    progress: &dyn Progress,
) -> Result<Pinned, SourcesError> {
    let machine = Machine { root: PathBuf::from("/"), options: Options::default() };
    pin_on(machine, request, lock, update, cache, progress)
}

pub(super) fn pin_on(
    mut machine: Machine,
    request: &Request,
    lock: Option<&Lock>,
    update: bool,
    cache: &Cache,
    progress: &dyn Progress,
) -> Result<Pinned, SourcesError> {
    if request.base.mirror.is_none() {
        let config = AptConfig::read(&machine.root);
        machine.options.proxy = config.get("Acquire::http::Proxy").map(str::to_owned);
    }
    let local_binaries = local_binaries(request, cache)?;
    let mut files = BTreeMap::new();
    for written in &request.files {
        files.insert(written.clone(), files::artifact(request.base_dir, written, cache)?);
    }
    let mut pinned = Pinned {
        lock: Lock::new(&request.base.suite, 0),
        base: request.base.clone(),
        kubernetes: request.kubernetes.clone(),
        base_dir: request.base_dir.to_owned(),
        machine,
        from_lock: false,
        sets: request.sets.iter().map(|set| set.name.clone()).collect(),
        binaries: request.binaries.clone(),
        local_binaries,
        files,
    };
    match lock.filter(|_| !update) {
        Some(lock) => {
            check::check(&pinned, request, lock).map_err(|difference| SourcesError::Locked { difference })?;
            pinned.lock = lock.clone();
            pinned.from_lock = true;
        }
        None => {
            let fetcher = Fetcher::new(cache, progress, pinned.machine.options.clone());
            pinned.lock = renewed(&pinned, request, &fetcher, progress)?;
            if let Some(old) = lock.filter(|old| old.epoch > pinned.lock.epoch) {
                let days = (old.epoch - pinned.lock.epoch) / 86_400;
                progress.warn(&format!(
                    "the archive is {days} days older than the one of the lock: the mirror may be behind"
                ));
            }
        }
    }
    Ok(pinned)
}

fn local_binaries(request: &Request, cache: &Cache) -> Result<Vec<Artifact>, SourcesError> {
    let kubernetes = request.kubernetes;
    match (&kubernetes.directory, &kubernetes.mirror) {
        _ if request.binaries.is_empty() => Ok(Vec::new()),
        (Some(directory), _) => {
            Ok(kubernetes::from_directory(kubernetes, directory, request.base_dir, &request.binaries, cache)?)
        }
        (None, Some(_)) => Ok(Vec::new()),
        (None, None) => Err(KubernetesError::NoPlace.into()),
    }
}

fn sorted(names: &[String]) -> Vec<String> {
    names.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect()
}

/// Resolves everything against the archive as it is now.
fn renewed(
    pinned: &Pinned,
    request: &Request,
    fetcher: &Fetcher,
    progress: &dyn Progress,
) -> Result<Lock, SourcesError> {
    let base = request.base;
    let sources = source::sources(base, request.base_dir, &pinned.machine.root)?;
    let archive = Archive::open(&sources, &base.suite, fetcher)?;
    let universe = archive.universe()?;
    let mut lock = Lock::new(&base.suite, archive.date());
    lock.components.clone_from(&base.components);
    let mut packages = BTreeMap::new();
    for set in &request.sets {
        let (install, exclude) = (sorted(&set.install), sorted(&set.exclude));
        let there = there(set, &install, &universe, progress);
        let found = match set.dependencies {
            true => resolve::closure(&universe, &there, &exclude),
            false => resolve::exact(&universe, &there),
        };
        let found = found.map_err(|reason| SourcesError::Resolve { set: set.name.clone(), reason })?;
        let names = found.iter().map(|package| package.name.to_owned()).collect();
        packages.extend(found.into_iter().map(|package| (package.name, package)));
        let (name, dependencies) = (set.name.clone(), set.dependencies);
        lock.sets.push(LockedSet { name, dependencies, install, exclude, packages: names });
    }
    lock.sets.sort_by(|a, b| a.name.cmp(&b.name));
    for package in packages.into_values() {
        lock.packages.push(LockedPackage {
            name: package.name.to_owned(),
            version: package.version.to_owned(),
            architecture: package.architecture.to_owned(),
            suite: package.suite.to_owned(),
            path: package.path.to_owned(),
            size: package.size,
            sha256: package.sha256.to_owned(),
        });
    }
    lock.binaries = binaries_now(pinned, fetcher)?;
    for (path, artifact) in &pinned.files {
        let (path, sha256) = (path.clone(), artifact.sha256.clone());
        lock.files.push(LockedFile { path, size: artifact.size, sha256 });
    }
    Ok(lock)
}

/// The wanted packages, without those of an optional set that the archive does not have: one warning names them.
fn there(
    set: &PackageSet,
    install: &[String],
    universe: &Universe<'_>,
    progress: &dyn Progress,
) -> Vec<String> {
    let Some(without) = &set.optional else { return install.to_vec() };
    let (there, missing): (Vec<String>, Vec<String>) =
        install.iter().cloned().partition(|name| universe.package(name).is_some());
    if !missing.is_empty() {
        progress.warn(&format!("the archive has no {}: {without}", missing.join(", ")));
    }
    there
}

/// The binaries for a new lock. Those of a mirror have to be fetched, for their size.
fn binaries_now(pinned: &Pinned, fetcher: &Fetcher) -> Result<Vec<LockedBinary>, SourcesError> {
    let mut artifacts = pinned.local_binaries.clone();
    if let (true, Some(mirror)) = (artifacts.is_empty(), &pinned.kubernetes.mirror) {
        let kubernetes = &pinned.kubernetes;
        let downloads =
            kubernetes::from_mirror(kubernetes, mirror, &pinned.base_dir, &pinned.binaries, fetcher)?;
        artifacts = fetcher.fetch_all("kubernetes", &downloads, |_, artifact| {
            kubernetes::check_program(&artifact.path).map_err(SourcesError::from)
        })?;
        fetcher.progress().end("kubernetes", &format!("{} binaries", artifacts.len()));
    }
    let locked = |artifact: Artifact| LockedBinary {
        name: artifact.name,
        version: artifact.version,
        size: artifact.size,
        sha256: artifact.sha256,
    };
    let mut binaries: Vec<LockedBinary> = artifacts.into_iter().map(locked).collect();
    binaries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(binaries)
}

impl Pinned {
    /// When the archive's newest suite was made, seconds since the Unix epoch.
    pub fn epoch(&self) -> u64 {
        self.lock.epoch
    }

    /// The packages of a set, sorted by name; empty if the request had no such set.
    pub fn packages(&self, set: &str) -> Vec<&LockedPackage> {
        self.lock.packages_of(set)
    }

    /// The wanted binaries, in the order of the request.
    pub fn binaries(&self) -> Vec<&LockedBinary> {
        let find = |name: &String| self.lock.binaries.iter().find(|binary| &binary.name == name);
        self.binaries.iter().filter_map(find).collect()
    }

    /// The wanted local files, by what the cluster file calls them.
    pub fn files(&self) -> &BTreeMap<String, Artifact> {
        &self.files
    }
}

#[cfg(test)]
mod tests;
