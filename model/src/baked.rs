//! What the builder bakes for first boot to read back.

use serde::{Deserialize, Serialize};

use crate::cluster::ClusterFile;
use crate::kubernetes::is_worker;

/// `cluster.json` of the cluster layer. Certificates and keys lie beside it as PEM files
/// (see [`crate::layout::CLUSTER_PKI`]): `ca.crt`, `ca.key`, `front-proxy-ca.crt`, `front-proxy-ca.key`,
/// `etcd-ca.crt`, `etcd-ca.key`, `sa.pub`, `sa.key`, `bootstrap-token`; keys are PKCS#8, mode 0600. A role
/// without an API server gets `ca.crt` and `bootstrap-token` only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ClusterLayer {
    /// The whole checked cluster file; every node's `pod-cidr` is filled in.
    pub file: ClusterFile,
    /// Role of this image.
    pub role: String,
    /// Build time that the clock is raised to, seconds since the Unix epoch.
    pub epoch: u64,
    /// Root hash of the OS layer, 64 hexadecimal digits.
    pub root_hash: String,
    /// Room that first boot makes for the OS layer of an upgrade.
    #[serde(default)]
    pub second_slot: SecondSlot,
}

impl ClusterLayer {
    /// Whether a machine with this image may join although nobody described it.
    pub fn admits_unknown(&self) -> bool {
        self.file.cluster.admit_unknown_workers && is_worker(&self.role)
    }
}

/// Sizes of the partitions of the second root slot. They are made once, for every OS layer to come: one that is as
/// large as the first would take no layer that has grown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SecondSlot {
    /// Least size of the root partition, bytes; it is never smaller than the first slot's.
    pub root_bytes: u64,
    /// The same of the partition of its hash tree.
    pub verity_bytes: u64,
}

/// `os.json` of the OS layer: what it is made of, without a secret or a cluster's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct OsRelease {
    /// Kernel release, `uname -r`.
    pub kernel_release: String,
    /// Kubernetes version without `v`.
    pub kubernetes: String,
    /// Version of containerd's package (upstream part), for the configuration format; empty if the role has none.
    pub containerd: String,
    /// Version of etcd's package (upstream part), for flags; empty if the role has none.
    pub etcd: String,
    /// Reference of the pause image.
    pub pause_image: String,
    /// References in the images archive.
    pub images: Vec<String>,
}
