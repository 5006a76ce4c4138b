//! Reads, checks and explains the cluster file.

mod addons;
mod checks;
pub mod profiles;
pub mod template;
#[cfg(test)]
mod tests;
pub mod text;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bootwright_model::addons::BakedAddon;
use bootwright_model::addresses::{self, AddressError};
use bootwright_model::cluster::{Cluster, ClusterFile};
use bootwright_model::kubernetes::{WORKER, is_worker};
use bootwright_model::profile::Profile;

use crate::sources::LOCK_FILE;
use checks::Context;
use profiles::{ProfileError, ProfileStore};
use text::Reading;
use text::finding::{Finding, KeyPath};
use text::render::Findings;

/// Name of a cluster file that is the only one in its folder, without `.toml`.
const USUAL_NAME: &str = "cluster";
/// Folder beside the cluster file with one folder of secrets per cluster.
const SECRETS_FOLDER: &str = "secrets";
/// Largest cluster file that is read: an inventory of thousands of nodes is far below.
const MOST_BYTES: u64 = 8 << 20;

/// A checked cluster file with the profiles of its roles.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The cluster file.
    pub path: PathBuf,
    /// Its folder: relative paths in it start here.
    pub folder: PathBuf,
    /// What it says. The `pod_cidr` of every node that runs pods is filled in, what it has of each address family is in
    /// the cluster's order of them, and MAC addresses are lower case.
    pub file: ClusterFile,
    /// Profiles of the roles that nodes ask for.
    pub profiles: BTreeMap<String, Profile>,
    /// Addons by role, of those that run an API server: the profile's, then the cluster file's.
    pub addons: BTreeMap<String, Vec<BakedAddon>>,
    /// What deserves a second look although the file was taken.
    pub warnings: Findings,
}

impl Loaded {
    /// What the cluster will do without, as the file asks for nothing of the kind: no fault, and worth knowing.
    pub fn notes(&self) -> Vec<&'static str> {
        let no_dns = "no cluster DNS is run, as there is no [dns] with an image: pods ask the nodes' resolvers, and find \
                      no Service by its name";
        if self.file.dns.is_none() { vec![no_dns] } else { Vec::new() }
    }

    /// A path that the cluster file names.
    pub fn resolve(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    /// The lock, beside the cluster file: `bootwright.lock`, and `<name>.bootwright.lock` for a file of another
    /// name than `cluster.toml`, so that each of several in a folder has its own.
    pub fn lock_path(&self) -> PathBuf {
        let name = self.path.file_stem().map(|stem| stem.to_string_lossy());
        match name {
            Some(name) if name != USUAL_NAME => self.folder.join(format!("{name}.{LOCK_FILE}")),
            _ => self.folder.join(LOCK_FILE),
        }
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
    #[diagnostic(help("name another with -f, or write a new one with `bootwright init FILE`"))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is too large to be one.
    #[error("{} has {bytes} bytes, which is no cluster file", path.display())]
    #[diagnostic(help("name a cluster file with -f; `bootwright init FILE` writes one"))]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// The file is not text.
    #[error("{}: line {line}, column {column}: no UTF-8 text", path.display())]
    #[diagnostic(help("save the file as UTF-8, or name a cluster file with -f"))]
    NotText {
        /// The file.
        path: PathBuf,
        /// Line of the first wrong byte, from one.
        line: usize,
        /// Its column in characters, from one.
        column: usize,
    },
    /// The folder of profiles is not there: the built-in ones would be taken for those of the folder.
    #[error("--profiles names {}, which is no folder", path.display())]
    #[diagnostic(help("name the folder that holds <role>.toml, or leave --profiles out"))]
    NoProfiles {
        /// As given.
        path: PathBuf,
    },
    /// A profile cannot be read.
    #[error("cannot read the profile {}: {source}", path.display())]
    #[diagnostic(help("make the file readable, or name another folder with --profiles"))]
    ReadProfile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The cluster file, or profiles that it asks for, are not what they should be.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Invalid(#[from] Invalid),
}

/// Everything that is wrong with a cluster file and its profiles, file by file.
#[derive(Debug)]
pub struct Invalid(pub Vec<Findings>);

impl std::fmt::Display for Invalid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, findings) in self.0.iter().filter(|findings| findings.has_errors()).enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{findings}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Invalid {}

impl miette::Diagnostic for Invalid {
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn miette::Diagnostic> + 'a>> {
        Some(Box::new(self.0.iter().flat_map(Findings::diagnostics)))
    }
}

/// Reads and checks a cluster file and the profiles of its roles, from `profiles` first if given.
pub fn load(path: &Path, profiles: Option<&Path>) -> Result<Loaded, ClusterError> {
    let text = read_text(path)?;
    if let Some(path) = profiles.filter(|path| !path.is_dir()) {
        return Err(ClusterError::NoProfiles { path: path.to_owned() });
    }
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let mut reading: Reading<ClusterFile> = text::read(text);
    let mut file = reading.value.take();
    let mut profiles_read = Profiles::default();
    let mut addons_read = addons::Read::default();
    if let Some(file) = &mut file {
        let store = ProfileStore::new(&folder, profiles);
        profiles_read = Profiles::read(file, &store)?;
        let context = Context { file, roles: &store.roles(), profiles: &profiles_read.good };
        reading.add(checks::all(&context));
        reading.add(checks::disk(file, &folder));
        addons_read = addons::read(file, &profiles_read.good, &folder);
        if !reading.has_errors() {
            reading.add(assign(file).err());
        }
    }
    let findings = reading.finish(path);
    let bad: Vec<Findings> = profiles_read.bad.into_iter().chain(addons_read.bad).collect();
    match file {
        Some(file) if !findings.has_errors() && bad.is_empty() => Ok(Loaded {
            path: path.to_owned(),
            folder,
            file,
            profiles: profiles_read.good,
            addons: addons_read.by_role,
            warnings: findings,
        }),
        _ => Err(Invalid(std::iter::once(findings).chain(bad).collect()).into()),
    }
}

fn read_text(path: &Path) -> Result<String, ClusterError> {
    let failed = |source| ClusterError::Read { path: path.to_owned(), source };
    let bytes = std::fs::metadata(path).map_err(failed)?.len();
    if bytes > MOST_BYTES {
        return Err(ClusterError::TooLarge { path: path.to_owned(), bytes });
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    String::from_utf8(bytes).map_err(|error| {
        let text = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]);
        let (line, column) = text::render::position(&text, text.len());
        ClusterError::NotText { path: path.to_owned(), line, column }
    })
}

/// Profiles of the roles in use.
#[derive(Default)]
struct Profiles {
    good: BTreeMap<String, Profile>,
    bad: Vec<Findings>,
}

impl Profiles {
    /// A role without a profile is left out: that is the cluster file's fault, and is said there.
    fn read(file: &ClusterFile, store: &ProfileStore) -> Result<Self, ClusterError> {
        let mut roles: Vec<&str> = file.nodes.iter().map(|node| node.role.as_str()).collect();
        // There is an image for machines that nobody described also where no node has it.
        if file.cluster.admit_unknown_workers && !roles.iter().any(|role| is_worker(role)) {
            roles.push(WORKER);
        }
        roles.sort_unstable();
        roles.dedup();
        let mut profiles = Profiles::default();
        for role in roles {
            match store.load(role, file) {
                Ok(profile) => {
                    profiles.good.insert(role.to_owned(), profile);
                }
                Err(ProfileError::Invalid(findings)) => profiles.bad.push(findings),
                Err(ProfileError::Unknown { .. }) => {}
                Err(ProfileError::Read { path, source }) => {
                    return Err(ClusterError::ReadProfile { path, source });
                }
            }
        }
        Ok(profiles)
    }
}

/// Fills in what follows from the rest of a sound file.
fn assign(file: &mut ClusterFile) -> Result<(), Finding> {
    let ranges = addresses::allocate_node_ranges(&file.cluster, &file.nodes);
    let ranges = ranges.map_err(|error| no_room(error, &file.cluster))?;
    // The primary family first, in whatever order a node was written.
    let order = file.cluster.pod_cidr;
    for (node, pod_cidr) in file.nodes.iter_mut().zip(ranges) {
        node.pod_cidr = pod_cidr;
        node.address = node.address.ordered_as(&order);
        node.gateway = node.gateway.map(|gateways| gateways.ordered_as(&order));
        node.mac = node.mac.take().map(|mac| mac.to_ascii_lowercase());
    }
    Ok(())
}

/// Explicit pod CIDRs can leave too little for the others, however large the range is.
fn no_room(error: AddressError, cluster: &Cluster) -> Finding {
    let message = error.to_string();
    let finding = Finding::new("pod-range-too-small", message);
    let whole = match error {
        AddressError::PrefixOutOfRange { cluster, .. }
        | AddressError::Outside { cluster, .. }
        | AddressError::Exhausted { cluster, .. } => Some(cluster),
        AddressError::Overlap { .. } | AddressError::RangeTooSmall { .. } => None,
    };
    let pods = KeyPath::of("cluster").key("pod-cidr");
    let place = checks::each(&pods, &cluster.pod_cidr).find(|(_, range)| Some(*range) == whole);
    let pods = place.map_or(pods, |(place, _)| place);
    let finding = match error {
        AddressError::Exhausted { node, .. } => finding
            .at_value(KeyPath::of("node").index(node - 1), "no range left for this node")
            .at_value(pods, "pods"),
        _ => finding.at_value(pods, "pods"),
    };
    finding.help("use a larger pod-cidr, larger node-cidr-bits, or smaller explicit pod CIDRs")
}
