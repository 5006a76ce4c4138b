//! Addons: objects that users bring into a cluster by way of the image.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `[[addon]]` of a cluster file or a profile: manifests that a control plane applies once its API is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Addon {
    /// Name for messages, an RFC 1123 label. One of the cluster file takes the place of the profile's of that name.
    pub name: String,
    /// YAML files of Kubernetes objects, several documents each if you like, relative to the cluster file.
    pub manifests: Vec<String>,
}

/// One addon as it is baked into the images of control planes, in [`crate::layout::CLUSTER_ADDONS`].
///
/// The builder reads the manifests, so that a mistake is found at build time and first boot needs no YAML.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BakedAddon {
    /// The addon's name.
    pub name: String,
    /// Objects in the order of the manifests, each with `apiVersion`, `kind` and `metadata.name`.
    pub objects: Vec<Value>,
}
