//! Objects of the API with no more than the fields that are read here.
//!
//! Types of our own instead of k8s-openapi's: a Node carries a list of images and the history of its fields, and
//! five thousand of them are listed. What is not named below is skipped while the answer is parsed. All are
//! `v1`, which every supported release serves.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bootwright_model::agent::WANTS_POD_CIDR;
use k8s_openapi::ClusterResourceScope;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;
use kube::api::ObjectMeta;
use serde::{Deserialize, Deserializer, Serialize};

/// Labels of control planes: the second is what releases before 1.24 have.
const CONTROL_PLANE: [&str; 2] = ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];

/// `v1` Node.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Node {
    /// Name and version.
    #[serde(deserialize_with = "brief")]
    pub metadata: ObjectMeta,
    /// What it should be.
    #[serde(default)]
    pub spec: NodeSpec,
    /// What it is.
    #[serde(default)]
    pub status: NodeStatus,
}

/// `spec` of a Node.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Ranges of its pods, one for each family.
    #[serde(default, rename = "podCIDRs")]
    pub pod_cidrs: Vec<String>,
}

/// `status` of a Node.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Written by its kubelet.
    #[serde(default)]
    pub addresses: Vec<NodeAddress>,
    /// `Ready` among them.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// An address or name of a Node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeAddress {
    /// `InternalIP`, `ExternalIP`, `Hostname`, `InternalDNS`, `ExternalDNS`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Address or name.
    pub address: String,
}

/// A condition of a Node or a certificate request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// `Ready`, `Approved`, `Denied`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False`, `Unknown`.
    #[serde(default)]
    pub status: String,
}

impl Node {
    /// Its controller has heard from its kubelet lately.
    pub fn is_ready(&self) -> bool {
        self.status.conditions.iter().any(|c| c.kind == "Ready" && c.status == "True")
    }

    /// Its labels say that it is part of the control plane: of one that a cluster file of another image has, say.
    pub fn is_control_plane(&self) -> bool {
        let labels = self.metadata.labels.iter().flatten();
        labels.into_iter().any(|(key, _)| CONTROL_PLANE.contains(&key.as_str()))
    }

    /// What it asks for by the annotation [`WANTS_POD_CIDR`].
    pub fn wants_pod_cidr(&self) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(WANTS_POD_CIDR).map(String::as_str)
    }
}

/// `certificates.k8s.io/v1` CertificateSigningRequest.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CertificateSigningRequest {
    /// Name and version.
    #[serde(deserialize_with = "brief")]
    pub metadata: ObjectMeta,
    /// What is asked for, and who asks: the API server fills the latter in.
    #[serde(default)]
    pub spec: RequestSpec,
    /// What became of it.
    #[serde(default)]
    pub status: RequestStatus,
}

/// `spec` of a certificate request.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestSpec {
    /// The PKCS#10 request in PEM, in base64.
    #[serde(default)]
    pub request: String,
    /// `kubernetes.io/kubelet-serving`
    #[serde(default)]
    pub signer_name: String,
    /// `digital signature`, `server auth`
    #[serde(default)]
    pub usages: Vec<String>,
    /// Who asks.
    #[serde(default)]
    pub username: String,
    /// Groups of who asks.
    #[serde(default)]
    pub groups: Vec<String>,
}

/// `status` of a certificate request.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RequestStatus {
    /// `Approved` or `Denied` once decided.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// `v1` Endpoints. Not EndpointSlice, which is `v1` from 1.21 on only; the API servers write both for their own
/// Service in every release.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Endpoints {
    /// Name and version.
    #[serde(deserialize_with = "brief")]
    pub metadata: ObjectMeta,
    /// Addresses that share ports.
    #[serde(default)]
    pub subsets: Vec<EndpointSubset>,
}

/// Addresses that share ports.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct EndpointSubset {
    /// Ready addresses.
    #[serde(default)]
    pub addresses: Vec<EndpointAddress>,
    /// `https` for the API.
    #[serde(default)]
    pub ports: Vec<EndpointPort>,
}

/// One address.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct EndpointAddress {
    /// The address.
    pub ip: String,
}

/// One port.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct EndpointPort {
    /// The port.
    pub port: u16,
}

/// The three fields of metadata that watching needs, the name above all, and the age; of annotations and labels those that
/// are asked for here.
fn brief<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Brief {
        name: Option<String>,
        namespace: Option<String>,
        resource_version: Option<String>,
        creation_timestamp: Option<Time>,
        #[serde(default)]
        annotations: BTreeMap<String, String>,
        #[serde(default)]
        labels: BTreeMap<String, String>,
    }
    let Brief { name, namespace, resource_version, creation_timestamp, mut annotations, mut labels } =
        Brief::deserialize(deserializer)?;
    annotations.retain(|key, _| key == WANTS_POD_CIDR);
    labels.retain(|key, _| CONTROL_PLANE.contains(&key.as_str()));
    Ok(ObjectMeta {
        name,
        namespace,
        resource_version,
        creation_timestamp,
        annotations: Some(annotations).filter(|all| !all.is_empty()),
        labels: Some(labels).filter(|all| !all.is_empty()),
        ..ObjectMeta::default()
    })
}

macro_rules! resource {
    ($type:ty, $scope:ty, $group:literal, $kind:literal, $plural:literal) => {
        impl Resource for $type {
            type DynamicType = ();
            type Scope = $scope;

            fn kind((): &()) -> Cow<'_, str> {
                $kind.into()
            }
            fn group((): &()) -> Cow<'_, str> {
                $group.into()
            }
            fn version((): &()) -> Cow<'_, str> {
                "v1".into()
            }
            fn plural((): &()) -> Cow<'_, str> {
                $plural.into()
            }
            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

resource!(Node, ClusterResourceScope, "", "Node", "nodes");
resource!(Endpoints, NamespaceResourceScope, "", "Endpoints", "endpoints");
resource!(
    CertificateSigningRequest,
    ClusterResourceScope,
    "certificates.k8s.io",
    "CertificateSigningRequest",
    "certificatesigningrequests"
);
