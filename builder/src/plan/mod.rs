//! What would be built: every input, digest, size and address, before anything is fetched.
//!
//! A plan is a value: made from a checked cluster file and the lock, without network, and without
//! writing anything. Sizes of local files come from stat(2); only [`look`] reads more than that.

pub mod inputs;
mod look;
#[cfg(test)]
mod tests;
mod text;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use bootwright_model::addresses::{self, AddressError};
use bootwright_model::cluster::{ClusterFile, InitialClusterState, NetworkMode, Node, Secrets};
use bootwright_model::families::PerFamily;
use bootwright_model::kubernetes::{control_planes, etcd_members};
use bootwright_model::profile::{Profile, Service};
use bootwright_model::workload_image::WorkloadImage;
use ipnet::IpNet;
use serde::Serialize;

pub use self::inputs::{InputPlan, InputsPlan, LayerState, LockState};
pub use self::look::{Given, look};
use crate::cluster::Loaded;

/// What would be built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Plan {
    /// The cluster as a whole.
    pub cluster: ClusterPlan,
    /// Where Kubernetes comes from.
    pub kubernetes: KubernetesPlan,
    /// One image per role, by name.
    pub roles: Vec<RolePlan>,
    /// Nodes in the order of the cluster file.
    pub nodes: Vec<NodePlan>,
    /// Workload images in the order of the cluster file.
    pub images: Vec<ImagePlan>,
    /// What the lock names, and what of it would be fetched.
    pub inputs: InputsPlan,
}

/// Addresses and secrets of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ClusterPlan {
    /// Its name.
    pub name: String,
    /// Address and port of the API.
    pub endpoint: SocketAddr,
    /// Nodes that run the control plane.
    pub control_planes: Vec<String>,
    /// Nodes that run a member of etcd: those of the role `etcd`, or the control planes if there are none.
    pub etcd_members: Vec<String>,
    /// Whether the first of them may begin etcd's cluster, or they only join one.
    pub initial_cluster_state: InitialClusterState,
    /// Range that pod CIDRs are cut from.
    pub pod_cidr: PerFamily<IpNet>,
    /// Range of Service addresses.
    pub service_cidr: PerFamily<IpNet>,
    /// Address of the API's Service: it has the primary family only.
    pub api_service: IpAddr,
    /// Address of the DNS Service; nothing if no cluster DNS is run.
    pub dns_service: Option<PerFamily<IpAddr>>,
    /// DNS domain.
    pub domain: String,
    /// How pods on different nodes reach each other.
    pub network: NetworkMode,
    /// Whether images hold the cluster's keys.
    pub image_secrecy: Secrecy,
    /// Folder of the cluster's keys, made by the first build.
    pub secrets_folder: String,
    /// Whether the folder is there.
    pub secrets_exist: bool,
}

/// Whether an image may be given away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Secrecy {
    /// It holds the cluster's keys.
    Private,
    /// It holds no key.
    Shareable,
}

/// Version and origin of Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct KubernetesPlan {
    /// Version without `v`.
    pub version: String,
    /// Folder or URL.
    pub origin: String,
    /// Binaries of all roles, by name.
    pub binaries: Vec<FilePlan>,
}

/// A local file, or one that is not there yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct FilePlan {
    /// Name or path as written.
    pub name: String,
    /// Bytes, if it is there or locked.
    pub size: Option<u64>,
    /// SHA-256, if it is locked.
    pub sha256: Option<String>,
}

/// The image of a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RolePlan {
    /// The role.
    pub role: String,
    /// What it is, from its profile.
    pub description: String,
    /// File name of the image.
    pub image: String,
    /// Nodes that boot it.
    pub nodes: Vec<String>,
    /// Bytes per sector of the disks that it is for.
    pub sector_size: u32,
    /// Package of the kernel.
    pub kernel: String,
    /// Kernel command line besides the root hash.
    pub command_line: Vec<String>,
    /// Packages to install with their dependencies.
    pub packages: Vec<String>,
    /// Packages that are never installed.
    pub excluded: Vec<String>,
    /// Folders laid over the tree, in this order.
    pub overlays: Vec<String>,
    /// Services in an order in which they can start.
    pub services: Vec<ServicePlan>,
}

/// A service of a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ServicePlan {
    /// Its name.
    pub name: String,
    /// What it waits for.
    pub after: Vec<String>,
    /// Whether the node is not ready without it.
    pub essential: bool,
}

/// Addresses of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct NodePlan {
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: String,
    /// MAC address that it is recognised by.
    pub mac: Option<String>,
    /// Address with prefix length.
    pub address: PerFamily<IpNet>,
    /// Default gateway.
    pub gateway: Option<PerFamily<IpAddr>>,
    /// Its pods; nothing on a machine that runs none.
    pub pod_cidr: Option<PerFamily<IpNet>>,
    /// The node's own address among its pods.
    pub pod_gateway: Option<PerFamily<IpAddr>>,
}

/// A workload image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ImagePlan {
    /// Its reference.
    pub name: String,
    /// Packages that it is composed from.
    pub packages: Vec<String>,
    /// Its archive, or the files that are put into it.
    pub files: Vec<FilePlan>,
}

impl Plan {
    /// Plans the build of a checked cluster file from `inputs`, which [`look`] finds.
    pub fn of(loaded: &Loaded, inputs: InputsPlan) -> Result<Plan, AddressError> {
        let file = &loaded.file;
        Ok(Plan {
            cluster: cluster(loaded)?,
            kubernetes: kubernetes(loaded, &inputs),
            roles: loaded.profiles.iter().map(|(role, profile)| role_plan(file, role, profile)).collect(),
            nodes: file.nodes.iter().map(node).collect::<Result<_, _>>()?,
            images: file.images.iter().map(|one| image(loaded, one, &inputs)).collect(),
            inputs,
        })
    }
}

fn cluster(loaded: &Loaded) -> Result<ClusterPlan, AddressError> {
    let cluster = &loaded.file.cluster;
    let secrets = loaded.secrets_folder();
    Ok(ClusterPlan {
        name: cluster.name.clone(),
        endpoint: SocketAddr::new(cluster.endpoint, cluster.endpoint_port),
        control_planes: control_planes(&loaded.file).map(|node| node.name.clone()).collect(),
        etcd_members: etcd_members(&loaded.file).map(|node| node.name.clone()).collect(),
        initial_cluster_state: cluster.initial_cluster_state,
        pod_cidr: cluster.pod_cidr,
        service_cidr: cluster.service_cidr,
        api_service: addresses::api_service_address(cluster.service_cidr.primary())?,
        dns_service: match loaded.file.dns {
            Some(_) => Some(cluster.service_cidr.try_map(addresses::dns_service_address)?),
            None => None,
        },
        domain: cluster.domain.clone(),
        network: loaded.file.network.mode,
        image_secrecy: match cluster.secrets {
            Secrets::Baked => Secrecy::Private,
            Secrets::Seed => Secrecy::Shareable,
        },
        secrets_exist: secrets.is_dir(),
        secrets_folder: secrets.display().to_string(),
    })
}

fn kubernetes(loaded: &Loaded, inputs: &InputsPlan) -> KubernetesPlan {
    let kubernetes = &loaded.file.kubernetes;
    let folder = kubernetes.directory.as_deref().map(|directory| loaded.resolve(directory));
    let mut names: Vec<&String> = loaded.profiles.values().flat_map(|profile| &profile.binaries).collect();
    names.sort();
    names.dedup();
    let binaries = names.into_iter().map(|name| {
        let there = folder.as_ref().and_then(|folder| size(&folder.join(name)));
        local(name, there, inputs.locked(&inputs.binaries, name))
    });
    KubernetesPlan {
        version: kubernetes.version.clone(),
        binaries: binaries.collect(),
        origin: match (&folder, &kubernetes.mirror) {
            (Some(folder), _) => folder.display().to_string(),
            (None, mirror) => mirror.clone().unwrap_or_default(),
        },
    }
}

fn role_plan(file: &ClusterFile, role: &str, profile: &Profile) -> RolePlan {
    let flavour = file.base.kernel.unwrap_or(profile.kernel.flavour);
    let nodes = file.nodes.iter().filter(|node| node.role == role);
    RolePlan {
        role: role.to_owned(),
        description: profile.description.clone(),
        image: format!("{role}.raw"),
        nodes: nodes.map(|node| node.name.clone()).collect(),
        sector_size: file.disk.sector_size,
        kernel: flavour.package().to_owned(),
        command_line: profile.kernel.command_line.iter().chain(&file.base.command_line).cloned().collect(),
        packages: profile.packages.install.clone(),
        excluded: profile.packages.exclude.clone(),
        overlays: profile.overlays.clone(),
        services: services(&profile.services),
    }
}

/// The order is known to exist: profiles with a cycle are refused when they are read.
fn services(services: &[Service]) -> Vec<ServicePlan> {
    let order = bootwright_model::services::order(services).unwrap_or_else(|_| (0..services.len()).collect());
    let ordered = order.into_iter().map(|index| &services[index]);
    let plans = ordered.map(|service| ServicePlan {
        name: service.name.clone(),
        after: service.after.clone(),
        essential: service.essential,
    });
    plans.collect()
}

fn node(one: &Node) -> Result<NodePlan, AddressError> {
    Ok(NodePlan {
        name: one.name.clone(),
        role: one.role.clone(),
        mac: one.mac.clone(),
        address: one.address,
        gateway: one.gateway,
        pod_cidr: one.pod_cidr,
        pod_gateway: one.pod_cidr.map(|ranges| ranges.try_map(addresses::pod_gateway)).transpose()?,
    })
}

fn image(loaded: &Loaded, one: &WorkloadImage, inputs: &InputsPlan) -> ImagePlan {
    let files = one.archive.iter().chain(one.files.values());
    ImagePlan {
        name: one.name.clone(),
        packages: one.packages.clone(),
        files: files
            .map(|name| local(name, size(&loaded.resolve(name)), inputs.locked(&inputs.files, name)))
            .collect(),
    }
}

/// A file that may be there, with what a fitting lock knows of it.
fn local(name: &str, there: Option<u64>, locked: Option<&InputPlan>) -> FilePlan {
    FilePlan {
        name: name.to_owned(),
        size: there.or(locked.map(|locked| locked.size)),
        sha256: locked.map(|locked| locked.sha256.clone()),
    }
}

fn size(path: &Path) -> Option<u64> {
    let metadata = std::fs::metadata(path).ok()?;
    metadata.is_file().then_some(metadata.len())
}
