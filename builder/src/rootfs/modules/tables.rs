//! The index files of a selection: text for people and first boot, `.bin` for modprobe.

use super::index::Index;
use super::modinfo::{ModInfo, normal, normal_alias};
use super::{ModulesError, Selected};
use crate::rootfs::tree::Content;

impl<'a> Selected<'a> {
    /// File name below the modules folder, and contents.
    ///
    /// Not made: `modules.symbols` (only `request_module("symbol:…")` asks, of modules that depend on one
    /// another anyway) and `modules.devname` (nodes of modules that are not loaded yet; none is wanted).
    pub(super) fn tables(&self) -> Result<Vec<(&'static str, Content)>, ModulesError> {
        let builtin = &self.kernel.builtin;
        let (dep, dep_index) = self.dependencies()?;
        let (alias, alias_index) = self.aliases()?;
        Ok(vec![
            ("modules.alias", Content::bytes(alias)),
            ("modules.alias.bin", Content::bytes(alias_index.bytes())),
            ("modules.builtin", builtin.list.clone()),
            ("modules.builtin.alias.bin", Content::bytes(self.builtin_aliases()?.bytes())),
            ("modules.builtin.bin", Content::bytes(self.builtin_names()?.bytes())),
            ("modules.builtin.modinfo", builtin.modinfo.clone()),
            ("modules.dep", Content::bytes(dep)),
            ("modules.dep.bin", Content::bytes(dep_index.bytes())),
            ("modules.order", Content::bytes(self.order())),
            ("modules.softdep", Content::bytes(self.softdeps())),
        ])
    }

    /// In the kernel's link order, as depmod's files are.
    fn ordered(&self) -> Vec<&'a str> {
        let mut names: Vec<&str> = self.names.iter().copied().collect();
        names.sort_by_key(|name| (self.kernel.modules[*name].order, *name));
        names
    }

    fn order(&self) -> String {
        self.ordered().iter().map(|name| format!("{}\n", self.kernel.modules[*name].path)).collect()
    }

    /// `path: dependency dependency`, to be loaded from the last to the first.
    fn dependencies(&self) -> Result<(String, Index), ModulesError> {
        let (mut text, mut index) = (String::new(), Index::default());
        for name in self.ordered() {
            let module = &self.kernel.modules[name];
            let mut line = format!("{}:", module.path);
            for dependency in self.load_order(name).iter().rev() {
                line.push(' ');
                line.push_str(&self.kernel.modules[*dependency].path);
            }
            index.insert(name, &line, module.order)?;
            text.push_str(&line);
            text.push('\n');
        }
        Ok((text, index))
    }

    /// All that `name` depends on, each after what it depends on itself.
    fn load_order(&self, name: &'a str) -> Vec<&'a str> {
        fn visit<'a>(selected: &Selected<'a>, name: &'a str, done: &mut Vec<&'a str>) {
            for dependency in &selected.kernel.modules[name].info.depends {
                // Those that are built in are no files.
                let Some((dependency, _)) = selected.kernel.modules.get_key_value(dependency) else {
                    continue;
                };
                if !done.contains(&dependency.as_str()) {
                    visit(selected, dependency, done);
                    done.push(dependency);
                }
            }
        }
        let mut done = Vec::new();
        visit(self, name, &mut done);
        done
    }

    fn aliases(&self) -> Result<(String, Index), ModulesError> {
        let mut text = "# Aliases extracted from modules themselves.\n".to_owned();
        let mut index = Index::default();
        for name in self.ordered() {
            let module = &self.kernel.modules[name];
            for alias in &module.info.aliases {
                text.push_str(&format!("alias {alias} {name}\n"));
                index.insert(&normal_alias(alias), name, module.order)?;
            }
        }
        Ok((text, index))
    }

    fn softdeps(&self) -> String {
        let mut text = "# Soft dependencies extracted from modules themselves.\n".to_owned();
        for name in self.ordered() {
            for softdep in &self.kernel.modules[name].info.softdeps {
                text.push_str(&format!("softdep {name} {softdep}\n"));
            }
        }
        text
    }

    fn builtin_names(&self) -> Result<Index, ModulesError> {
        let mut index = Index::default();
        for name in &self.kernel.builtin.names {
            index.insert(name, "", 0)?;
        }
        Ok(index)
    }

    /// `modules.builtin.modinfo` has `module.key=value`, NUL-terminated.
    fn builtin_aliases(&self) -> Result<Index, ModulesError> {
        let content = &self.kernel.builtin.modinfo;
        let bytes = content.read().map_err(|e| ModulesError::Module {
            package: self.kernel.origin.to_string(),
            path: "modules.builtin.modinfo".to_owned(),
            reason: e.to_string(),
        })?;
        let mut index = Index::default();
        for pair in bytes.split(|byte| *byte == 0) {
            let Some(dot) = pair.iter().position(|byte| *byte == b'.') else { continue };
            let name = normal(&String::from_utf8_lossy(&pair[..dot]));
            for alias in ModInfo::parse(&pair[dot + 1..]).aliases {
                index.insert(&normal_alias(&alias), &name, 0)?;
            }
        }
        Ok(index)
    }
}
