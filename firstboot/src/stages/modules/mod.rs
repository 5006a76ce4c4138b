//! **modules**: what this machine's buses ask for, and what first boot needs itself.

mod cards;
mod hotplug;
mod index;
mod load;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bootwright_model::layout;

use super::uevent::{Heard, Uevents};
use super::{Advice, Problem};
use crate::report::under;

use cards::Cards;
pub use hotplug::{Hotplug, Loaded};
pub use index::{Index, Load};

/// What can go wrong around modules.
#[derive(Debug, thiserror::Error)]
pub enum ModulesError {
    /// A file of the module folder.
    #[error("{path}: cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Neither a module nor built in.
    #[error("no module `{name}` below {folder}, and the kernel has none built in")]
    Unknown {
        /// As asked for.
        name: String,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// The kernel refused it.
    #[error("{path}: the kernel does not load it")]
    Load {
        /// The module.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not tried, because of another.
    #[error("module {name} needs {need}, which was not loaded")]
    Need {
        /// The module.
        name: String,
        /// What it needs.
        need: String,
    },
    /// No socket for device events.
    #[error("device events of the kernel cannot be heard")]
    Events {
        /// Why.
        source: io::Error,
    },
}

impl Advice for ModulesError {
    fn advice(&self) -> String {
        match self {
            ModulesError::Read { .. } | ModulesError::Unknown { .. } => {
                "name the module in the profile's kernel.modules and kernel.initramfs-modules, and build again"
            }
            ModulesError::Load { .. } | ModulesError::Need { .. } => {
                "build the image again: kernel and modules must come from one package"
            }
            ModulesError::Events { .. } => "this kernel lacks netlink: use one of Debian's kernels",
        }
        .to_owned()
    }
}

/// Loads modules for devices as they appear.
pub struct Coldplug {
    root: PathBuf,
    index: Index,
    events: Uevents,
    /// Aliases that were looked up already.
    known: BTreeSet<String>,
    /// Modules that the kernel has, or has refused.
    done: BTreeSet<String>,
    /// Modules loaded by us, and the time that each took.
    loaded: Vec<(String, Duration)>,
    /// Drivers of cards, if they are to be loaded beside.
    cards: Option<Cards>,
    /// What failed, for the report.
    pub problems: Vec<Problem>,
}

impl Coldplug {
    /// Begins to listen for devices, before any are looked at, so that none falls in between.
    pub fn open(root: &Path) -> Result<Coldplug, ModulesError> {
        let index = read_index(root)?;
        let events = Uevents::open().map_err(|source| ModulesError::Events { source })?;
        Ok(Coldplug {
            root: root.to_owned(),
            index,
            events,
            known: BTreeSet::new(),
            done: load::present(root).into_keys().collect(),
            loaded: Vec::new(),
            cards: None,
            problems: Vec::new(),
        })
    }

    /// From now on drivers of network cards are held back until [`Coldplug::begin_cards`].
    pub fn hold_cards(&mut self) {
        self.cards = Some(Cards::default());
    }

    /// Begins to load what was held back, beside whatever comes next.
    pub fn begin_cards(&mut self) {
        self.cards.iter_mut().for_each(Cards::begin);
    }

    /// Waits for what [`Coldplug::begin_cards`] began: a phrase for a summary, nothing if there were none. The files must be
    /// there until then.
    pub fn end_cards(&mut self) -> Option<String> {
        let loaded = self.cards.as_mut().map(Cards::end).unwrap_or_default();
        (!loaded.is_empty()).then(|| phrase(&loaded))
    }

    /// Loads modules by name, whatever the buses say.
    pub fn load(&mut self, names: &[&str]) -> Result<(), ModulesError> {
        let modules = self.index.resolve(names)?;
        self.load_all(modules);
        Ok(())
    }

    /// Loads modules by name and what the devices ask for, all in parallel; then what the devices ask for that
    /// appear by that, until nothing new is asked for.
    pub fn settle(&mut self, names: &[&str]) -> Result<(), ModulesError> {
        let mut modules = self.index.resolve(names)?;
        let mut aliases = bus_aliases(&self.root);
        loop {
            modules.extend(self.wanted(aliases));
            self.load_all(std::mem::take(&mut modules));
            let heard = self.events.drain().map_err(|source| ModulesError::Events { source })?;
            aliases = self.asked_for(&heard);
            if aliases.is_empty() {
                return Ok(());
            }
        }
    }

    /// Waits until `end` for a device event, loading what new devices ask for. False: nothing came.
    pub fn wait(&mut self, end: Instant) -> Result<bool, ModulesError> {
        let heard = self.events.wait(end).map_err(|source| ModulesError::Events { source })?;
        let aliases = self.asked_for(&heard);
        let modules = self.wanted(aliases);
        self.load_all(modules);
        Ok(!heard.is_empty())
    }

    /// What was loaded so far has been told.
    pub fn begin_summary(&mut self) {
        self.loaded.clear();
    }

    /// How many modules were loaded, and which took longest: a phrase for a summary.
    pub fn summary(&self) -> String {
        phrase(&self.loaded)
    }

    fn asked_for(&self, heard: &[Heard]) -> Vec<String> {
        let mut aliases = Vec::new();
        for event in heard {
            match event {
                Heard::Overflow => aliases.extend(bus_aliases(&self.root)),
                Heard::Event(_) if event.get("ACTION") == Some("add") => {
                    aliases.extend(event.get("MODALIAS").map(str::to_owned));
                }
                Heard::Event(_) => {}
            }
        }
        aliases.retain(|alias| !self.known.contains(alias));
        aliases
    }

    /// The modules for these aliases, with what they need.
    fn wanted(&mut self, aliases: Vec<String>) -> Vec<Load> {
        let mut names = BTreeSet::new();
        for alias in aliases {
            names.extend(self.index.matches(&alias).into_iter().map(str::to_owned));
            self.known.insert(alias);
        }
        // An alias of a module that the image leaves out, or that is built in, is no fault.
        names.iter().filter_map(|name| self.index.resolve(&[name]).ok()).flatten().collect()
    }

    fn load_all(&mut self, mut modules: Vec<Load>) {
        modules.retain(|module| self.done.insert(module.name.clone()));
        self.cards.iter_mut().for_each(|cards| cards.hold(&mut modules));
        let (loaded, problems) = load::load(modules);
        self.loaded.extend(loaded);
        self.problems.extend(problems);
    }
}

/// `3 modules (longest ext4, 0.102 s)`
fn phrase(loaded: &[(String, Duration)]) -> String {
    match loaded.iter().max_by_key(|(_, took)| *took) {
        Some((name, took)) => {
            format!("{} modules (longest {name}, {:.3} s)", loaded.len(), took.as_secs_f64())
        }
        None => "no new modules".to_owned(),
    }
}

/// Loads modules by name, with what they need, whatever the buses say; those that the kernel refused.
///
/// # Errors
/// There is no such module.
pub fn load_named(root: &Path, names: &[&str]) -> Result<Vec<Problem>, ModulesError> {
    let modules = read_index(root)?.resolve(names)?;
    Ok(load_missing(root, modules).1)
}

/// The index of this kernel's modules.
fn read_index(root: &Path) -> Result<Index, ModulesError> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    Index::read(&under(root, layout::INITRAMFS_MODULES).join(release))
}

/// Loads those that the kernel does not have, each once: those that were new with the time that each took, and what failed.
fn load_missing(root: &Path, mut modules: Vec<Load>) -> (Vec<(String, Duration)>, Vec<Problem>) {
    let mut done: BTreeSet<String> = load::present(root).into_keys().collect();
    modules.retain(|module| done.insert(module.name.clone()));
    load::load(modules)
}

/// The aliases of all devices on all buses, each once.
fn bus_aliases(root: &Path) -> Vec<String> {
    let mut aliases = BTreeSet::new();
    let folders = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten();
    for bus in folders(&under(root, "/sys/bus")) {
        for device in folders(&bus.path().join("devices")) {
            if let Ok(alias) = std::fs::read_to_string(device.path().join("modalias")) {
                aliases.insert(alias.trim().to_owned());
            }
        }
    }
    aliases.into_iter().filter(|alias| !alias.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bus_is_asked() {
        let root = tempfile::tempdir().unwrap();
        for (device, alias) in
            [("pci/devices/0", "pci:v1\n"), ("virtio/devices/1", "virtio:d2\n"), ("cpu/devices/2", "\n")]
        {
            let folder = root.path().join("sys/bus").join(device);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("modalias"), alias).unwrap();
        }
        assert_eq!(bus_aliases(root.path()), ["pci:v1", "virtio:d2"]);
    }

    #[test]
    fn missing_lists_are_named() {
        let root = tempfile::tempdir().unwrap();
        let error = Coldplug::open(root.path()).err().unwrap();
        assert!(error.to_string().contains("modules.dep"), "{error}");
    }
}
