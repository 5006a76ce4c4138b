//! Files that drivers load into their devices, and microcode of processors: of Debian's packages of such only what this
//! image's own modules ask for.
//!
//! A module names what it may ask for in its `.modinfo` (`MODULE_FIRMWARE` of the kernel's include/linux/module.h). The
//! packages hold files for hundreds of devices that no image of ours has a driver for; Debian's initramfs-tools choose in
//! the same way. A file that no package has is no error: drivers name files of several ages and take what is there.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::globs::{GlobError, Globs};
use super::modules::Selected;
use super::packages::{self, Package, PackageError};
use super::paths;
use super::tree::{Content, Entry, Kind, RootTree, TreeError};

/// Where the kernel looks for them: `fw_path` of its drivers/base/firmware_loader/main.c, at its place under `/usr`.
const FOLDER: &str = "/usr/lib/firmware";

const BELOW: &str = "/usr/lib/firmware/";

/// Where the kernel looks for microcode while it starts, by the processor's vendor, and what is put there: folder and
/// names below [`FOLDER`]. One after the other, in any order: the kernel seeks its processor's (Documentation/x86/microcode.rst).
const MICROCODE: [(&str, &str); 2] = [
    ("/kernel/x86/microcode/AuthenticAMD.bin", "amd-ucode/microcode_amd*.bin"),
    // A file for each family, model and stepping. Debian's ending `.initramfs` keeps those from a running kernel which only
    // do good before anything else has run, as here.
    ("/kernel/x86/microcode/GenuineIntel.bin", "intel-ucode/??-??-??*"),
];

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum FirmwareError {
    /// A package could not be read.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// It cannot be in the tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A module asks for something that is no name.
    #[error("what a module asks for: {0}")]
    Glob(#[from] GlobError),
    /// A file of microcode could not be read.
    #[error("package {package} {path}: {source}")]
    Read {
        /// Name.
        package: String,
        /// In the package.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// What an image has of the packages, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FirmwareFacts {
    /// The packages that something was taken of, by name.
    pub packages: Vec<Taken>,
    /// What a module of the image may ask for and no package has: file, and the first such module.
    pub missing: BTreeMap<String, String>,
}

/// What was taken of one package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Taken {
    /// Name.
    pub package: String,
    /// Full Debian version.
    pub version: String,
    /// How many files.
    pub files: usize,
    /// Bytes of them.
    pub bytes: u64,
}

/// Packages with such files, and what was taken of them so far.
pub struct Firmware<'a> {
    packages: Vec<(&'a Package, RootTree)>,
    /// Path of each file that was taken, by the package's place in the list, with its bytes.
    taken: BTreeSet<(usize, String, u64)>,
    missing: BTreeMap<String, String>,
}

impl<'a> Firmware<'a> {
    /// Reads the packages' lists of files.
    pub fn read(packages: &'a [Package]) -> Result<Firmware<'a>, FirmwareError> {
        let mut read = Vec::new();
        for package in packages {
            let mut tree = RootTree::default();
            for (path, entry) in packages::entries(package)? {
                tree.insert(&path, entry)?;
            }
            read.push((package, tree));
        }
        Ok(Firmware { packages: read, taken: BTreeSet::new(), missing: BTreeMap::new() })
    }

    /// Puts what the modules ask for into the tree that they lie in. Of several packages that have a file, the first
    /// is taken.
    pub fn lay(&mut self, selected: &Selected<'_>, tree: &mut RootTree) -> Result<(), FirmwareError> {
        if self.packages.is_empty() {
            return Ok(());
        }
        for (wanted, module) in selected.firmware() {
            let found = self.find(wanted)?;
            if found.is_empty() {
                self.missing.entry(wanted.to_owned()).or_insert_with(|| module.to_owned());
            }
            for (path, (place, entry)) in found {
                if let Kind::File(content) = &entry.kind {
                    self.taken.insert((place, path.clone(), content.len()));
                }
                tree.insert(&path, entry)?;
            }
        }
        Ok(())
    }

    /// The files that a name or glob of a module stands for, each under the name that it is asked for by: a link of a
    /// package may lead to a file that nobody else asks for.
    fn find(&self, wanted: &str) -> Result<BTreeMap<String, (usize, Entry)>, FirmwareError> {
        let mut found = BTreeMap::new();
        let pattern = format!("{FOLDER}/{wanted}");
        let globs = match wanted.contains(['*', '?', '[']) {
            true => Some(Globs::new("firmware", std::slice::from_ref(&pattern))?),
            false => None,
        };
        for (place, (_, tree)) in self.packages.iter().enumerate() {
            let mut take = |path: &str| {
                let inside = paths::canonical(path).ok().filter(|path| path.starts_with(BELOW));
                if let (Some(path), Some((_, entry))) = (inside, tree.resolve(path))
                    && matches!(entry.kind, Kind::File(_))
                {
                    found.entry(path).or_insert_with(|| (place, entry.clone()));
                }
            };
            match &globs {
                Some(globs) => {
                    tree.entries.keys().filter(|path| globs.matches(path)).for_each(|path| take(path));
                }
                None => take(&pattern),
            }
        }
        Ok(found)
    }

    /// What the kernel loads into the processor before anything else, as a tree for the front of the initramfs; nothing
    /// if no package has any.
    pub fn microcode(&mut self) -> Result<Option<RootTree>, FirmwareError> {
        let mut tree = RootTree::default();
        for (target, names) in MICROCODE {
            let mut bytes = Vec::new();
            // By name, so that it is the same each time.
            for (path, (place, entry)) in self.find(names)? {
                let Kind::File(content) = &entry.kind else { continue };
                let package = self.packages[place].0;
                let read = content.read().map_err(|source| FirmwareError::Read {
                    package: package.name.clone(),
                    path: path.clone(),
                    source,
                })?;
                bytes.extend_from_slice(&read);
                self.taken.insert((place, path, content.len()));
            }
            if !bytes.is_empty() {
                let entry = Entry::new(Kind::File(Content::bytes(bytes)), 0o644, &"microcode".into());
                tree.insert(target, entry)?;
            }
        }
        Ok((!tree.entries.is_empty()).then_some(tree))
    }

    /// Puts the licences of what was taken into the tree: an image is a distribution of what is in it.
    pub fn lay_licences(&self, tree: &mut RootTree) -> Result<(), FirmwareError> {
        for (place, (package, files)) in self.packages.iter().enumerate() {
            if self.count(place).0 == 0 {
                continue;
            }
            let path = format!("/usr/share/doc/{}/copyright", package.name);
            if let Some((_, entry)) = files.resolve(&path)
                && matches!(entry.kind, Kind::File(_))
            {
                tree.insert(&path, entry.clone())?;
            }
        }
        Ok(())
    }

    /// What came of it.
    pub fn facts(self) -> FirmwareFacts {
        let taken = self.packages.iter().enumerate().map(|(place, (package, _))| {
            let (files, bytes) = self.count(place);
            Taken { package: package.name.clone(), version: package.version.clone(), files, bytes }
        });
        let packages = taken.filter(|taken| taken.files > 0).collect();
        FirmwareFacts { packages, missing: self.missing }
    }

    /// Files and bytes taken of a package.
    fn count(&self, place: usize) -> (usize, u64) {
        let of_it = self.taken.iter().filter(|(of, ..)| *of == place);
        of_it.fold((0, 0), |(files, bytes), (.., size)| (files + 1, bytes + size))
    }
}

#[cfg(test)]
mod tests;
