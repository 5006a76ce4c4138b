//! Which inputs exactly, and then the inputs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bootwright_model::cluster::{Base, Kubernetes};

use super::debian::apt_config::AptConfig;
use super::debian::deb::{self, DebError};
use super::debian::index::IndexError;
use super::debian::resolve::{self, ResolveError};
use super::debian::{Archive, ArchiveError, Source, SourceError, source};
use super::fetch::{Download, FetchError, Fetcher, Options};
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
    #[error("{difference}, so bootwright.lock does not describe this build; build with --update to renew it")]
    Locked {
        /// What differs.
        difference: String,
    },
    /// The lock names a file that the mirror no longer has.
    #[error(
        "{package} {version} of bootwright.lock is not in the archive any more ({reason}); \
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
        sets: request.sets.iter().map(|set| set.name.clone()).collect(),
        binaries: request.binaries.clone(),
        local_binaries,
        files,
    };
    match lock.filter(|_| !update) {
        Some(lock) => {
            check(&pinned, request, lock).map_err(|difference| SourcesError::Locked { difference })?;
            pinned.lock = lock.clone();
        }
        None => {
            let fetcher = Fetcher::new(cache, progress, pinned.machine.options.clone());
            pinned.lock = renewed(&pinned, request, &fetcher)?;
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
fn renewed(pinned: &Pinned, request: &Request, fetcher: &Fetcher) -> Result<Lock, SourcesError> {
    let base = request.base;
    let sources = source::sources(base, request.base_dir, &pinned.machine.root)?;
    let archive = Archive::open(&sources, &base.suite, fetcher)?;
    let universe = archive.universe()?;
    let mut lock = Lock::new(&base.suite, archive.date());
    let mut packages = BTreeMap::new();
    for set in &request.sets {
        let (install, exclude) = (sorted(&set.install), sorted(&set.exclude));
        let found = match set.dependencies {
            true => resolve::closure(&universe, &install, &exclude),
            false => resolve::exact(&universe, &install),
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

/// Compares the request and the local files with a lock; the error is the first difference. What the lock
/// has beyond the request (another role's) is no difference.
fn check(pinned: &Pinned, request: &Request, lock: &Lock) -> Result<(), String> {
    if lock.suite != request.base.suite {
        return Err(format!("suite is {:?} and was {:?}", request.base.suite, lock.suite));
    }
    for set in &request.sets {
        let locked = lock.sets.iter().find(|locked| locked.name == set.name);
        check_set(set, locked.ok_or_else(|| format!("package set {:?} is new", set.name))?)?;
    }
    for name in &request.binaries {
        let locked = lock.binaries.iter().find(|locked| &locked.name == name);
        let locked = locked.ok_or_else(|| format!("binary {name} is new"))?;
        let wanted = &request.kubernetes.version;
        if &locked.version != wanted {
            return Err(format!("Kubernetes is {wanted} and was {} ({name})", locked.version));
        }
        let local = pinned.local_binaries.iter().find(|local| &local.name == name);
        if let Some(local) = local.filter(|local| local.sha256 != locked.sha256) {
            return Err(changed(&local.path, &local.sha256, local.size, &locked.sha256, locked.size));
        }
    }
    for (path, file) in &pinned.files {
        let locked = lock.files.iter().find(|locked| &locked.path == path);
        let locked = locked.ok_or_else(|| format!("file {path} is new"))?;
        if locked.sha256 != file.sha256 {
            return Err(changed(&file.path, &file.sha256, file.size, &locked.sha256, locked.size));
        }
    }
    Ok(())
}

fn changed(path: &Path, sha256: &str, size: u64, was: &str, was_size: u64) -> String {
    let path = path.display();
    format!("{path} changed: SHA-256 {sha256}, {size} bytes, and was {was}, {was_size} bytes")
}

fn check_set(set: &PackageSet, locked: &LockedSet) -> Result<(), String> {
    let lists =
        [("packages", &set.install, &locked.install), ("excluded packages", &set.exclude, &locked.exclude)];
    for (what, now, was) in lists {
        let (now, was): (BTreeSet<_>, BTreeSet<_>) = (now.iter().collect(), was.iter().collect());
        let names = |sign: char, names: Vec<&&String>| -> Vec<String> {
            names.iter().map(|name| format!("{sign}{name}")).collect()
        };
        let mut differences = names('+', now.difference(&was).collect());
        differences.extend(names('-', was.difference(&now).collect()));
        if !differences.is_empty() {
            return Err(format!("the {what} of set {:?} changed ({})", set.name, differences.join(" ")));
        }
    }
    if set.dependencies != locked.dependencies {
        let now = if set.dependencies { "with" } else { "without" };
        return Err(format!("package set {:?} is now {now} dependencies", set.name));
    }
    Ok(())
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

    /// Fetches what the cache lacks and unpacks the packages.
    pub fn fetch(&self, cache: &Cache, progress: &dyn Progress) -> Result<Inputs, SourcesError> {
        let names: BTreeSet<&str> = self
            .sets
            .iter()
            .flat_map(|set| self.packages(set))
            .map(|package| package.name.as_str())
            .collect();
        let packages: Vec<&LockedPackage> = names.iter().filter_map(|name| self.lock.package(name)).collect();
        let mut downloads = self.package_downloads(&packages, cache)?;
        if self.local_binaries.is_empty() {
            downloads.extend(self.binary_downloads());
        }
        let missing = downloads.iter().filter(|download| cache.find(&download.sha256).is_none()).count();
        let fetcher = Fetcher::new(cache, progress, self.machine.options.clone());
        let artifacts = fetcher.fetch_all::<SourcesError>("fetch", &downloads, |number, artifact| {
            if number < packages.len() {
                deb::data_tar(artifact, cache)?;
            } else {
                kubernetes::check_program(&artifact.path)?;
            }
            Ok(())
        });
        let mut artifacts = artifacts.map_err(|error| self.explained(error, &packages))?;
        progress.end("fetch", &summary(packages.len(), downloads.len(), missing));
        let mut binaries = artifacts.split_off(packages.len());
        if binaries.is_empty() {
            binaries.clone_from(&self.local_binaries);
        }
        let mut by_name = BTreeMap::new();
        for (package, artifact) in packages.iter().zip(artifacts) {
            let data_tar = deb::data_tar(&artifact, cache)?;
            let (name, version) = (package.name.clone(), package.version.clone());
            by_name.insert(package.name.as_str(), FetchedPackage { name, version, deb: artifact, data_tar });
        }
        let packages_of = |set: &String| {
            let packages = self.packages(set);
            packages.iter().filter_map(|package| by_name.get(package.name.as_str()).cloned()).collect()
        };
        let packages = self.sets.iter().map(|set| (set.clone(), packages_of(set))).collect();
        Ok(Inputs { packages, binaries, files: self.files.clone() })
    }

    fn package_downloads(
        &self,
        packages: &[&LockedPackage],
        cache: &Cache,
    ) -> Result<Vec<Download>, SourcesError> {
        let complete = packages.iter().all(|package| cache.object(&package.sha256, package.size).is_some());
        // A machine without apt sources can build from the cache.
        let sources: Vec<Source> = match complete {
            true => Vec::new(),
            false => source::sources(&self.base, &self.base_dir, &self.machine.root)?,
        };
        let download = |package: &LockedPackage| Download {
            name: package.path.rsplit('/').next().unwrap_or(&package.path).to_owned(),
            version: package.version.clone(),
            urls: urls(&sources, package),
            sha256: package.sha256.clone(),
            size: Some(package.size),
        };
        Ok(packages.iter().map(|package| download(package)).collect())
    }

    fn binary_downloads(&self) -> Vec<Download> {
        let Some(mirror) = &self.kubernetes.mirror else { return Vec::new() };
        let download = |binary: &LockedBinary| Download {
            name: binary.name.clone(),
            version: binary.version.clone(),
            urls: vec![kubernetes::url(&self.kubernetes, mirror, &self.base_dir, &binary.name)],
            sha256: binary.sha256.clone(),
            size: Some(binary.size),
        };
        self.binaries().into_iter().map(download).collect()
    }

    /// Names the package if the archive does not have it any more.
    fn explained(&self, error: SourcesError, packages: &[&LockedPackage]) -> SourcesError {
        let SourcesError::Fetch(reason) = error else { return error };
        let path = match &reason {
            FetchError::Status { url, .. } => url.clone(),
            FetchError::File { path, .. } => path.display().to_string(),
            _ => return SourcesError::Fetch(reason),
        };
        match packages.iter().find(|package| reason.is_absent() && path.ends_with(&package.path)) {
            Some(package) => {
                let (package, version) = (package.name.clone(), package.version.clone());
                SourcesError::Gone { package, version, reason: Box::new(reason) }
            }
            None => SourcesError::Fetch(reason),
        }
    }
}

/// Where a package can be had: at every source of its suite.
fn urls(sources: &[Source], package: &LockedPackage) -> Vec<String> {
    let of_suite = sources.iter().filter(|source| source.suite == package.suite);
    of_suite.map(|source| format!("{}/{}", source.url, package.path)).collect()
}

fn summary(packages: usize, files: usize, missing: usize) -> String {
    let binaries = files - packages;
    let what = match binaries {
        0 => format!("{packages} packages"),
        _ => format!("{packages} packages, {binaries} binaries"),
    };
    match missing {
        0 => format!("{what}, all from the cache"),
        _ => format!("{what}, {missing} files fetched"),
    }
}

#[cfg(test)]
#[path = "pin_tests.rs"]
mod tests;
