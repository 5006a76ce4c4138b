//! Where packages come from: an archive address, a suite in it, and the keys that it must be signed with.

use std::path::{Path, PathBuf};

use bootwright_model::cluster::Base;

use super::apt_config::AptConfig;
use super::apt_sources;
use crate::sources::fetch;

/// Why there is no usable archive.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file of apt's could not be read or understood.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line.
        reason: String,
    },
    /// The machine has no source for the suite.
    #[error(
        "this machine's apt sources have no Debian suite {suite:?} (found: {found}); \
         set mirror in [base] of the cluster file, or another suite"
    )]
    NoSuite {
        /// What the cluster file asks for.
        suite: String,
        /// What the machine has.
        found: String,
    },
    /// No keyring to verify with.
    #[error(
        "no keyring to verify the Debian archive with: {path} does not exist; install debian-archive-keyring, \
         or set keyring in [base] of the cluster file"
    )]
    NoKeyring {
        /// Where it was looked for.
        path: PathBuf,
    },
}

/// Keys that a suite must be signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// Keyring files, binary or armoured.
    pub keyrings: Vec<PathBuf>,
    /// An armoured key block written into a `.sources` file.
    pub embedded: Option<String>,
    /// If not empty: only these fingerprints (40 hexadecimal digits, upper case; `!` after it: exactly this
    /// key, not its subkeys).
    pub fingerprints: Vec<String>,
}

/// One suite at one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Archive root, a URL or a path, without a slash at the end.
    pub url: String,
    /// Suite as written: `bookworm-security`.
    pub suite: String,
    /// Components: `main`.
    pub components: Vec<String>,
    /// What it must be signed with.
    pub trust: Trust,
    /// Whether an expired InRelease is refused.
    pub check_valid_until: bool,
    /// Whether an InRelease from the future is refused.
    pub check_date: bool,
    /// Who named it, for messages: `/etc/apt/sources.list:3`, `the cluster file`.
    pub origin: String,
    /// Whether it came from the machine: then it may turn out not to be Debian's, and is left out.
    pub from_machine: bool,
    /// Whether the build can do without it (`-updates` of a mirror that has none).
    pub optional: bool,
}

/// Debian's own keyring, of the package debian-archive-keyring.
const DEBIAN_KEYRING: &str = "usr/share/keyrings/debian-archive-keyring.gpg";

/// The suites of one Debian release that are used.
pub fn wanted_suites(suite: &str) -> [String; 3] {
    [suite.to_owned(), format!("{suite}-updates"), format!("{suite}-security")]
}

/// The sources for `base`: those of the cluster file, else those of the machine whose files lie below
/// `machine` (`/`). `base_dir` is the folder of the cluster file.
pub fn sources(base: &Base, base_dir: &Path, machine: &Path) -> Result<Vec<Source>, SourceError> {
    let config = AptConfig::read(machine);
    let own_keyring = match &base.keyring {
        Some(keyring) => Some(existing(base_dir.join(keyring))?),
        None => None,
    };
    let Some(mirror) = &base.mirror else {
        let mut sources = apt_sources::read(machine, &base.suite, &config)?;
        if let Some(keyring) = own_keyring {
            for source in &mut sources {
                source.trust =
                    Trust { keyrings: vec![keyring.clone()], embedded: None, fingerprints: Vec::new() };
            }
        }
        if !base.components.is_empty() {
            // Also for those of another vendor, which turn out to be one by what they have signed.
            for source in &mut sources {
                source.components.clone_from(&base.components);
            }
        }
        return Ok(sources);
    };
    let keyrings = match own_keyring {
        Some(keyring) => vec![keyring],
        None => machine_keyrings(machine)?,
    };
    let components = match base.components.as_slice() {
        [] => vec!["main".to_owned()],
        named => named.to_vec(),
    };
    let [release, updates, security] = wanted_suites(&base.suite);
    let source = |location: &str, suite: String, optional: bool| Source {
        url: fetch::resolve(location.trim_end_matches('/'), base_dir),
        suite,
        components: components.clone(),
        trust: Trust { keyrings: keyrings.clone(), embedded: None, fingerprints: Vec::new() },
        check_valid_until: config.flag("Acquire::Check-Valid-Until").unwrap_or(true),
        check_date: config.flag("Acquire::Check-Date").unwrap_or(true),
        origin: "[base] of the cluster file".to_owned(),
        from_machine: false,
        optional,
    };
    let mut sources = vec![source(mirror, release, false), source(mirror, updates, true)];
    if let Some(mirror) = &base.security_mirror {
        sources.push(source(mirror, security, false));
    }
    Ok(sources)
}

/// The keyring of Debian's archive on this machine, else everything that apt trusts.
fn machine_keyrings(machine: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let debian = machine.join(DEBIAN_KEYRING);
    if debian.is_file() {
        return Ok(vec![debian]);
    }
    let trusted = apt_sources::trusted_keyrings(machine);
    if trusted.is_empty() { Err(SourceError::NoKeyring { path: debian }) } else { Ok(trusted) }
}

fn existing(path: PathBuf) -> Result<PathBuf, SourceError> {
    if path.is_file() { Ok(path) } else { Err(SourceError::NoKeyring { path }) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_cluster_file_comes_before_the_machine() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("key.gpg"), b"key").unwrap();
        let mut base = Base {
            mirror: Some("../archive/".to_owned()),
            security_mirror: Some("http://127.0.0.1:1/security".to_owned()),
            keyring: Some("key.gpg".to_owned()),
            ..Base::default()
        };
        let list = sources(&base, folder.path(), Path::new("/nonexistent")).unwrap();
        let brief: Vec<_> = list.iter().map(|s| (s.suite.as_str(), s.url.clone(), s.optional)).collect();
        let local = folder.path().join("../archive").to_string_lossy().into_owned();
        assert_eq!(
            brief,
            [
                ("bookworm", local.clone(), false),
                ("bookworm-updates", local, true),
                ("bookworm-security", "http://127.0.0.1:1/security".to_owned(), false),
            ]
        );
        assert!(list.iter().all(|source| source.check_valid_until && source.check_date));
        base.keyring = None;
        let error = sources(&base, folder.path(), Path::new("/nonexistent")).unwrap_err();
        assert!(error.to_string().contains("install debian-archive-keyring"), "{error}");
    }
}
