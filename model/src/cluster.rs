//! The cluster file as values: defaults filled in, not yet checked against one another.
//!
//! The builder reads and checks it (`builder/src/cluster`); first boot reads the same type back from
//! the cluster layer.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::addons::Addon;
use crate::bgp::Bgp;
use crate::cloud::Cloud;
use crate::families::{Family, PerFamily};
use crate::links::Link;
use crate::profile::KernelFlavour;
use crate::state_disk::StateDisk;
use crate::workload_image::WorkloadImage;

/// A whole cluster file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ClusterFile {
    /// What every node has to agree on.
    pub cluster: Cluster,
    /// Which version of Kubernetes, and where its binaries come from.
    pub kubernetes: Kubernetes,
    /// The Debian archive and kernel that the OS layer is made from.
    #[serde(default)]
    pub base: Base,
    /// What the disks are like that images are written to.
    #[serde(default)]
    pub disk: Disk,
    /// How pods on different nodes reach each other, and how nodes reach the outside.
    #[serde(default)]
    pub network: Network,
    /// The cloud that the machines stand in, if a cloud controller manager of it is to run in the cluster.
    #[serde(default, skip_serializing_if = "Cloud::is_none")]
    pub cloud: Cloud,
    /// Where the time comes from.
    #[serde(default)]
    pub clock: Clock,
    /// Cluster DNS: CoreDNS is run if this is there. Without it pods ask the nodes' resolvers and know no Service by
    /// name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<Dns>,
    /// One machine of the inventory.
    #[serde(default, rename = "node")]
    pub nodes: Vec<Node>,
    /// A workload image that is baked into the OS layer, so that no registry is needed. Either `archive`,
    /// or composed from `packages` and `files`.
    #[serde(default, rename = "image")]
    pub images: Vec<WorkloadImage>,
    /// Manifests that a control plane applies once its API is ready. They are in the images of control planes only.
    #[serde(default, rename = "addon", skip_serializing_if = "Vec::is_empty")]
    pub addons: Vec<Addon>,
}

/// `[cluster]`: what every node has to agree on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Cluster {
    /// Name of the cluster, an RFC 1123 label; goes into kubeconfigs and certificate subjects.
    pub name: String,
    /// Fixed address of the API: that of a control plane, or `virtual-ip`.
    pub endpoint: IpAddr,
    /// Address that one of the control planes answers at, and another when that one is gone: for people and programs
    /// outside. Nodes do not need it: each has a balancer before all control planes. In the network of every control
    /// plane, and nobody's yet.
    #[serde(default)]
    pub virtual_ip: Option<IpAddr>,
    /// Port of the API server.
    #[serde(default = "default_endpoint_port")]
    pub endpoint_port: u16,
    /// Further names and addresses in the API server's certificate.
    #[serde(default)]
    pub endpoint_names: Vec<String>,
    /// Range that pod CIDRs are cut from. With a list of one IPv4 and one IPv6 range the cluster has both families, the
    /// first being its primary one.
    pub pod_cidr: PerFamily<IpNet>,
    /// Prefix length of one node's pod CIDR: 24 for IPv4 and 64 for IPv6 if absent. With two ranges in `pod-cidr` a list
    /// in their order.
    #[serde(default)]
    pub node_cidr_bits: Option<PerFamily<u8>>,
    /// Range of Service addresses, of the families of `pod-cidr` and in their order; the first address is the API's, the
    /// tenth DNS's.
    pub service_cidr: PerFamily<IpNet>,
    /// DNS domain of the cluster.
    #[serde(default = "default_domain")]
    pub domain: String,
    /// Where the CA keys are kept.
    #[serde(default)]
    pub secrets: Secrets,
    /// Whether control planes may start a cluster: `new` when every one of them says that its disk is empty,
    /// `existing` never: they only ever join the one there is.
    #[serde(default)]
    pub initial_cluster_state: InitialClusterState,
    /// Whether machines that nobody described may join as workers: any that has a worker's image, or the bootstrap token
    /// in it. They take their name from the machine, their address by DHCP and their pod CIDR from the cluster. With
    /// `false`, as if absent, such a machine stops at its boot and says what it needs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub admit_unknown_workers: bool,
}

impl Cluster {
    /// Prefix length of one node's pod CIDR of a family: that of `node-cidr-bits` in the place that the family has in
    /// `pod-cidr`, else what is usual in the family.
    pub fn node_prefix_length(&self, family: Family) -> u8 {
        let place = self.pod_cidr.families().position(|one| one == family);
        let written = place.and_then(|place| self.node_cidr_bits?.iter().nth(place));
        written.unwrap_or(match family {
            Family::V4 => 24,
            Family::V6 => 64,
        })
    }
}

/// Where the control plane's CA keys are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Secrets {
    /// In the cluster layer; the image is private.
    #[default]
    Baked,
    /// Not possible yet, and refused: in no image, only in the node seed.
    Seed,
}

/// Whether control planes with empty disks may start a cluster; named as etcd's option is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum InitialClusterState {
    /// Once every control plane has said that it has no data.
    #[default]
    New,
    /// Never: they wait for the cluster that exists.
    Existing,
}

/// `[kubernetes]`: which version, and where its binaries come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Kubernetes {
    /// Version of Kubernetes, `1.20.2`, without a `v`. The role's profile says which it can run.
    pub version: String,
    /// Folder that holds the binaries, relative to the cluster file.
    #[serde(default)]
    pub directory: Option<String>,
    /// Base URL of a release mirror with `v<version>/bin/linux/amd64/<name>` and `<name>.sha256` below it.
    #[serde(default)]
    pub mirror: Option<String>,
    /// Further flags by component (`etcd`, `kube-apiserver`, `kube-controller-manager`, `kube-scheduler`,
    /// `kubelet`), then by the flag's name without dashes. One that the image sets itself is replaced.
    #[serde(default, skip_serializing_if = "Flags::is_empty")]
    pub flags: Flags,
}

/// Flags of components: component to flag's name without dashes to value.
pub type Flags = std::collections::BTreeMap<String, std::collections::BTreeMap<String, String>>;

/// `[base]`: the Debian archive and kernel that the OS layer is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Base {
    /// Debian suite.
    pub suite: String,
    /// Archive URL; the machine's apt sources if absent.
    pub mirror: Option<String>,
    /// Security archive URL; with a `mirror` and without this, no security suite is used.
    pub security_mirror: Option<String>,
    /// OpenPGP keyring (binary or armoured) that the archive is signed with; the machine's if absent.
    pub keyring: Option<String>,
    /// Components of the archive, `["main", "non-free-firmware"]`; if empty those of the machine's apt sources, and
    /// `main` of a `mirror`. What cards of physical machines need is in `non-free-firmware`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<String>,
    /// Overrides the profile's kernel flavour.
    pub kernel: Option<KernelFlavour>,
    /// Packages that files are taken from which drivers of the full kernel load into their devices, and microcode of
    /// processors; in place of the profile's. None if the list is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware: Option<Vec<String>>,
    /// Appended to the kernel command line.
    pub command_line: Vec<String>,
}

impl Default for Base {
    fn default() -> Self {
        Base {
            suite: "bookworm".to_owned(),
            mirror: None,
            security_mirror: None,
            keyring: None,
            components: Vec::new(),
            kernel: None,
            firmware: None,
            command_line: Vec::new(),
        }
    }
}

/// `[disk]`: what the disks are like that images are written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Disk {
    /// Bytes of a logical sector: 512, or 4096 for 4Kn disks, which boot under UEFI only.
    pub sector_size: u32,
}

impl Default for Disk {
    fn default() -> Self {
        Disk { sector_size: 512 }
    }
}

/// `[network]`: how pods on different nodes reach each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Network {
    /// How pods on different nodes reach each other.
    pub mode: NetworkMode,
    /// With mode `routes`: how pods reach those of nodes behind a gateway. Refused if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
    /// With mode `bgp`: the nodes' autonomous system, and who they speak to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bgp: Option<Bgp>,
    /// VXLAN network identifier, 1 to 16777215.
    pub vni: u32,
    /// UDP port of VXLAN. Take 8472 where the network below keeps 4789 to itself, as VMware NSX does.
    pub port: u16,
    /// MTU of the nodes' links, bytes.
    pub mtu: u16,
    /// Resolvers written to the node's `/etc/resolv.conf`.
    pub resolvers: Vec<IpAddr>,
}

impl Default for Network {
    fn default() -> Self {
        Network {
            mode: NetworkMode::Vxlan,
            fallback: None,
            bgp: None,
            vni: DEFAULT_VNI,
            port: DEFAULT_VXLAN_PORT,
            mtu: 1500,
            resolvers: Vec::new(),
        }
    }
}

/// Above 4094: fabrics that map VLANs to VXLAN give each the VNI of its VLAN. Calico's default too, and flannel's
/// on Windows, which keeps lower ones to itself.
const DEFAULT_VNI: u32 = 4096;
/// Assigned by IANA (RFC 7348, section 8). What Linux defaults to, 8472, is from before the assignment.
const DEFAULT_VXLAN_PORT: u16 = 4789;

impl Network {
    /// Whether some pods' packets may travel in VXLAN.
    pub fn has_overlay(&self) -> bool {
        match self.mode {
            NetworkMode::Vxlan => true,
            NetworkMode::Routes => self.fallback == Some(Fallback::Vxlan),
            NetworkMode::Bgp | NetworkMode::Cloud | NetworkMode::None => false,
        }
    }
}

/// How nodes behind a gateway are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Fallback {
    /// Through VXLAN.
    Vxlan,
}

/// Pod network between nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum NetworkMode {
    /// An overlay that first boot programs on every node.
    Vxlan,
    /// Routes on a shared link.
    Routes,
    /// Routes that nodes tell one another, or the routers of the fabric, by BGP: BIRD runs on every node.
    Bgp,
    /// The cloud's own routes, which its cloud controller manager or you set: each node's pod CIDR to the node. Pods
    /// get their addresses as in the others; no route is programmed.
    Cloud,
    /// Left to a network plugin that the user installs; no CNI configuration is written.
    None,
}

impl NetworkMode {
    /// As the cluster file writes it.
    pub fn name(self) -> &'static str {
        match self {
            NetworkMode::Vxlan => "vxlan",
            NetworkMode::Routes => "routes",
            NetworkMode::Bgp => "bgp",
            NetworkMode::Cloud => "cloud",
            NetworkMode::None => "none",
        }
    }
}

/// `[clock]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Clock {
    /// NTP servers, names or addresses. None: the clock runs free from the hardware clock.
    pub servers: Vec<String>,
    /// A machine whose time servers do not answer, or that knows none, does not go on: it holds with the reason, and
    /// starts again. Otherwise it goes on with the time that it has, and says so.
    pub required: bool,
    /// Control planes give the time to the networks of all nodes, and every other node takes it from them instead of
    /// `servers`. Without servers they agree on a time among themselves, which need not be the right one.
    pub serve: bool,
}

/// `[dns]`: cluster DNS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Dns {
    /// CoreDNS's image: the name of an `[[image]]` that is built in, or one that nodes pull from a registry.
    pub image: String,
    /// How many pods: two if absent, one where only one node takes pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u16>,
}

/// `[[node]]`: one machine of the inventory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Node {
    /// Host name and Node name, an RFC 1123 label.
    pub name: String,
    /// What the node is, the name of a profile: `all-in-one`, `control-plane` or `worker`, or one of your own.
    pub role: String,
    /// MAC address of the link that carries `address`; recognises the machine.
    #[serde(default)]
    pub mac: Option<String>,
    /// UUID of the machine as its firmware says it (SMBIOS), `"4c4c4544-0042-3510-8054-b7c04f4a3832"`; recognises the
    /// machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Serial number of the machine as its firmware says it (SMBIOS); recognises the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// The node's address with the prefix length of its network: `10.0.2.15/24`. A list with one of each family in a
    /// cluster of both; a machine of the role `etcd` needs the primary one only.
    pub address: PerFamily<IpNet>,
    /// Default gateway on that link; a list with one of each family if there are two.
    #[serde(default)]
    pub gateway: Option<PerFamily<IpAddr>>,
    /// The machine's links, if there is more to say than `mac`, `address` and `gateway` do.
    #[serde(default, rename = "link", skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
    /// Pod CIDR; cut from `pod-cidr` in order of appearance if absent. In a cluster of both families one of either, or a
    /// list of both. A machine of the role `etcd` has none.
    #[serde(default)]
    pub pod_cidr: Option<PerFamily<IpNet>>,
    /// With `cloud.provider = "external"`: how the cloud calls this machine, `"openstack:///0c7b…"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<String>,
    /// Disk that keeps etcd's data, images, logs and certificates; the rest of the disk that the machine boots from if
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_disk: Option<StateDisk>,
    /// Labels of the Node object.
    #[serde(default)]
    pub labels: std::collections::BTreeMap<String, String>,
}

fn default_endpoint_port() -> u16 {
    6443
}

fn default_domain() -> String {
    "cluster.local".to_owned()
}
