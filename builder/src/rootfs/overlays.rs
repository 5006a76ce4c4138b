//! Overlays: folders of `rootfs-overlays/` laid over the tree, built into the program or beside the
//! cluster file. `rootfs-overlays/README.md` says what a folder and its `.toml` mean.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use include_dir::{Dir, include_dir};
use serde::Deserialize;

use super::paths;
use super::tree::{Entry, RootTree, TreeError};

static EMBEDDED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../rootfs-overlays");

/// Folder beside the cluster file whose overlays take the place of those built in.
pub const FOLDER: &str = "rootfs-overlays";

/// An overlay, read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overlay {
    /// Name of its folder.
    pub name: String,
    /// Path relative to the folder, to bytes; folders only if they are empty.
    files: BTreeMap<String, Vec<u8>>,
    options: Options,
}

/// `<name>.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Options {
    replace: Vec<String>,
    modes: BTreeMap<String, String>,
}

/// Why an overlay could not be read or laid.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// No such folder.
    #[error("there is no overlay {name:?}: neither a folder {folder}, nor among those built in ({known})")]
    Unknown {
        /// Name in the profile.
        name: String,
        /// Where it was looked for.
        folder: String,
        /// Names built in.
        known: String,
    },
    /// A file of it could not be read.
    #[error("{path}: {source}")]
    Read {
        /// On this machine.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Neither file nor folder.
    #[error(
        "{path}: an overlay has files and folders only; declare a link under [setup.links] of the profile"
    )]
    Kind {
        /// On this machine.
        path: PathBuf,
    },
    /// Options are no TOML of the right shape.
    #[error("{file}: {reason}")]
    Options {
        /// `<name>.toml`.
        file: String,
        /// With line and column.
        reason: String,
    },
    /// Options speak of a file that the overlay does not have.
    #[error("{file}: {list} names {path}, which the overlay does not have")]
    Absent {
        /// `<name>.toml`.
        file: String,
        /// `replace` or `modes`.
        list: &'static str,
        /// As written.
        path: String,
    },
    /// A mode is no octal number.
    #[error("{file}: {path} has mode {mode:?}; write an octal number such as \"0755\"")]
    Mode {
        /// `<name>.toml`.
        file: String,
        /// As written.
        path: String,
        /// As written.
        mode: String,
    },
    /// It cannot be in the tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

impl Overlay {
    /// Reads `name` from the folder `rootfs-overlays` in `beside`, else from those built in.
    pub fn load(name: &str, beside: Option<&Path>) -> Result<Overlay, OverlayError> {
        let folder = beside.map(|beside| beside.join(FOLDER)).unwrap_or_else(|| PathBuf::from(FOLDER));
        if beside.is_some() && folder.join(name).is_dir() {
            let mut files = BTreeMap::new();
            read_folder(&folder.join(name), "", &mut files)?;
            let options = folder.join(format!("{name}.toml"));
            let text = match std::fs::read_to_string(&options) {
                Ok(text) => text,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
                Err(source) => return Err(OverlayError::Read { path: options, source }),
            };
            return Overlay::new(name, files, &text);
        }
        let embedded = EMBEDDED.get_dir(name).ok_or_else(|| OverlayError::Unknown {
            name: name.to_owned(),
            folder: folder.join(name).display().to_string(),
            known: EMBEDDED.dirs().map(|dir| dir.path().display().to_string()).collect::<Vec<_>>().join(", "),
        })?;
        let mut files = BTreeMap::new();
        embedded_files(embedded, Path::new(name), &mut files);
        let options = EMBEDDED.get_file(format!("{name}.toml")).and_then(|file| file.contents_utf8());
        Overlay::new(name, files, options.unwrap_or_default())
    }

    fn new(name: &str, files: BTreeMap<String, Vec<u8>>, options: &str) -> Result<Overlay, OverlayError> {
        let file = format!("{FOLDER}/{name}.toml");
        let options: Options = toml::from_str(options)
            .map_err(|e| OverlayError::Options { file: file.clone(), reason: e.to_string() })?;
        let lists = [
            ("replace", options.replace.iter().collect::<Vec<_>>()),
            ("modes", options.modes.keys().collect()),
        ];
        for (list, listed) in lists {
            for path in listed {
                if !files.keys().any(|have| format!("/{have}") == *path) {
                    return Err(OverlayError::Absent { file, list, path: path.clone() });
                }
            }
        }
        for (path, mode) in &options.modes {
            if parse_mode(mode).is_none() {
                return Err(OverlayError::Mode { file, path: path.clone(), mode: mode.clone() });
            }
        }
        Ok(Overlay { name: name.to_owned(), files, options })
    }

    /// Puts the overlay's files into the tree.
    pub fn lay(&self, tree: &mut RootTree) -> Result<(), OverlayError> {
        let origin: Arc<str> = format!("overlay {}", self.name).into();
        for (path, bytes) in &self.files {
            let path = format!("/{path}");
            let mode = self.options.modes.get(&path).and_then(|mode| parse_mode(mode)).unwrap_or(0o644);
            let entry = Entry::file(bytes.as_slice(), mode, &origin);
            if self.options.replace.contains(&path) {
                tree.replace(&path, entry)?;
            } else {
                tree.insert(&path, entry)?;
            }
        }
        Ok(())
    }
}

fn parse_mode(mode: &str) -> Option<u32> {
    u32::from_str_radix(mode, 8).ok().filter(|mode| *mode <= 0o7777)
}

fn embedded_files(dir: &Dir<'_>, base: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for file in dir.files() {
        let path = file.path().strip_prefix(base).unwrap_or(file.path());
        files.insert(path.to_string_lossy().into_owned(), file.contents().to_owned());
    }
    dir.dirs().for_each(|dir| embedded_files(dir, base, files));
}

fn read_folder(
    folder: &Path,
    prefix: &str,
    files: &mut BTreeMap<String, Vec<u8>>,
) -> Result<(), OverlayError> {
    let read = |path: &Path, source| OverlayError::Read { path: path.to_owned(), source };
    for entry in std::fs::read_dir(folder).map_err(|e| read(folder, e))? {
        let entry = entry.map_err(|e| read(folder, e))?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(|e| read(&entry.path(), e))?);
        let name = paths::name(&path.to_string_lossy()).to_owned();
        if kind.is_dir() {
            read_folder(&path, &format!("{prefix}{name}/"), files)?;
        } else if kind.is_file() {
            files.insert(format!("{prefix}{name}"), std::fs::read(&path).map_err(|e| read(&path, e))?);
        } else {
            return Err(OverlayError::Kind { path });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rootfs::tree::{Content, Kind};

    #[test]
    fn what_is_built_in_is_laid_with_visible_modes() {
        let mut tree = RootTree::default();
        Overlay::load("base", None).expect("built in").lay(&mut tree).expect("laid");
        let hosts = tree.get("/etc/hosts").expect("etcd asks DNS for localhost without it");
        let Kind::File(content) = &hosts.kind else { panic!("a file") };
        assert!(content.read().expect("read").starts_with(b"127.0.0.1 localhost\n"));
        assert_eq!((hosts.mode, hosts.origin.as_ref()), (0o644, "overlay base"));
    }

    #[test]
    fn a_folder_beside_the_cluster_file_comes_first_and_replaces_only_what_it_lists() {
        let beside = tempfile::tempdir().expect("a folder");
        let base = beside.path().join("rootfs-overlays/base/etc");
        std::fs::create_dir_all(&base).expect("made");
        std::fs::write(base.join("x"), "ours").expect("written");
        let mut tree = RootTree::default();
        let theirs = Entry::file("theirs", 0o644, &"package x".into());
        tree.insert("/etc/x", theirs).expect("inserted");
        let overlay = Overlay::load("base", Some(beside.path())).expect("read");
        assert!(matches!(overlay.lay(&mut tree), Err(OverlayError::Tree(TreeError::Conflict { .. }))));
        let options = beside.path().join("rootfs-overlays/base.toml");
        std::fs::write(&options, "replace = [\"/etc/x\"]\n[modes]\n\"/etc/x\" = \"0600\"\n")
            .expect("written");
        Overlay::load("base", Some(beside.path())).expect("read").lay(&mut tree).expect("laid");
        let entry = tree.get("/etc/x").expect("is there");
        assert_eq!((&entry.kind, entry.mode), (&Kind::File(Content::bytes(*b"ours")), 0o600));
    }

    #[test]
    fn options_that_mean_nothing_are_refused() {
        let files: BTreeMap<String, Vec<u8>> = [("etc/x".to_owned(), Vec::new())].into();
        for (options, expected) in [
            (
                "replace = [\"/etc/y\"]",
                "rootfs-overlays/o.toml: replace names /etc/y, which the overlay does not have",
            ),
            (
                "[modes]\n\"/etc/x\" = \"9\"",
                "rootfs-overlays/o.toml: /etc/x has mode \"9\"; write an octal number such as \"0755\"",
            ),
        ] {
            assert_eq!(Overlay::new("o", files.clone(), options).expect_err("wrong").to_string(), expected);
        }
        let unknown = Overlay::new("o", files, "replaces = []").expect_err("unknown key").to_string();
        assert!(unknown.contains("line 1, column 1") && unknown.contains("replaces"), "{unknown}");
        let absent = Overlay::load("nothing", None).expect_err("no such overlay").to_string();
        assert!(
            absent.starts_with("there is no overlay \"nothing\"") && absent.contains("(base)"),
            "{absent}"
        );
    }

    #[test]
    fn a_link_in_a_folder_is_refused() {
        let beside = tempfile::tempdir().expect("a folder");
        let base = beside.path().join("rootfs-overlays/o");
        std::fs::create_dir_all(&base).expect("made");
        std::os::unix::fs::symlink("/etc/passwd", base.join("l")).expect("linked");
        assert!(matches!(Overlay::load("o", Some(beside.path())), Err(OverlayError::Kind { .. })));
    }
}
