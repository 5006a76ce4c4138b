//! What a finished root must be: every program finds its libraries, nothing is a shell, an interpreter
//! or a package manager, no link of a program leads nowhere.

use std::collections::{BTreeMap, BTreeSet};

use object::Endianness;
use object::elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH, FileHeader64};
use object::read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _};
use object::read::{ReadCache, ReadRef};
use rayon::prelude::*;

use super::paths;
use super::tree::{Content, Entry, Kind, RootTree};

/// Where glibc's loader looks when there is no `ld.so.cache`: `LD_LIBRARY_PATH`-less search on Debian.
const LIBRARY_FOLDERS: [&str; 4] =
    ["/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu", "/usr/lib", "/usr/lib64"];

/// Programs that give a shell or install software: none may be in a root.
const FORBIDDEN: [&str; 29] = [
    "apk", "apt", "apt-get", "ash", "awk", "bash", "busybox", "csh", "dash", "dnf", "dpkg", "fish", "gawk",
    "ksh", "lua", "mawk", "mksh", "perl", "php", "pip", "python", "python3", "rpm", "ruby", "sh", "tcsh",
    "toybox", "yum", "zsh",
];

/// One thing that is wrong with a root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Fault {
    /// A library is nowhere.
    #[error(
        "{path} ({origin}) needs {library}, which no package brings: install its package, or take it off `exclude` \
         or `prune`"
    )]
    Library {
        /// Program or library.
        path: String,
        /// What brought it.
        origin: String,
        /// Name as in NEEDED, or a path of an interpreter.
        library: String,
    },
    /// A shell, interpreter or package manager.
    #[error(
        "{path} ({origin}) is a {what}, and a root has none: add it to `prune` or its package to `exclude`"
    )]
    Forbidden {
        /// Where it is.
        path: String,
        /// What brought it.
        origin: String,
        /// Its name, or its first line.
        what: String,
    },
    /// A link of a program or library leads nowhere.
    #[error("{path} ({origin}) points to {target}, which nothing brings: keep the target or prune the link")]
    Link {
        /// The link.
        path: String,
        /// What brought it.
        origin: String,
        /// As written.
        target: String,
    },
    /// An ELF file is damaged.
    #[error("{path} ({origin}) is no good ELF file: {reason}")]
    Elf {
        /// Where it is.
        path: String,
        /// What brought it.
        origin: String,
        /// Why.
        reason: String,
    },
    /// A file cannot be read.
    #[error("{path} ({origin}): {reason}")]
    Read {
        /// Where it is.
        path: String,
        /// What brought it.
        origin: String,
        /// Why.
        reason: String,
    },
}

/// What an ELF file asks of the root.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Needs {
    interpreter: Option<String>,
    libraries: Vec<String>,
    run_paths: Vec<String>,
}

/// Everything that is wrong with a root, sorted; empty if nothing is.
pub fn faults(tree: &RootTree) -> Vec<Fault> {
    let mut faults: Vec<Fault> = tree
        .entries
        .par_iter()
        .flat_map_iter(|(path, entry)| match &entry.kind {
            Kind::File(content) => file_faults(tree, path, entry, content),
            Kind::Link(target) => link_faults(tree, path, entry, target),
            Kind::Folder | Kind::Character(..) => Vec::new(),
        })
        .collect();
    faults.sort();
    faults
}

/// Libraries that no program or library of the tree needs by name; plugins that are opened by name at
/// run time are among them. For whoever prunes a profile.
pub fn unneeded_libraries(tree: &RootTree) -> BTreeSet<String> {
    let needed: BTreeMap<&str, Needs> = tree
        .entries
        .iter()
        .filter_map(|(path, entry)| match &entry.kind {
            Kind::File(content) => Some((path.as_str(), needs(content).ok().flatten()?)),
            _ => None,
        })
        .collect();
    let mut used = BTreeSet::new();
    for (path, needs) in &needed {
        used.extend(needs.interpreter.iter().filter_map(|path| Some(tree.resolve(path)?.0)));
        used.extend(needs.libraries.iter().filter_map(|name| find(tree, path, needs, name)));
    }
    let libraries = needed.keys().filter(|path| paths::name(path).contains(".so"));
    libraries.map(|path| (*path).to_owned()).filter(|path| !used.contains(path)).collect()
}

fn file_faults(tree: &RootTree, path: &str, entry: &Entry, content: &Content) -> Vec<Fault> {
    let (path_owned, origin) = (path.to_owned(), entry.origin.to_string());
    let name = paths::name(path);
    let program = matches!(paths::parent(path), "/usr/bin" | "/usr/sbin");
    if program && FORBIDDEN.contains(&name) {
        return vec![Fault::Forbidden { path: path_owned, origin, what: name.to_owned() }];
    }
    // Kernel modules are ELF files of another kind, and so are programs of devices.
    if path.starts_with("/usr/lib/modules/") || path.starts_with("/usr/lib/firmware/") {
        return Vec::new();
    }
    let start = match content.read_start(64) {
        Ok(start) => start,
        Err(e) => return vec![Fault::Read { path: path_owned, origin, reason: e.to_string() }],
    };
    if start.starts_with(b"#!") && entry.mode & 0o111 != 0 {
        let line = String::from_utf8_lossy(&start);
        let what = format!("script ({})", line.lines().next().unwrap_or_default());
        return vec![Fault::Forbidden { path: path_owned, origin, what }];
    }
    if !start.starts_with(b"\x7fELF") {
        return Vec::new();
    }
    let needs = match needs(content) {
        Ok(needs) => needs.unwrap_or_default(),
        Err(reason) => return vec![Fault::Elf { path: path_owned, origin, reason }],
    };
    let interpreter = needs.interpreter.iter().filter(|path| tree.resolve(path).is_none());
    let libraries = needs.libraries.iter().filter(|name| find(tree, path, &needs, name).is_none());
    let missing = interpreter.chain(libraries).map(|library| Fault::Library {
        path: path.to_owned(),
        origin: origin.clone(),
        library: library.clone(),
    });
    missing.collect()
}

fn link_faults(tree: &RootTree, path: &str, entry: &Entry, target: &str) -> Vec<Fault> {
    let origin = entry.origin.to_string();
    let name = paths::name(path);
    if matches!(paths::parent(path), "/usr/bin" | "/usr/sbin") && FORBIDDEN.contains(&name) {
        return vec![Fault::Forbidden { path: path.to_owned(), origin, what: name.to_owned() }];
    }
    if path.starts_with("/usr/") && !path.starts_with("/usr/share/") && tree.resolve(path).is_none() {
        return vec![Fault::Link { path: path.to_owned(), origin, target: target.to_owned() }];
    }
    Vec::new()
}

/// The library `name` that the loader would take for the file at `path`.
fn find(tree: &RootTree, path: &str, needs: &Needs, name: &str) -> Option<String> {
    let run_paths = needs.run_paths.iter().map(|run| run.replace("$ORIGIN", paths::parent(path)));
    let folders = run_paths.chain(LIBRARY_FOLDERS.iter().map(|&folder| folder.to_owned()));
    let mut found = folders.filter_map(|folder| {
        let path = if name.contains('/') { name.to_owned() } else { format!("{folder}/{name}") };
        let (path, entry) = tree.resolve(&path)?;
        matches!(entry.kind, Kind::File(_)).then_some(path)
    });
    found.next()
}

/// `None` if it is no 64-bit ELF file.
fn needs(content: &Content) -> Result<Option<Needs>, String> {
    if !content.read_start(5).map_err(|e| e.to_string())?.starts_with(b"\x7fELF\x02") {
        return Ok(None);
    }
    // Of a program of 60 MB in the cache, only the headers and the dynamic section are read.
    let needs = if let Content::Range { path, offset, length, .. } = content {
        let cache = ReadCache::new(std::fs::File::open(path).map_err(|e| e.to_string())?);
        read_needs(cache.range(*offset, *length))
    } else {
        read_needs(content.read().map_err(|e| e.to_string())?.as_slice())
    };
    needs.map_err(|e| e.to_string()).map(Some)
}

fn read_needs<'a>(data: impl ReadRef<'a>) -> Result<Needs, object::Error> {
    let header = FileHeader64::<Endianness>::parse(data)?;
    let endian = header.endian()?;
    let mut needs = Needs::default();
    for segment in header.program_headers(endian, data)? {
        if let Some(path) = segment.interpreter(endian, data)? {
            needs.interpreter = Some(String::from_utf8_lossy(path).into_owned());
        }
    }
    let sections = header.sections(endian, data)?;
    if let Some((dynamic, strings)) = sections.dynamic(endian, data)? {
        let strings = sections.strings(endian, data, strings)?;
        for item in dynamic {
            let text = || Ok(String::from_utf8_lossy(item.string(endian, strings)?).into_owned());
            match item.tag(endian) {
                DT_NEEDED => needs.libraries.push(text()?),
                DT_RPATH | DT_RUNPATH => needs.run_paths.extend(text()?.split(':').map(str::to_owned)),
                _ => {}
            }
        }
    }
    Ok(needs)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn put(tree: &mut RootTree, path: &str, kind: Kind) {
        tree.insert(path, Entry::new(kind, 0o755, &"package t 1".into())).expect("inserted");
    }

    fn text(tree: &RootTree) -> Vec<String> {
        faults(tree).iter().map(ToString::to_string).collect()
    }

    /// A real program of this machine: its interpreter and library are asked for until they are there.
    #[test]
    fn a_program_needs_its_interpreter_and_libraries() {
        let real = |path: &str| Kind::File(Content::file(Path::new(path)).expect("Debian has it"));
        let mut tree = RootTree::default();
        super::super::setup::merged_usr(&mut tree).expect("linked");
        put(&mut tree, "/usr/bin/true", real("/bin/true"));
        assert_eq!(
            text(&tree),
            [
                "/usr/bin/true (package t 1) needs /lib64/ld-linux-x86-64.so.2, which no package brings: install its \
                 package, or take it off `exclude` or `prune`",
                "/usr/bin/true (package t 1) needs libc.so.6, which no package brings: install its package, or take it \
                 off `exclude` or `prune`",
            ]
        );
        put(&mut tree, "/lib64/ld-linux-x86-64.so.2", Kind::Link("/lib/x86_64-linux-gnu/ld.so".to_owned()));
        put(&mut tree, "/lib/x86_64-linux-gnu/ld.so", real("/lib64/ld-linux-x86-64.so.2"));
        put(&mut tree, "/lib/x86_64-linux-gnu/libc.so.6", real("/lib/x86_64-linux-gnu/libc.so.6"));
        // libc names its loader by another name.
        put(&mut tree, "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", Kind::Link("ld.so".to_owned()));
        assert_eq!(text(&tree), [""; 0]);
        put(&mut tree, "/lib/x86_64-linux-gnu/libm.so.6", real("/lib/x86_64-linux-gnu/libm.so.6"));
        assert_eq!(
            unneeded_libraries(&tree).into_iter().collect::<Vec<_>>(),
            ["/usr/lib/x86_64-linux-gnu/libm.so.6"]
        );
    }

    #[test]
    fn shells_scripts_and_links_to_nowhere_are_faults() {
        let mut tree = RootTree::default();
        put(&mut tree, "/bin/sh", Kind::Link("dash".to_owned()));
        put(&mut tree, "/usr/sbin/dpkg", Kind::File(Content::bytes(*b"x")));
        put(&mut tree, "/usr/lib/x/hook", Kind::File(Content::bytes(*b"#!/bin/sh -e\ntrue\n")));
        put(&mut tree, "/usr/sbin/iptables", Kind::Link("gone".to_owned()));
        put(&mut tree, "/usr/bin/cut-off", Kind::File(Content::bytes(*b"\x7fELF\x02\x01\x01")));
        let all = text(&tree);
        assert_eq!(all.len(), 5, "{all:?}");
        for expected in [
            "/usr/bin/sh (package t 1) is a sh, and a root has none",
            "/usr/sbin/dpkg (package t 1) is a dpkg, and a root has none",
            "/usr/lib/x/hook (package t 1) is a script (#!/bin/sh -e), and a root has none",
            "/usr/sbin/iptables (package t 1) points to gone, which nothing brings",
            "/usr/bin/cut-off (package t 1) is no good ELF file",
        ] {
            assert!(all.iter().any(|fault| fault.starts_with(expected)), "{expected}: {all:?}");
        }
    }
}
