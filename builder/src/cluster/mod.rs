//! Reads, checks and explains the cluster file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bootwright_model::addresses;
use bootwright_model::cluster::ClusterFile;
use bootwright_model::profile::Profile;

pub mod profiles;

/// Name of the lock beside the cluster file.
const LOCK_FILE: &str = "bootwright.lock";
/// Folder beside the cluster file with one folder of secrets per cluster.
const SECRETS_FOLDER: &str = "secrets";

/// A checked cluster file with the profiles of its roles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The cluster file.
    pub path: PathBuf,
    /// Its folder: relative paths in it start here.
    pub folder: PathBuf,
    /// What it says. Every node's `pod_cidr` is filled in, MAC addresses are lower case.
    pub file: ClusterFile,
    /// Profiles of the roles that nodes ask for.
    pub profiles: BTreeMap<String, Profile>,
}

impl Loaded {
    /// A path that the cluster file names.
    pub fn resolve(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    /// The lock, beside the cluster file.
    pub fn lock_path(&self) -> PathBuf {
        self.folder.join(LOCK_FILE)
    }

    /// Where the cluster's keys and tokens are kept.
    pub fn secrets_folder(&self) -> PathBuf {
        self.folder.join(SECRETS_FOLDER).join(&self.file.cluster.name)
    }
}

/// Why there is no checked cluster file.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ClusterError {
    /// The file cannot be read.
    #[error("cannot read the cluster file {}: {source}", path.display())]
    #[diagnostic(help("name another with -f, or write a new one with `bootwright init {}`", path.display()))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// A profile.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Profile(#[from] profiles::ProfileError),
    /// Addresses that do not work out.
    #[error(transparent)]
    Address(#[from] addresses::AddressError),
}

/// Reads and checks a cluster file and the profiles of its roles, from `profiles` first if given.
pub fn load(path: &Path, profiles: Option<&Path>) -> Result<Loaded, ClusterError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ClusterError::Read { path: path.to_owned(), source })?;
    let mut file: ClusterFile = toml::from_str(&text)
        .map_err(|error| ClusterError::Syntax { path: path.to_owned(), message: error.to_string() })?;
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let explicit: Vec<_> = file.nodes.iter().map(|node| node.pod_cidr).collect();
    let bits = file.cluster.node_prefix_length();
    let pod_cidrs = addresses::allocate_pod_cidrs(file.cluster.pod_cidr, bits, &explicit)?;
    let store = profiles::ProfileStore::new(&folder, profiles);
    let mut loaded = BTreeMap::new();
    for (node, pod_cidr) in file.nodes.iter_mut().zip(pod_cidrs) {
        node.pod_cidr = Some(pod_cidr);
        node.mac = node.mac.take().map(|mac| mac.to_ascii_lowercase());
        loaded.insert(node.role.clone(), store.load(&node.role)?);
    }
    Ok(Loaded { path: path.to_owned(), folder, file, profiles: loaded })
}
