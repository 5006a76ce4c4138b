//! Every input of a build as the lock names it, and where it is now.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::rootfs::FirmwareFacts;
use crate::sources::lock::LockedSet;
use crate::sources::{Lock, LockedBinary, LockedFile, LockedPackage, PackageSet, Request};

/// The inputs of a build from archives, mirrors and folders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct InputsPlan {
    /// Where the lock lies, or will.
    pub lock: String,
    /// Whether it describes this build.
    #[serde(flatten)]
    pub state: LockState,
    /// Where packages come from.
    pub archive: ArchivePlan,
    /// The package lists of the build, and what the lock says came of them.
    pub sets: Vec<SetPlan>,
    /// Packages of all sets, by name; empty without a lock, as the other lists.
    pub packages: Vec<InputPlan>,
    /// Kubernetes binaries.
    pub binaries: Vec<InputPlan>,
    /// Local files that the cluster file names.
    pub files: Vec<InputPlan>,
    /// All of them.
    pub total: Amount,
    /// The OS layers of the build, one per role; empty if the lock does not fit, for then there is no build.
    pub layers: Vec<LayerPlan>,
    /// Those that a build would fetch: none if every OS layer is in the cache.
    pub to_fetch: Amount,
}

/// The finished OS layer of a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LayerPlan {
    /// The role.
    pub role: String,
    /// Whether it is there.
    #[serde(flatten)]
    pub state: LayerState,
    /// What it has of packages of device firmware; known of a finished one only, since the modules tell which files
    /// they ask for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware: Option<FirmwareFacts>,
}

/// Whether a finished OS layer is in the cache, so that its inputs need not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum LayerState {
    /// It is.
    Cached,
    /// A build would make it.
    Absent,
    /// Something that its digest is of cannot be had, or the cached one is damaged.
    Unknown {
        /// Why.
        reason: String,
    },
}

/// Whether the lock describes the build that the cluster file asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "lock-state", rename_all = "kebab-case")]
pub enum LockState {
    /// There is none: the first build resolves the package lists and writes it.
    Absent,
    /// It does.
    Fits,
    /// It does not: `build` refuses, `build --update` renews it.
    Differs {
        /// The first difference.
        difference: String,
    },
    /// An input that it has to be compared with cannot be had.
    Unknown {
        /// Why; `build` says the same.
        reason: String,
    },
}

/// The package archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ArchivePlan {
    /// Its suite.
    pub suite: String,
    /// Its address; the machine's own apt sources if absent.
    pub mirror: Option<String>,
    /// Its date in the lock, seconds since the Unix epoch: the build time of the images.
    pub epoch: Option<u64>,
}

/// A package list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SetPlan {
    /// `os/<role>`, `image/<image>`, or a boot loader's.
    pub name: String,
    /// Whether what the packages depend on comes along.
    pub dependencies: bool,
    /// What is asked for.
    pub install: Vec<String>,
    /// Names in [`InputsPlan::packages`], if the lock has the set.
    pub packages: Vec<String>,
}

/// One input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct InputPlan {
    /// Package, program, or path as written in the cluster file.
    pub name: String,
    /// Its version; a local file has none.
    pub version: Option<String>,
    /// Bytes.
    pub size: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
    /// Where it is now.
    pub place: Place,
}

/// Where an input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// In the cache.
    Cache,
    /// In the package archive, to be fetched.
    Archive,
    /// On the mirror of Kubernetes, to be fetched.
    Mirror,
    /// On this machine, where the cluster file says.
    Folder,
}

/// Inputs counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Amount {
    /// How many.
    pub inputs: usize,
    /// Bytes of all.
    pub bytes: u64,
}

impl Amount {
    /// Counts inputs.
    pub fn of<'a>(inputs: impl IntoIterator<Item = &'a InputPlan>) -> Amount {
        inputs.into_iter().fold(Amount::default(), |sum, input| Amount {
            inputs: sum.inputs + 1,
            bytes: sum.bytes.saturating_add(input.size),
        })
    }
}

impl InputPlan {
    fn locked(name: &str, version: Option<&String>, size: u64, sha256: &str, place: Place) -> InputPlan {
        let (name, sha256) = (name.to_owned(), sha256.to_owned());
        InputPlan { name, version: version.cloned(), size, sha256, place }
    }

    /// Whether a build would fetch it if it had to make an OS layer.
    pub fn is_remote(&self) -> bool {
        matches!(self.place, Place::Archive | Place::Mirror)
    }
}

impl InputsPlan {
    /// The inputs of `request` by `lock`; `cached` says whether a file of this digest and size is here.
    pub fn of(
        request: &Request<'_>,
        path: &str,
        lock: Option<&Lock>,
        state: LockState,
        layers: Vec<LayerPlan>,
        cached: &dyn Fn(&str, u64) -> bool,
    ) -> InputsPlan {
        let place =
            |sha256: &str, size, otherwise| if cached(sha256, size) { Place::Cache } else { otherwise };
        let sets: Vec<SetPlan> = request.sets.iter().map(|set| set_plan(set, lock)).collect();
        let names: BTreeSet<&String> = sets.iter().flat_map(|set| &set.packages).collect();
        let package = |package: &LockedPackage| {
            let LockedPackage { name, version, size, sha256, .. } = package;
            InputPlan::locked(name, Some(version), *size, sha256, place(sha256, *size, Place::Archive))
        };
        let packages: Vec<InputPlan> =
            names.into_iter().filter_map(|name| lock?.package(name)).map(package).collect();

        let from_folder = request.kubernetes.directory.is_some();
        let binary = |binary: &LockedBinary| {
            let LockedBinary { name, version, size, sha256 } = binary;
            let place = match from_folder {
                true => Place::Folder,
                false => place(sha256, *size, Place::Mirror),
            };
            InputPlan::locked(name, Some(version), *size, sha256, place)
        };
        let locked = lock.map(|lock| &lock.binaries[..]).unwrap_or_default().iter();
        let binaries: Vec<InputPlan> =
            locked.filter(|locked| request.binaries.contains(&locked.name)).map(binary).collect();

        let file =
            |file: &LockedFile| InputPlan::locked(&file.path, None, file.size, &file.sha256, Place::Folder);
        let locked = lock.map(|lock| &lock.files[..]).unwrap_or_default().iter();
        let files: Vec<InputPlan> =
            locked.filter(|locked| request.files.contains(&locked.path)).map(file).collect();

        let all = || packages.iter().chain(&binaries).chain(&files);
        InputsPlan {
            lock: path.to_owned(),
            state,
            archive: ArchivePlan {
                suite: request.base.suite.clone(),
                mirror: request.base.mirror.clone(),
                epoch: lock.map(|lock| lock.epoch),
            },
            sets,
            total: Amount::of(all()),
            to_fetch: match layers_are_cached(&layers) {
                true => Amount::default(),
                false => Amount::of(all().filter(|input| input.is_remote())),
            },
            layers,
            packages,
            binaries,
            files,
        }
    }

    /// The input `name` of one of the lists, if the lock fits: then a file of that name has its digest.
    pub(super) fn locked<'a>(&self, inputs: &'a [InputPlan], name: &str) -> Option<&'a InputPlan> {
        inputs.iter().find(|input| self.state == LockState::Fits && input.name == name)
    }

    /// Whether a build would fetch the input.
    pub fn is_fetched(&self, input: &InputPlan) -> bool {
        input.is_remote() && !self.layers_are_cached()
    }

    /// Whether a build finds every OS layer finished in the cache.
    pub fn layers_are_cached(&self) -> bool {
        layers_are_cached(&self.layers)
    }

    /// The packages of a set.
    pub fn packages_of(&self, set: &SetPlan) -> impl Iterator<Item = &InputPlan> {
        self.packages.iter().filter(|package| set.packages.contains(&package.name))
    }
}

fn layers_are_cached(layers: &[LayerPlan]) -> bool {
    !layers.is_empty() && layers.iter().all(|layer| layer.state == LayerState::Cached)
}

fn set_plan(set: &PackageSet, lock: Option<&Lock>) -> SetPlan {
    let locked: Option<&LockedSet> =
        lock.and_then(|lock| lock.sets.iter().find(|locked| locked.name == set.name));
    SetPlan {
        name: set.name.clone(),
        dependencies: set.dependencies,
        install: set.install.clone(),
        packages: locked.map(|locked| locked.packages.clone()).unwrap_or_default(),
    }
}
