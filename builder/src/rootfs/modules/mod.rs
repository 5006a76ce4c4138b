//! Kernel modules: which of the kernel package's come along, closed over their dependencies, and the
//! index files that first boot and modprobe find them by. What depmod does, in process and without root.

pub mod index;
pub mod modinfo;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rayon::prelude::*;

use super::globs::{GlobError, Globs};
use super::packages::{self, Package, PackageError};
use super::tree::{Content, Entry, Kind, RootTree, TreeError};
use modinfo::{ModInfo, normal};

/// The kernel of a kernel package: its image and all its modules.
pub struct Kernel {
    /// `uname -r`.
    pub release: String,
    /// `vmlinuz`.
    pub image: Content,
    origin: Arc<str>,
    /// Every module of the package by name.
    modules: BTreeMap<String, Module>,
    /// First modules that have an alias without wildcards, for soft dependencies by alias.
    aliases: BTreeMap<String, Vec<String>>,
    builtin: Builtin,
}

/// Modules that are part of the kernel image.
struct Builtin {
    /// Names, in the file's order.
    names: Vec<String>,
    /// `modules.builtin`, verbatim.
    list: Content,
    /// `modules.builtin.modinfo`, verbatim.
    modinfo: Content,
}

struct Module {
    /// Below the modules folder, without compression suffix: `kernel/fs/overlayfs/overlay.ko`.
    path: String,
    /// Place in `modules.order`: of several modules with one alias the first is preferred.
    order: u32,
    info: ModInfo,
    /// Uncompressed.
    content: Content,
}

/// A selection of a kernel's modules, closed over dependencies.
pub struct Selected<'a> {
    kernel: &'a Kernel,
    names: BTreeSet<&'a str>,
}

/// Why the modules could not be selected.
#[derive(Debug, thiserror::Error)]
pub enum ModulesError {
    /// No kernel package among the packages.
    #[error("no package has /boot/vmlinuz-<release>: the kernel package is missing")]
    NoKernel,
    /// More than one.
    #[error("packages {0} and {1} both bring a kernel; leave one out")]
    TwoKernels(String, String),
    /// The kernel package could not be read.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// A file of the kernel package is not there.
    #[error("package {package} has no {path}, which every Debian kernel package has")]
    Missing {
        /// Name.
        package: String,
        /// Path.
        path: String,
    },
    /// A module could not be read.
    #[error("module {path} of package {package}: {reason}")]
    Module {
        /// Name.
        package: String,
        /// Below the modules folder.
        path: String,
        /// Why.
        reason: String,
    },
    /// A name in the profile is no module of this kernel.
    #[error(
        "{list}: kernel {release} has no module {name:?}, neither loadable nor built in{hint}; correct the name, or \
         write it as a glob (`**/{name}`) if only some kernels have it"
    )]
    Unknown {
        /// `kernel.modules`.
        list: String,
        /// As written.
        name: String,
        /// `uname -r`.
        release: String,
        /// Did you mean.
        hint: String,
    },
    /// A module is to be loaded and does not come along.
    #[error("kernel.load: {0} is not among the modules that `kernel.modules` selects; add it there")]
    NotSelected(String),
    /// A module needs one that the package does not have.
    #[error(
        "module {module} needs {dependency}, which kernel {release} has neither as a module nor built in"
    )]
    Dependency {
        /// Name.
        module: String,
        /// Name.
        dependency: String,
        /// `uname -r`.
        release: String,
    },
    /// A glob.
    #[error(transparent)]
    Glob(#[from] GlobError),
    /// The index cannot express a name.
    #[error(transparent)]
    Key(#[from] index::KeyError),
    /// It cannot be in the tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

impl Kernel {
    /// Finds the one package among `packages` that has a kernel and reads all its modules' own words.
    pub fn find(packages: &[Package]) -> Result<(&Package, Kernel), ModulesError> {
        let mut found: Option<&Package> = None;
        for package in packages.iter().filter(|package| package.name.starts_with("linux-image-")) {
            // The meta packages of the same name have no kernel in them.
            if packages::entries(package)?.iter().any(|(path, _)| path.starts_with("/boot/vmlinuz-")) {
                if let Some(other) = found {
                    return Err(ModulesError::TwoKernels(other.name.clone(), package.name.clone()));
                }
                found = Some(package);
            }
        }
        let package = found.ok_or(ModulesError::NoKernel)?;
        Ok((package, Kernel::read(package)?))
    }

    /// Reads a kernel package.
    pub fn read(package: &Package) -> Result<Kernel, ModulesError> {
        let entries = packages::entries(package)?;
        let files: BTreeMap<&str, &Content> = entries
            .iter()
            .filter_map(|(path, entry)| match &entry.kind {
                Kind::File(content) => Some((path.as_str(), content)),
                _ => None,
            })
            .collect();
        let missing =
            |path: &str| ModulesError::Missing { package: package.name.clone(), path: path.to_owned() };
        let get = |path: &str| files.get(path).map(|content| (*content).clone()).ok_or_else(|| missing(path));
        let release = files
            .keys()
            .find_map(|path| path.strip_prefix("/boot/vmlinuz-"))
            .ok_or_else(|| missing("/boot/vmlinuz-<release>"))?;
        let folder = format!("/usr/lib/modules/{release}/");
        let text = |path: &str| -> Result<String, ModulesError> {
            let bytes = get(path)?.read().map_err(|e| module_error(package, path, e.to_string()))?;
            String::from_utf8(bytes).map_err(|_| module_error(package, path, "is not UTF-8".to_owned()))
        };
        let order = text(&format!("{folder}modules.order"))?;
        let order: BTreeMap<&str, u32> = order.lines().zip(0..).collect();
        let modules: BTreeMap<String, Module> = files
            .par_iter()
            .filter_map(|(path, content)| {
                let (path, compression) = module_path(path.strip_prefix(&folder)?)?;
                Some(read_module(package, path, compression, content, &order))
            })
            .collect::<Result<_, _>>()?;
        let list = format!("{folder}modules.builtin");
        Ok(Kernel {
            image: get(&format!("/boot/vmlinuz-{release}"))?,
            origin: format!("package {} {}", package.name, package.version).into(),
            aliases: exact_aliases(&modules),
            modules,
            builtin: Builtin {
                names: text(&list)?.lines().filter_map(name_of).collect(),
                list: get(&list)?,
                modinfo: get(&format!("{list}.modinfo"))?,
            },
            release: release.to_owned(),
        })
    }

    /// The modules that `patterns` ask for, with all they depend on. `list` names the patterns' place.
    ///
    /// A pattern without `/` and wildcards is a name and must exist (built in will do); another is a
    /// glob on the path below the modules folder without `.ko`.
    pub fn select(&self, list: &str, patterns: &[String]) -> Result<Selected<'_>, ModulesError> {
        let (globs, names): (Vec<String>, Vec<String>) =
            patterns.iter().cloned().partition(|pattern| pattern.contains(['*', '?', '[', '{', '/']));
        let globs = Globs::new(list, &globs)?;
        let mut selected = Selected { kernel: self, names: BTreeSet::new() };
        for name in &names {
            match self.modules.get_key_value(&normal(name)) {
                Some((name, _)) => selected.add(name)?,
                None if self.is_builtin(name) => {}
                None => return Err(self.unknown(list, name)),
            }
        }
        for (name, module) in &self.modules {
            if globs.matches(module.path.strip_suffix(".ko").unwrap_or(&module.path)) {
                selected.add(name)?;
            }
        }
        Ok(selected)
    }

    /// Whether every module of `load`, which first boot loads by name, is selected or built in.
    pub fn check_load(&self, selected: &Selected, load: &[String]) -> Result<(), ModulesError> {
        for name in load.iter().filter(|name| !self.is_builtin(name)) {
            let known = self.modules.contains_key(&normal(name));
            if !known {
                return Err(self.unknown("kernel.load", name));
            }
            if !selected.names.contains(normal(name).as_str()) {
                return Err(ModulesError::NotSelected(name.clone()));
            }
        }
        Ok(())
    }

    fn is_builtin(&self, name: &str) -> bool {
        self.builtin.names.contains(&normal(name))
    }

    fn unknown(&self, list: &str, name: &str) -> ModulesError {
        let all = self.modules.keys().chain(&self.builtin.names);
        let near = all.map(|other| (strsim::jaro_winkler(other, &normal(name)), other));
        let hint = near.filter(|(likeness, _)| *likeness > 0.9).max_by(|a, b| a.0.total_cmp(&b.0));
        ModulesError::Unknown {
            list: list.to_owned(),
            name: name.to_owned(),
            release: self.release.clone(),
            hint: hint.map(|(_, hint)| format!(" (there is {hint:?})")).unwrap_or_default(),
        }
    }
}

impl<'a> Selected<'a> {
    fn add(&mut self, name: &'a str) -> Result<(), ModulesError> {
        let mut queue = vec![name];
        while let Some(name) = queue.pop() {
            if !self.names.insert(name) {
                continue;
            }
            let kernel = self.kernel;
            let info = &kernel.modules[name].info;
            for dependency in &info.depends {
                match kernel.modules.get_key_value(dependency) {
                    Some((dependency, _)) => queue.push(dependency),
                    None if kernel.is_builtin(dependency) => {}
                    None => {
                        return Err(ModulesError::Dependency {
                            module: name.to_owned(),
                            dependency: dependency.clone(),
                            release: kernel.release.clone(),
                        });
                    }
                }
            }
            // Soft dependencies are names or aliases; one that this kernel does not have is nobody's fault.
            for soft in info.soft() {
                match kernel.modules.get_key_value(&normal(soft)) {
                    Some((module, _)) => queue.push(module),
                    None => queue.extend(kernel.aliases.get(soft).into_iter().flatten().map(String::as_str)),
                }
            }
        }
        Ok(())
    }

    /// Names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().copied()
    }

    /// What the modules may load into their devices, and the first module by name that may.
    pub fn firmware(&self) -> BTreeMap<&str, &str> {
        let mut wanted = BTreeMap::new();
        for name in &self.names {
            for file in &self.kernel.modules[*name].info.firmware {
                wanted.entry(file.as_str()).or_insert(*name);
            }
        }
        wanted
    }

    /// Puts the modules and their index files below `/usr/lib/modules/<release>`.
    pub fn lay(&self, tree: &mut RootTree) -> Result<(), ModulesError> {
        let folder = format!("/usr/lib/modules/{}", self.kernel.release);
        let origin = &self.kernel.origin;
        for name in &self.names {
            let module = &self.kernel.modules[*name];
            let entry = Entry::new(Kind::File(module.content.clone()), 0o644, origin);
            tree.insert(&format!("{folder}/{}", module.path), entry)?;
        }
        for (name, content) in self.tables()? {
            tree.insert(&format!("{folder}/{name}"), Entry::new(Kind::File(content), 0o644, origin))?;
        }
        Ok(())
    }
}

/// How a module lies in the package.
#[derive(Clone, Copy)]
enum Compression {
    None,
    Xz,
}

/// Path without compression suffix, if it is a module's.
fn module_path(path: &str) -> Option<(&str, Compression)> {
    match path.strip_suffix(".xz") {
        Some(path) if path.ends_with(".ko") => Some((path, Compression::Xz)),
        _ if path.ends_with(".ko") => Some((path, Compression::None)),
        _ => None,
    }
}

/// `kernel/fs/overlayfs/overlay.ko` is `overlay`.
fn name_of(path: &str) -> Option<String> {
    super::paths::name(path).strip_suffix(".ko").map(normal)
}

fn read_module(
    package: &Package,
    path: &str,
    compression: Compression,
    content: &Content,
    order: &BTreeMap<&str, u32>,
) -> Result<(String, Module), ModulesError> {
    let fail = |reason: String| module_error(package, path, reason);
    let mut bytes = content.read().map_err(|e| fail(e.to_string()))?;
    let mut content = content.clone();
    if let Compression::Xz = compression {
        // Plain in the image: the squashfs compresses better, and first boot need not know xz.
        let mut plain = Vec::new();
        let mut reader = lzma_rust2::XzReader::new(bytes.as_slice(), true);
        std::io::Read::read_to_end(&mut reader, &mut plain).map_err(|e| fail(e.to_string()))?;
        bytes = plain;
        content = Content::bytes(bytes.as_slice());
    }
    let info = ModInfo::of_module(&bytes).map_err(|e| fail(e.to_string()))?;
    let name = name_of(path).ok_or_else(|| fail("has no name".to_owned()))?;
    let order = order.get(path).copied().unwrap_or(u32::MAX);
    Ok((name, Module { path: path.to_owned(), order, info, content }))
}

fn module_error(package: &Package, path: &str, reason: String) -> ModulesError {
    ModulesError::Module { package: package.name.clone(), path: path.to_owned(), reason }
}

fn exact_aliases(modules: &BTreeMap<String, Module>) -> BTreeMap<String, Vec<String>> {
    let mut aliases: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, module) in modules {
        for alias in module.info.aliases.iter().filter(|alias| !alias.contains(['*', '?', '['])) {
            aliases.entry(alias.clone()).or_default().push(name.clone());
        }
    }
    aliases
}

#[cfg(test)]
pub(in crate::rootfs) mod tests;
