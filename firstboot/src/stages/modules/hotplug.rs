//! Modules for what is plugged in while the machine runs. Nobody else loads them: the kernel calls modprobe for what
//! programs ask for, and leaves devices to whoever hears its events.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use super::{ModulesError, Problem, bus_aliases, load_missing, read_index};
use crate::stages::uevent::{Heard, Uevents};

/// Loads modules for devices as they appear. The index of modules is read when there is something to look up: a
/// machine may run for months without.
pub struct Hotplug {
    root: PathBuf,
    events: Uevents,
    /// Aliases that were looked up already.
    known: BTreeSet<String>,
}

/// What became of new devices.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Modules that are new in the kernel.
    pub modules: Vec<String>,
    /// What failed.
    pub problems: Vec<Problem>,
}

impl Hotplug {
    /// Begins to listen.
    pub fn open(root: &Path) -> Result<Hotplug, ModulesError> {
        let events = Uevents::open().map_err(|source| ModulesError::Events { source })?;
        Ok(Hotplug { root: root.to_owned(), events, known: BTreeSet::new() })
    }

    /// Loads what the devices that are there ask for: some may have come before this listened.
    pub fn load_all(&mut self) -> Result<Loaded, ModulesError> {
        let aliases = bus_aliases(&self.root);
        self.load(aliases)
    }

    /// Loads what the devices ask for that have come since the last call. Does not wait.
    pub fn load_new(&mut self) -> Result<Loaded, ModulesError> {
        let heard = self.events.drain().map_err(|source| ModulesError::Events { source })?;
        let aliases = self.asked_for(&heard);
        self.load(aliases)
    }

    fn asked_for(&self, heard: &[Heard]) -> Vec<String> {
        if heard.contains(&Heard::Overflow) {
            return bus_aliases(&self.root);
        }
        let added = heard.iter().filter(|event| event.get("ACTION") == Some("add"));
        added.filter_map(|event| event.get("MODALIAS").map(str::to_owned)).collect()
    }

    fn load(&mut self, mut aliases: Vec<String>) -> Result<Loaded, ModulesError> {
        aliases.retain(|alias| self.known.insert(alias.clone()));
        if aliases.is_empty() {
            return Ok(Loaded::default());
        }
        let index = read_index(&self.root)?;
        // An alias of a module that the image leaves out, or that is built in, is no fault.
        let names: BTreeSet<&str> = aliases.iter().flat_map(|alias| index.matches(alias)).collect();
        let wanted = names.iter().filter_map(|name| index.resolve(&[name]).ok()).flatten();
        let (loaded, problems) = load_missing(&self.root, wanted.collect());
        Ok(Loaded { modules: loaded.into_iter().map(|(name, _)| name).collect(), problems })
    }
}

impl AsFd for Hotplug {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A machine with one device.
    fn hotplug() -> (tempfile::TempDir, Hotplug) {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("sys/bus/pci/devices/0");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("modalias"), "pci:v1\n").unwrap();
        let hotplug = Hotplug::open(root.path()).unwrap();
        (root, hotplug)
    }

    fn event(action: &str, alias: Option<&str>) -> Heard {
        let alias = alias.map(|alias| ("MODALIAS", alias));
        let variables = [("ACTION", action)].into_iter().chain(alias);
        Heard::Event(
            variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<BTreeMap<_, _>>(),
        )
    }

    #[test]
    fn only_devices_that_come_ask_for_modules() {
        let (_root, hotplug) = hotplug();
        let heard = [
            event("add", Some("pci:v2")),
            event("remove", Some("pci:v3")),
            event("change", Some("pci:v4")),
            event("add", None),
        ];
        assert_eq!(hotplug.asked_for(&heard), ["pci:v2"]);
        // Some were lost: any of those that are there may be new.
        assert_eq!(hotplug.asked_for(&[Heard::Overflow]), ["pci:v1"]);
    }

    #[test]
    fn the_index_is_read_for_what_is_new_alone() {
        let (_root, mut hotplug) = hotplug();
        let error = hotplug.load_all().unwrap_err();
        assert!(error.to_string().contains("modules.dep"), "{error}");
        let again = hotplug.load_all().unwrap();
        assert_eq!((again.modules.len(), again.problems.len()), (0, 0));
    }
}
