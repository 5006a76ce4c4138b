//! From exact inputs to files: downloads, and packages unpacked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{FetchedPackage, Inputs, Pinned, SourcesError};
use crate::progress::Progress;
use crate::sources::Cache;
use crate::sources::debian::{Source, deb, source};
use crate::sources::fetch::{Download, FetchError, Fetcher};
use crate::sources::kubernetes;
use crate::sources::lock::{LockedBinary, LockedPackage};

impl Pinned {
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
            if let Some(package) = packages.get(number) {
                check_control(package, &artifact.path)?;
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

    /// Names the package if the archive does not have it any more, or has another one.
    fn explained(&self, error: SourcesError, packages: &[&LockedPackage]) -> SourcesError {
        let SourcesError::Fetch(reason) = error else { return error };
        let path = match &reason {
            FetchError::Status { url, .. }
            | FetchError::Digest { url, .. }
            | FetchError::Size { url, .. } => url.clone(),
            FetchError::File { path, .. } => path.display().to_string(),
            _ => return SourcesError::Fetch(reason),
        };
        let Some(package) = packages.iter().find(|package| path.ends_with(&package.path)) else {
            return SourcesError::Fetch(reason);
        };
        let (package, version) = (package.name.clone(), package.version.clone());
        let other = matches!(reason, FetchError::Digest { .. } | FetchError::Size { .. });
        if reason.is_absent() {
            SourcesError::Gone { package, version, reason: Box::new(reason) }
        } else if other && self.from_lock {
            SourcesError::NotAsLocked { package, version, reason: Box::new(reason) }
        } else {
            SourcesError::Fetch(reason)
        }
    }
}

/// Compares what the lock says of a package with what the package says of itself. The digest does not vouch for
/// the words beside it.
fn check_control(package: &LockedPackage, path: &Path) -> Result<(), SourcesError> {
    let control = deb::control(path)?;
    let fields =
        [("Package", &package.name), ("Version", &package.version), ("Architecture", &package.architecture)];
    for (field, locked) in fields {
        let found = control.get(field).unwrap_or_default();
        if found != locked {
            let (package, locked, found) = (package.name.clone(), locked.clone(), found.to_owned());
            return Err(SourcesError::Mislabelled { package, field, locked, found });
        }
    }
    Ok(())
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
        1 => format!("{what}, 1 file fetched"),
        _ => format!("{what}, {missing} files fetched"),
    }
}
