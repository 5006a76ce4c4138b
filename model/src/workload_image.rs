//! Workload images of the cluster file: what pods run without a registry.

use serde::{Deserialize, Serialize};

/// `[[image]]`: a workload image baked into the OS layer. Either `archive`, or composed from
/// `packages` and `files`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct WorkloadImage {
    /// Reference that pods use: `bootwright.local/web:1`.
    pub name: String,
    /// OCI archive (tar), relative to the cluster file.
    #[serde(default)]
    pub archive: Option<String>,
    /// Debian packages, without dependencies unless `dependencies` says so.
    #[serde(default)]
    pub packages: Vec<String>,
    /// Close over the packages' dependencies.
    #[serde(default)]
    pub dependencies: bool,
    /// Path in the image to a file relative to the cluster file.
    #[serde(default)]
    pub files: std::collections::BTreeMap<String, String>,
    /// Path in the image to a link target.
    #[serde(default)]
    pub links: std::collections::BTreeMap<String, String>,
    /// Entry point with its arguments.
    #[serde(default)]
    pub entrypoint: Vec<String>,
    /// Globs of absolute paths kept from the packages; everything if empty.
    #[serde(default)]
    pub keep: Vec<String>,
}
