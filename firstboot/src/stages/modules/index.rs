//! Which module a device wants and what that module needs: `modules.alias`, `modules.dep` and
//! `modules.builtin` (kmod's text files, see modules.dep(5)).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::ModulesError;

/// The modules of one kernel release.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Index {
    folder: PathBuf,
    /// Normalised name to path and paths of everything it needs, as `modules.dep` lists them.
    modules: BTreeMap<String, Module>,
    /// Alias patterns by the bus they begin with (`pci`, `virtio`), in file order.
    aliases: BTreeMap<String, Vec<(String, String)>>,
    builtin: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Module {
    path: String,
    needs: Vec<String>,
}

/// A module file and the names of the modules that must be loaded before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// Normalised name.
    pub name: String,
    /// Absolute path of the file.
    pub path: PathBuf,
    /// Normalised names.
    pub needs: Vec<String>,
}

impl Index {
    /// Reads the three files below `folder`, `/usr/lib/modules/<release>`.
    pub fn read(folder: &Path) -> Result<Index, ModulesError> {
        let text = |name: &str| {
            let path = folder.join(name);
            std::fs::read_to_string(&path).map_err(|source| ModulesError::Read { path, source })
        };
        Ok(Index::parse(folder, &text("modules.dep")?, &text("modules.alias")?, &text("modules.builtin")?))
    }

    /// Lines that do not have the files' form are passed over, as kmod does.
    pub fn parse(folder: &Path, dep: &str, alias: &str, builtin: &str) -> Index {
        let mut index = Index { folder: folder.to_owned(), ..Index::default() };
        for (path, needs) in dep.lines().filter_map(|line| line.split_once(':')) {
            let needs = needs.split_whitespace().map(name_of).collect();
            index.modules.insert(name_of(path), Module { path: path.trim().to_owned(), needs });
        }
        for line in alias.lines() {
            let mut words = line.split_whitespace();
            let (Some("alias"), Some(pattern), Some(module)) = (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let entry = (pattern.to_owned(), normal(module));
            index.aliases.entry(bus_of(pattern).to_owned()).or_default().push(entry);
        }
        index.builtin = builtin.lines().filter(|line| !line.is_empty()).map(name_of).collect();
        index
    }

    /// Names of the modules that `modalias` matches.
    pub fn matches(&self, modalias: &str) -> Vec<&str> {
        let patterns = self.aliases.get(bus_of(modalias)).map_or(&[][..], Vec::as_slice);
        let matching = patterns.iter().filter(|(pattern, _)| glob(pattern.as_bytes(), modalias.as_bytes()));
        matching.map(|(_, module)| module.as_str()).collect()
    }

    /// Everything to load for `names`, each once, what is needed before what needs it.
    ///
    /// A name may be an alias without wildcards (`fs-ext4`, `crypto-crc32c`); what is built into the
    /// kernel needs nothing.
    pub fn resolve(&self, names: &[&str]) -> Result<Vec<Load>, ModulesError> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for name in names {
            for module in self.expand(name)? {
                self.add(&module, &mut seen, &mut order);
            }
        }
        Ok(order)
    }

    fn expand(&self, name: &str) -> Result<Vec<String>, ModulesError> {
        let wanted = normal(name);
        if self.modules.contains_key(&wanted) {
            return Ok(vec![wanted]);
        }
        let by_alias: Vec<String> = self.matches(name).into_iter().map(str::to_owned).collect();
        if by_alias.is_empty() && !self.builtin.contains(&wanted) {
            return Err(ModulesError::Unknown { name: name.to_owned(), folder: self.folder.clone() });
        }
        Ok(by_alias)
    }

    fn add(&self, name: &str, seen: &mut BTreeSet<String>, order: &mut Vec<Load>) {
        let Some(module) = self.modules.get(name) else { return };
        if !seen.insert(name.to_owned()) {
            return;
        }
        // modules.dep lists the whole closure, the nearest first; each has a line of its own that says
        // what it needs in turn, which keeps the order right whatever the list's order is.
        for need in &module.needs {
            self.add(need, seen, order);
        }
        let path = self.folder.join(&module.path);
        order.push(Load { name: name.to_owned(), path, needs: module.needs.clone() });
    }
}

/// `kernel/drivers/block/virtio-blk.ko.xz` is `virtio_blk`.
fn name_of(path: &str) -> String {
    let file = path.trim().rsplit('/').next().unwrap_or_default();
    normal(file.split_once(".ko").map_or(file, |(name, _)| name))
}

/// Dashes and underscores are the same in a module's name; the kernel uses underscores.
fn normal(name: &str) -> String {
    name.replace('-', "_")
}

/// The part of an alias that never holds a wildcard; buckets made of it keep the matching short.
fn bus_of(alias: &str) -> &str {
    alias.split([':', '*', '?', '[']).next().unwrap_or_default()
}

/// `fnmatch(pattern, text, 0)` for what modules.alias holds: `*`, `?` and `[…]` with ranges.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on when the last `*` has to take one more character.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if p < pattern.len() && pattern[p] == b'*' {
            retry = Some((p + 1, t));
            p += 1;
            continue;
        }
        if t == text.len() {
            return p == pattern.len();
        }
        match single(&pattern[p.min(pattern.len())..], text[t]) {
            Some(length) => {
                p += length;
                t += 1;
            }
            None => match retry {
                Some((after, taken)) => {
                    retry = Some((after, taken + 1));
                    p = after;
                    t = taken + 1;
                }
                None => return false,
            },
        }
    }
}

/// Length of the pattern element that matches `byte`, if it does.
fn single(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern.first()? {
        b'?' => Some(1),
        b'[' => {
            let end = pattern.iter().position(|&b| b == b']')?;
            in_set(&pattern[1..end], byte).then_some(end + 1)
        }
        &literal => (literal == byte).then_some(1),
    }
}

fn in_set(set: &[u8], byte: u8) -> bool {
    let (negated, mut set) = match set.first() {
        Some(b'!' | b'^') => (true, &set[1..]),
        _ => (false, set),
    };
    let mut found = false;
    while let Some((&first, rest)) = set.split_first() {
        match rest {
            [b'-', last, after @ ..] => {
                found |= (first..=*last).contains(&byte);
                set = after;
            }
            _ => {
                found |= first == byte;
                set = rest;
            }
        }
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEP: &str = "\
kernel/drivers/virtio/virtio.ko:
kernel/drivers/virtio/virtio_ring.ko: kernel/drivers/virtio/virtio.ko
kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko
kernel/drivers/md/dm-mod.ko:
kernel/drivers/md/dm-bufio.ko.xz: kernel/drivers/md/dm-mod.ko
kernel/drivers/md/dm-verity.ko: kernel/drivers/md/dm-bufio.ko.xz kernel/drivers/md/dm-mod.ko
";
    const ALIAS: &str = "\
# Aliases extracted from modules themselves.
alias virtio:d00000002v* virtio_blk
alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci
alias cpu:type:x86,ven*fam*mod*:feature:*0081* dm_mod
alias dm-verity-alias dm_verity
";

    fn index() -> Index {
        let builtin = "kernel/fs/ext4/ext4.ko\n";
        Index::parse(Path::new("/m"), DEP, ALIAS, builtin)
    }

    fn names(loads: &[Load]) -> Vec<&str> {
        loads.iter().map(|load| load.name.as_str()).collect()
    }

    #[test]
    fn what_is_needed_comes_first_and_once() {
        let loads = index().resolve(&["dm-verity", "virtio_blk", "dm_mod"]).unwrap();
        assert_eq!(names(&loads), ["dm_mod", "dm_bufio", "dm_verity", "virtio", "virtio_ring", "virtio_blk"]);
        assert_eq!(loads[1].path, Path::new("/m/kernel/drivers/md/dm-bufio.ko.xz"));
    }

    #[test]
    fn a_builtin_needs_nothing_and_an_unknown_name_is_named() {
        assert_eq!(index().resolve(&["ext4"]).unwrap(), []);
        assert_eq!(names(&index().resolve(&["dm-verity-alias"]).unwrap()).last(), Some(&"dm_verity"));
        let error = index().resolve(&["zfs"]).unwrap_err();
        assert!(error.to_string().contains("zfs"), "{error}");
    }

    #[test]
    fn devices_find_their_modules() {
        let index = index();
        assert_eq!(index.matches("virtio:d00000002v00001AF4"), ["virtio_blk"]);
        assert_eq!(index.matches("virtio:d00000001v00001AF4"), [""; 0]);
        assert_eq!(index.matches("pci:v00001AF4d00001001sv00001AF4sd00000002bc01sc00i00"), ["virtio_pci"]);
        let cpu = "cpu:type:x86,ven0002fam000Fmod006B:feature:,0000,0081,0094";
        assert_eq!(index.matches(cpu), ["dm_mod"]);
    }

    #[test]
    fn patterns_match_as_fnmatch_does() {
        for (pattern, text, expected) in [
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("usb:v[0-9]*", "usb:v7", true),
            ("usb:v[!0-9]*", "usb:v7", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*", "", true),
            ("", "", true),
            ("[a", "a", false),
        ] {
            assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} on {text}");
        }
    }

    proptest! {
        #[test]
        fn a_star_pattern_agrees_with_the_recursive_definition(pattern in "[ab*?]{0,8}", text in "[ab]{0,10}") {
            fn slow(pattern: &[u8], text: &[u8]) -> bool {
                match (pattern.first(), text.first()) {
                    (None, None) => true,
                    (Some(b'*'), _) => {
                        slow(&pattern[1..], text) || (!text.is_empty() && slow(pattern, &text[1..]))
                    }
                    (Some(b'?'), Some(_)) => slow(&pattern[1..], &text[1..]),
                    (Some(a), Some(b)) if a == b => slow(&pattern[1..], &text[1..]),
                    _ => false,
                }
            }
            prop_assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), slow(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn any_text_is_parsed(dep in ".{0,200}", alias in ".{0,200}") {
            let index = Index::parse(Path::new("/m"), &dep, &alias, "");
            let _ = index.matches("pci:v");
        }
    }
}
