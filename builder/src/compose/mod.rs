//! Drives a build from the cluster file to the disk images.
//!
//! Two speeds. The OS layer (packages, binaries, first boot) is found by the digest of its inputs;
//! only when one of them changed is a tree laid, compressed and hashed. The cluster layer and the
//! disk around both are written each time, which takes about as long as copying the file.

mod error;
pub(crate) mod inputs;
pub(crate) mod layer;
mod manifest;
pub(crate) mod runtime;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bootwright_model::baked::ClusterLayer;
use bootwright_model::cluster::Cluster;
use bootwright_model::kubernetes::{ETCD, is_control_plane};
use bootwright_model::layout;
use bootwright_model::profile::Profile;

pub use self::error::ComposeError;
pub use self::inputs::request;
use self::layer::LayerInputs;
pub use self::manifest::Manifest;
use self::runtime::Runtime;
use crate::cli::BuildOptions;
use crate::cluster::{self, Loaded};
use crate::image;
use crate::image::layer::OsLayer;
use crate::pki;
use crate::progress::{Interrupted, Progress};
use crate::sources::cache::Cache;
use crate::sources::lock::{Lock, LockError};
use crate::sources::{self, Pinned};

/// What a build left in the output folder.
#[derive(Debug, Clone)]
pub struct Built {
    /// One per role, in order of the roles' names.
    pub images: Vec<Manifest>,
    /// Administrator's kubeconfig, mode 0600.
    pub kubeconfig: PathBuf,
}

/// Builds the image of every role that the cluster file's nodes ask for.
pub fn build(options: &BuildOptions, progress: &dyn Progress) -> Result<Built, ComposeError> {
    build_all(options, progress).map_err(|error| match error {
        ComposeError::Interrupted(_) => error,
        // A download that was broken off, a tool that was ended: what came of the stop is no fault of its own.
        error if progress.interrupted() => {
            progress.detail(&error.to_string());
            Interrupted.into()
        }
        error => error,
    })
}

fn build_all(options: &BuildOptions, progress: &dyn Progress) -> Result<Built, ComposeError> {
    image::layer::check_tools()?;
    let loaded = cluster::load(&options.cluster_file, options.profiles.as_deref())?;
    let lock_path = loaded.lock_path();
    let lock = read_lock(&lock_path, options.update, progress)?;
    if lock.is_none() || options.update {
        // The archive's signature is checked when the inputs are resolved, and only then.
        image::host::find_tool("gpgv", "gpgv")?;
    }
    let runtime = Runtime::find(options.runtime.as_deref())?;
    let cache = match &options.cache {
        Some(root) => Cache::open(root)?,
        None => Cache::open_default()?,
    };
    error::create_folder(&options.output)?;
    let name = &loaded.file.cluster.name;
    let secrets_folder = pki::folder(&loaded.path, name);
    pki::check(&secrets_folder, name)?;
    let request = request(&loaded);
    let pinned = sources::pin(&request, lock.as_ref(), options.update, &cache, progress)?;
    progress.checkpoint()?;

    let secrets = pki::open_or_create(&secrets_folder, name, SystemTime::now())?;
    if !secrets.created().is_empty() {
        let folder = secrets_folder.display();
        progress.warn(&format!("made new secrets for cluster {name} in {folder}"));
    }
    let build =
        Build { options, loaded: &loaded, runtime: &runtime, cache: &cache, pinned: &pinned, progress };
    let mut images = Vec::new();
    for (role, profile) in &loaded.profiles {
        images.push(build.role(role, profile, &secrets)?);
    }
    // The lock is kept only once everything it names has been fetched and used.
    if lock.as_ref() != Some(&pinned.lock) {
        pinned.lock.write(&lock_path)?;
    }
    let kubeconfig = options.output.join("kubeconfig");
    secrets.write_kubeconfig(&kubeconfig, &api_url(&loaded.file.cluster))?;
    Ok(Built { images, kubeconfig })
}

/// The lock. One that cannot be understood is as good as none when it is going to be renewed.
fn read_lock(path: &Path, update: bool, progress: &dyn Progress) -> Result<Option<Lock>, ComposeError> {
    match Lock::read(path) {
        Err(error @ LockError::Form { .. }) if update => {
            progress.warn(&format!("the lock is made anew, because it cannot be read: {error}"));
            Ok(None)
        }
        other => Ok(other?),
    }
}

/// What every role of one build shares.
struct Build<'a> {
    options: &'a BuildOptions,
    loaded: &'a Loaded,
    runtime: &'a Runtime,
    cache: &'a Cache,
    pinned: &'a Pinned,
    progress: &'a dyn Progress,
}

impl Build<'_> {
    fn role(&self, role: &str, profile: &Profile, secrets: &pki::Secrets) -> Result<Manifest, ComposeError> {
        let inputs = LayerInputs {
            loaded: self.loaded,
            runtime: self.runtime,
            pinned: self.pinned,
            epoch: self.epoch(),
        };
        let digest = layer::digest(&inputs, profile, self.cache)?;
        let os_layer = match image::layer::cached(self.cache.root(), &digest)? {
            Some(found) => found,
            None => layer::build(self, profile, &digest)?,
        };
        self.progress.checkpoint()?;
        let raw = self.options.output.join(format!("{role}.raw"));
        self.progress.begin("image", None, crate::progress::Unit::Bytes);
        let epoch = self.epoch();
        let cluster_layer = self.cluster_layer(role, &os_layer, secrets)?;
        let command_line = command_line(self.loaded, profile);
        let sector_size = image::disk::SectorSize::of(self.loaded.file.disk.sector_size)
            .expect("the cluster file was checked");
        let summary = image::role::write(
            &os_layer,
            &image::role::RoleImage {
                name: role,
                title: &format!("{} {role}", self.loaded.file.cluster.name),
                version: &self.loaded.file.kubernetes.version,
                command_line: &command_line,
                cluster_layer: &cluster_layer,
                seed: None,
                sector_size,
                epoch,
            },
            &raw,
            self.progress,
        )?;
        let manifest = manifest::describe(self, role, &raw, &os_layer, &summary)?;
        self.progress.end("image", &format!("{} ({})", raw.display(), manifest::megabytes(summary.size)));
        Ok(manifest)
    }

    /// Build time that goes into the image: `SOURCE_DATE_EPOCH`, else the date of the archive.
    fn epoch(&self) -> u64 {
        self.options.source_date_epoch.unwrap_or_else(|| self.pinned.epoch())
    }

    fn cluster_layer(
        &self,
        role: &str,
        os_layer: &OsLayer,
        secrets: &pki::Secrets,
    ) -> Result<crate::rootfs::tree::RootTree, ComposeError> {
        let layer = ClusterLayer {
            file: self.loaded.file.clone(),
            role: role.to_owned(),
            epoch: self.epoch(),
            root_hash: os_layer.facts.root_hash.clone(),
            second_slot: image::slots::second_slot(os_layer.squashfs_size()),
        };
        let mut files = BTreeMap::new();
        let json = serde_json::to_vec_pretty(&layer).map_err(ComposeError::Serialise)?;
        files.insert(layout::CLUSTER_FILE.to_owned(), json);
        // Only roles that run an API server have any.
        if let Some(addons) = self.loaded.addons.get(role).filter(|addons| !addons.is_empty()) {
            let json = serde_json::to_vec(addons).map_err(ComposeError::Serialise)?;
            files.insert(layout::CLUSTER_ADDONS.to_owned(), json);
        }
        let baked: Vec<&pki::SecretFile> = match role {
            _ if is_control_plane(role) => secrets.baked_files().iter().collect(),
            ETCD => secrets.files_for_etcd().collect(),
            _ => secrets.files_to_join().collect(),
        };
        for file in baked {
            files.insert(format!("{}/{}", layout::CLUSTER_PKI, file.name), file.contents.clone());
        }
        layer::private_tree(layout::INITRAMFS_CLUSTER, files)
    }
}

/// Kernel command line besides the root hash: the profile's, then the cluster file's, which wins
/// because the kernel takes the last of two values.
fn command_line(loaded: &Loaded, profile: &Profile) -> Vec<String> {
    profile.kernel.command_line.iter().chain(&loaded.file.base.command_line).cloned().collect()
}

/// Where the API answers, as a URL; IPv6 addresses in brackets (RFC 3986, section 3.2.2).
fn api_url(cluster: &Cluster) -> String {
    format!("https://{}", SocketAddr::new(cluster.endpoint, cluster.endpoint_port))
}
