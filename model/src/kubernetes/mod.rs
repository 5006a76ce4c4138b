//! What depends on the Kubernetes version: flags and configuration files of every component.
//!
//! A flag that a program does not know ends it, so each option that came or went between the first and
//! the last supported version stands in one table ([`gates`]), and the builders in `render` leave out
//! what the version at hand does not know. One file per component renders from [`NodeFacts`] alone.

pub mod bird;
pub mod bootstrap;
pub mod dns;
mod election;
pub mod etcd;
pub mod gates;
pub mod kubeconfig;
pub mod node_object;
pub mod pki;
pub mod version;

mod apiserver;
mod chrony;
mod containerd;
mod controller_manager;
mod kubelet;
mod proxy;
mod render;
mod rights;
mod scheduler;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;

use crate::addresses::AddressError;
use crate::agent;
use crate::cluster::{ClusterFile, Node};
use crate::families::{Family, PerFamily};
use crate::layout;
use crate::node::NodeFacts;

pub use version::Version;

/// Names that [`component`] takes, in no order that matters.
pub const COMPONENTS: [&str; 9] = [
    "containerd",
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "chrony",
    "bird",
];

/// Components that take the cluster file's flags. The others are configured by a file, beside which some
/// releases ignore flags.
pub const FLAG_COMPONENTS: [&str; 5] =
    ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet"];

/// The flag of alpha and beta features, a list of `Name=true`.
const FEATURE_GATES: &str = "feature-gates";

/// Roles that run an API server.
pub const CONTROL_PLANE_ROLES: [&str; 2] = [ALL_IN_ONE, "control-plane"];
/// The role of a machine that runs a member of etcd and nothing else of the cluster: it has no kubelet, and no Node.
pub const ETCD: &str = "etcd";
/// The role of a machine that runs pods and nothing of the control plane; there may be others of one's own.
pub const WORKER: &str = "worker";
/// The role of a control plane that runs everybody's pods as well: its Node has no taint.
pub const ALL_IN_ONE: &str = "all-in-one";

/// Whether nodes of this role run an API server. They hold the authorities' keys; all other nodes ask for their
/// certificates.
pub fn is_control_plane(role: &str) -> bool {
    CONTROL_PLANE_ROLES.contains(&role)
}

/// Whether machines of this role are Nodes: they run a kubelet, and pods, for which they have a range.
pub fn is_node(role: &str) -> bool {
    role != ETCD
}

/// Whether machines of this role run pods and nothing of the control plane: the only ones that may join undescribed.
pub fn is_worker(role: &str) -> bool {
    is_node(role) && !is_control_plane(role)
}

/// Whether a machine of this role with these addresses has the families that it needs in a cluster with these ranges of
/// pods: a Node has all; with a machine of etcd control planes and other members speak at its address of the primary
/// family.
pub fn has_families(role: &str, addresses: &PerFamily<IpNet>, pods: &PerFamily<IpNet>) -> bool {
    let primary = Family::of(pods.addr());
    let is_of_cluster = |family| pods.of(family).is_some();
    addresses.same_families(pods)
        || !is_node(role) && addresses.of(primary).is_some() && addresses.families().all(is_of_cluster)
}

/// Whether machines of this role issue their own certificates: control planes by all authorities, whose keys they hold,
/// machines of etcd by etcd's.
pub fn issues_certificates(role: &str) -> bool {
    is_control_plane(role) || role == ETCD
}

/// The nodes that run an API server, in the order of the cluster file.
pub fn control_planes(file: &ClusterFile) -> impl Iterator<Item = &Node> {
    file.nodes.iter().filter(|node| is_control_plane(&node.role))
}

/// Whether etcd runs on machines of its own, those of the role [`ETCD`]: the control planes have none then.
pub fn has_etcd_machines(file: &ClusterFile) -> bool {
    file.nodes.iter().any(|node| node.role == ETCD)
}

/// Whether nodes of this role run a member of etcd.
pub fn runs_etcd(role: &str, file: &ClusterFile) -> bool {
    role == ETCD || (is_control_plane(role) && !has_etcd_machines(file))
}

/// The nodes that run a member of etcd, in the order of the cluster file.
pub fn etcd_members(file: &ClusterFile) -> impl Iterator<Item = &Node> {
    file.nodes.iter().filter(|node| runs_etcd(&node.role, file))
}

/// Where the programs of this node reach the API: a control plane by its own server, so that no other machine
/// is needed, and every other node by the agent's balancer, behind which all control planes stand.
pub fn api_server(facts: &NodeFacts) -> SocketAddr {
    let own = is_control_plane(&facts.layer.role);
    let port = if own { facts.layer.file.cluster.endpoint_port } else { agent::BALANCER_PORT };
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)
}

/// What a service needs in addition to its command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// Appended to the command, `--name=value` each.
    pub arguments: Vec<String>,
    /// To be there before the program starts.
    pub files: Vec<ConfigFile>,
}

impl Component {
    /// Sets a flag, named without dashes; in the place of the same flag, as some flags add up when they are
    /// given twice. Feature gates are to add up: one that the image needs stays, unless it is named itself, as the last
    /// of two counts.
    fn set_flag(&mut self, name: &str, value: &str) {
        let start = format!("--{name}=");
        let flag = format!("{start}{value}");
        match self.arguments.iter_mut().find(|argument| argument.starts_with(&start)) {
            Some(argument) if name == FEATURE_GATES => *argument += &format!(",{value}"),
            Some(argument) => *argument = flag,
            None => self.arguments.push(flag),
        }
    }
}

/// One configuration file; none holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile {
    /// Absolute path on the node.
    pub path: String,
    /// Whole contents, ending in a newline.
    pub contents: String,
    /// Permission bits.
    pub mode: u32,
}

/// Why a component cannot be configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KubernetesError {
    /// The name is none of [`COMPONENTS`].
    #[error("\"{name}\" is no component; there are {}", COMPONENTS.join(", "))]
    UnknownComponent {
        /// What was asked for.
        name: String,
    },
    /// A component that runs pods, on a machine without a range for them.
    #[error("{node} has no pod CIDR: its role \"{role}\" runs no pods")]
    NoPods {
        /// Node name.
        node: String,
        /// Its role.
        role: String,
    },
    /// Not of the form `1.20.2`.
    #[error("\"{text}\" is no {product} version; write it like {example}")]
    Malformed {
        /// Whose version.
        product: &'static str,
        /// What was found.
        text: String,
        /// What it should look like.
        example: &'static str,
    },
    /// Older or newer than what the table of gates covers.
    #[error(
        "{product} {version} is not supported: flags are known for {first} to {last} only; \
         choose a version in that range"
    )]
    Unsupported {
        /// Whose version.
        product: &'static str,
        /// The version.
        version: Version,
        /// Oldest supported release.
        first: String,
        /// Newest supported release.
        last: String,
    },
    /// Two programs of the image do not understand each other.
    #[error("kubelet {kubernetes} and containerd {containerd} have no CRI version in common: {advice}")]
    RuntimeMismatch {
        /// Version of the kubelet.
        kubernetes: Version,
        /// Version of containerd.
        containerd: Version,
        /// Which one to change, and to what.
        advice: &'static str,
    },
    /// A range of the cluster file is too small for what the component needs.
    #[error(transparent)]
    Address(#[from] AddressError),
}

/// Flags and files of one component on one node.
pub fn component(name: &str, facts: &NodeFacts) -> Result<Component, KubernetesError> {
    component_below("", name, facts)
}

/// The same with every path of the node below `root`, a folder without a trailing slash, so that the
/// real programs can be run with exactly these flags outside a node.
pub fn component_below(root: &str, name: &str, facts: &NodeFacts) -> Result<Component, KubernetesError> {
    let node = NodeContext { root, facts, version: facts.os.kubernetes.parse()? };
    let mut component = match name {
        "containerd" => containerd::render(&node),
        "etcd" => etcd::render(&node),
        "kube-apiserver" => apiserver::render(&node),
        "kube-controller-manager" => controller_manager::render(&node),
        "kube-scheduler" => scheduler::render(&node),
        "kubelet" => kubelet::render(&node),
        "kube-proxy" => proxy::render(&node),
        "chrony" => chrony::render(&node),
        "bird" => bird::render(&node),
        other => Err(KubernetesError::UnknownComponent { name: other.to_owned() }),
    }?;
    for (flag, value) in facts.layer.file.kubernetes.flags.get(name).into_iter().flatten() {
        component.set_flag(flag, value);
    }
    Ok(component)
}

/// What every renderer gets: the facts, the parsed version, and where paths start.
struct NodeContext<'a> {
    root: &'a str,
    facts: &'a NodeFacts,
    version: Version,
}

impl NodeContext<'_> {
    /// An absolute path of the node.
    fn path(&self, path: &str) -> String {
        format!("{}{path}", self.root)
    }

    /// A file that was issued on this node.
    fn node_pki(&self, file: &str) -> String {
        format!("{}{}/{file}", self.root, layout::NODE_PKI)
    }

    /// A file of the cluster's authorities.
    fn cluster_pki(&self, file: &str) -> String {
        format!("{}{}/{}/{file}", self.root, layout::RUN_CLUSTER, layout::CLUSTER_PKI)
    }

    /// Whether this node holds the authorities' keys and issues its own certificates.
    fn is_control_plane(&self) -> bool {
        is_control_plane(&self.facts.layer.role)
    }

    /// A file below `/etc/kubernetes`.
    fn etc(&self, file: &str) -> String {
        format!("{}{}/{file}", self.root, layout::ETC_KUBERNETES)
    }

    /// The node's own address, of the primary family.
    fn address(&self) -> IpAddr {
        self.facts.address.addr()
    }

    /// "All addresses" of the node's families; on Linux `::` takes IPv4 as well.
    fn any_address(&self) -> &'static str {
        if self.facts.address.of(Family::V6).is_some() { "::" } else { "0.0.0.0" }
    }

    /// The gate of two families in one cluster, where it is closed by itself and needed.
    fn dual_stack_gate(&self) -> Option<&'static str> {
        let dual = self.facts.layer.file.cluster.service_cidr.count() > 1;
        (dual && gates::DUAL_STACK.open(self.version)).then_some(gates::DUAL_STACK.option)
    }

    /// More than one control plane: controllers must elect a leader.
    fn replicated(&self) -> bool {
        control_planes(&self.facts.layer.file).count() > 1
    }

    /// How the API server reaches etcd.
    ///
    /// A member on the same machine alone, as kubeadm does: given all of them, the client takes them in turn, and
    /// every API server would be as slow as the slowest member. With its own only, an API server whose member
    /// is gone is not ready, and whoever balances goes to another. Where none is on the machine, all.
    fn etcd_servers(&self) -> String {
        let file = &self.facts.layer.file;
        if !has_etcd_machines(file) {
            return etcd::LOCAL_CLIENT_URL.to_owned();
        }
        etcd_members(file).map(|node| etcd::client_url(node.address.addr())).collect::<Vec<_>>().join(",")
    }
}

/// An address as it stands in a URL: IPv6 in brackets.
fn url_host(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}
