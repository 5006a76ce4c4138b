//! The cloud that the machines stand in, as the cluster file says it.

use serde::{Deserialize, Serialize};

/// `[cloud]`: what Kubernetes is told of the cloud that the machines stand in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Cloud {
    /// Whether a cloud controller manager runs in the cluster.
    pub provider: CloudProvider,
    /// With `external`: how the cloud calls its machines, `"hcloud://{serial}"`; `{serial}` and `{uuid}` are what the
    /// machine's SMBIOS says, `{name}` is the node's. A node's own `provider-id` comes before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<String>,
}

impl Cloud {
    /// Whether it says nothing.
    pub fn is_none(&self) -> bool {
        *self == Cloud::default()
    }

    /// Whether a cloud controller manager finishes the Nodes.
    pub fn is_external(&self) -> bool {
        self.provider == CloudProvider::External
    }
}

/// Who knows the machines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum CloudProvider {
    /// The cluster file alone.
    #[default]
    None,
    /// A cloud controller manager, an addon for instance. Nodes are tainted until it has seen them.
    External,
}

/// Whether a text can be a `spec.providerID`: `<cloud>://<whatever the cloud likes>`.
pub fn is_provider_id(text: &str) -> bool {
    let Some((cloud, rest)) = text.split_once("://") else { return false };
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
    !cloud.is_empty()
        && cloud.chars().all(is_name)
        && !rest.is_empty()
        && rest.chars().all(|c| c.is_ascii_graphic())
}
