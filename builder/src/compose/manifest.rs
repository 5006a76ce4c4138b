//! What an image is, written beside it: `<role>.json`.

use std::path::{Path, PathBuf};

use bootwright_model::cluster::Secrets;
use serde::Serialize;

use super::{Build, ComposeError};
use crate::files;
use crate::image::disk::DiskSummary;
use crate::image::layer::OsLayer;
use crate::rootfs::FirmwareFacts;

/// `<role>.json`: digests and sizes of an image, without a secret.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Manifest {
    /// Role of the nodes that boot it.
    pub role: String,
    /// The raw disk image.
    pub image: PathBuf,
    /// Its logical size, bytes.
    pub size: u64,
    /// Bytes per sector of the disks that it is for.
    pub sector_size: u32,
    /// Root hash of the OS layer.
    pub root_hash: String,
    /// `uname -r`.
    pub kernel_release: String,
    /// What it has of packages of device firmware and microcode, if any were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware: Option<FirmwareFacts>,
    /// Kubernetes version.
    pub kubernetes: String,
    /// Build time baked into it, seconds since the Unix epoch.
    pub epoch: u64,
    /// Whether the image holds the cluster's private keys, or the token to join it with: then it is to be kept
    /// like a key.
    pub private: bool,
}

/// Describes the image and writes the description beside it.
pub fn describe(
    build: &Build,
    role: &str,
    raw: &Path,
    layer: &OsLayer,
    summary: &DiskSummary,
) -> Result<Manifest, ComposeError> {
    let file = &build.loaded.file;
    let manifest = Manifest {
        role: role.to_owned(),
        image: raw.to_owned(),
        size: summary.size,
        sector_size: file.disk.sector_size,
        root_hash: layer.facts.root_hash.clone(),
        kernel_release: layer.facts.kernel_release.clone(),
        firmware: layer.facts.firmware.clone(),
        kubernetes: file.kubernetes.version.clone(),
        epoch: build.epoch(),
        private: file.cluster.secrets == Secrets::Baked,
    };
    let path = raw.with_extension("json");
    let json = serde_json::to_vec_pretty(&manifest).map_err(ComposeError::Serialise)?;
    files::replace(&path, &json, 0o600).map_err(|source| ComposeError::Output { path, source })?;
    Ok(manifest)
}

/// Size for people, in the megabytes (10^6) that disks are sold in.
pub fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
