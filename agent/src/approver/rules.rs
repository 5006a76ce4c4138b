//! What is approved, denied, and left to a person or to later. No I/O.

use std::collections::BTreeSet;
use std::net::IpAddr;

use bootwright_model::cluster::ClusterFile;
use bootwright_model::families::PerFamily;
use bootwright_model::kubernetes::{is_control_plane, is_node};
use ipnet::IpNet;

use super::request::{Kind, NODES, Request};
use crate::api::objects::{Node, RequestSpec};

/// Group of those who show the bootstrap token.
const BOOTSTRAPPERS: &str = "system:bootstrappers";

/// What to do with a request, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Sign it.
    Approve(String),
    /// Never.
    Deny(String),
    /// Not now: it may become right, or a person may decide.
    Leave(String),
}

/// What the cluster file says of its nodes, and which names and addresses belong to the cluster itself.
#[derive(Debug, Clone)]
pub struct Inventory {
    nodes: Vec<InventoryNode>,
    /// Names of the API server besides `kubernetes…`.
    endpoint_names: BTreeSet<String>,
    /// Addresses of the API that are no node's own.
    endpoint_addresses: BTreeSet<IpAddr>,
    services: PerFamily<IpNet>,
    pods: PerFamily<IpNet>,
    domain: String,
    /// Machines that are in no cluster file may join as workers.
    admits_unknown: bool,
}

#[derive(Debug, Clone)]
struct InventoryNode {
    name: String,
    addresses: Vec<IpAddr>,
    control_plane: bool,
    is_node: bool,
}

impl From<&ClusterFile> for Inventory {
    fn from(file: &ClusterFile) -> Inventory {
        let mut endpoint_names = BTreeSet::new();
        let mut endpoint_addresses = BTreeSet::from([file.cluster.endpoint.to_canonical()]);
        endpoint_addresses.extend(file.cluster.virtual_ip.map(|address| address.to_canonical()));
        for name in &file.cluster.endpoint_names {
            match name.parse::<IpAddr>() {
                Ok(address) => drop(endpoint_addresses.insert(address.to_canonical())),
                Err(_) => drop(endpoint_names.insert(without_root(name).to_ascii_lowercase())),
            }
        }
        let node = |node: &bootwright_model::cluster::Node| InventoryNode {
            name: node.name.clone(),
            addresses: node.address.addrs().iter().map(|address| address.to_canonical()).collect(),
            control_plane: is_control_plane(&node.role),
            is_node: is_node(&node.role),
        };
        Inventory {
            nodes: file.nodes.iter().map(node).collect(),
            endpoint_names,
            endpoint_addresses,
            services: file.cluster.service_cidr,
            pods: file.cluster.pod_cidr,
            domain: without_root(&file.cluster.domain).to_ascii_lowercase(),
            admits_unknown: file.cluster.admit_unknown_workers,
        }
    }
}

/// Whether this program decides on such requests: the renewal of a client certificate is left to Kubernetes.
pub fn is_ours(spec: &RequestSpec) -> bool {
    match Kind::of_signer(&spec.signer_name) {
        Some(Kind::Serving) => true,
        Some(Kind::Client) => spec.groups.iter().any(|group| group == BOOTSTRAPPERS),
        None => false,
    }
}

/// Decides on a request; `node` is the Node that it names, if there is one.
pub fn judge(request: &Request, inventory: &Inventory, node: Option<&Node>) -> Verdict {
    let known = inventory.nodes.iter().find(|known| known.name == request.node);
    match request.kind {
        Kind::Serving => serving(request, inventory, known, node),
        Kind::Client => client(request, inventory, known, node),
    }
}

fn serving(
    request: &Request,
    inventory: &Inventory,
    known: Option<&InventoryNode>,
    node: Option<&Node>,
) -> Verdict {
    let is_node = request.groups.iter().any(|group| group == NODES);
    if !is_node || request.username != request.subject_user() {
        let user = &request.username;
        return Verdict::Deny(format!("{request} is asked for by {user}; a node asks for its own only"));
    }
    if let Some(why) = wrong_usages(request, "server auth") {
        return Verdict::Deny(why);
    }
    if request.addresses.is_empty() && request.names.is_empty() {
        return Verdict::Deny(format!("{request} is asked for without a name or address"));
    }
    if let Some(why) = inventory.belongs_to_another(request) {
        return Verdict::Deny(why);
    }
    let mut names = BTreeSet::from([request.node.as_str()]);
    let mut addresses: BTreeSet<IpAddr> =
        known.iter().flat_map(|known| known.addresses.iter().copied()).collect();
    // A node writes its own status, which proves nothing. It counts for a node of which nothing else is known.
    let says = if known.is_none() { node } else { None };
    for has in says.map(|node| node.status.addresses.as_slice()).unwrap_or_default() {
        match has.address.parse::<IpAddr>() {
            Ok(address) => drop(addresses.insert(address.to_canonical())),
            Err(_) => drop(names.insert(&has.address)),
        }
    }
    let foreign_name = request.names.iter().find(|name| !names.contains(name.as_str())).cloned();
    let foreign_address =
        request.addresses.iter().find(|address| !addresses.contains(address)).map(ToString::to_string);
    match foreign_name.or(foreign_address) {
        None => Verdict::Approve(format!("{request}, which are its own")),
        Some(foreign) if known.is_some() => Verdict::Leave(format!(
            "{request}: {foreign} is not in the inventory; approve by hand if it is right"
        )),
        Some(foreign) if node.is_none() => {
            Verdict::Leave(format!("{request}: there is no Node yet that says it has {foreign}"))
        }
        Some(foreign) => Verdict::Leave(format!(
            "{request}: {foreign} is neither in its Node's status nor in the inventory"
        )),
    }
}

fn client(
    request: &Request,
    inventory: &Inventory,
    known: Option<&InventoryNode>,
    node: Option<&Node>,
) -> Verdict {
    if let Some(why) = wrong_usages(request, "client auth") {
        return Verdict::Deny(why);
    }
    if !request.names.is_empty() || !request.addresses.is_empty() {
        return Verdict::Deny(format!("{request} is asked for; a client has no names but its subject"));
    }
    match known {
        None if inventory.admits_unknown => stranger(request, inventory, node),
        None => Verdict::Leave(format!(
            "{request}: the inventory has no such node; add it to the cluster file, or approve by hand"
        )),
        // Its certificate comes from the authority's key, which it has.
        Some(known) if known.control_plane => {
            Verdict::Deny(format!("{request}, a control plane, which issues its own: nobody may join as it"))
        }
        Some(known) if !known.is_node => {
            Verdict::Deny(format!("{request}, a machine of etcd, which is no Node: nobody may join as it"))
        }
        Some(_) if node.is_some_and(Node::is_ready) => Verdict::Leave(format!(
            "{request}: that node is alive; this is another machine of its name, or the same one made anew, \
             which gets it once the Node is not Ready any more"
        )),
        Some(_) => Verdict::Approve(format!("{request}, which is in the inventory")),
    }
}

/// A machine that nobody described. Whoever has the token may become any node that is none yet, and nothing else: the names
/// of what there is are not to be had.
fn stranger(request: &Request, inventory: &Inventory, node: Option<&Node>) -> Verdict {
    let name = &request.node;
    // First boot gives labels of RFC 1123 only; and a name with dots could be one in DNS.
    if name.contains('.') || name.len() > 63 || name.starts_with('-') || name.ends_with('-') {
        return Verdict::Deny(format!("{request}: {name} is no label, and no name that first boot gives"));
    }
    if let Some(owner) = inventory.reserved(name) {
        return Verdict::Deny(format!("{request}: the name {name} is {owner}"));
    }
    match node {
        Some(node) if node.is_control_plane() => Verdict::Deny(format!(
            "{request}, a control plane of another cluster file: nobody may join as it"
        )),
        Some(node) if node.is_ready() => Verdict::Leave(format!(
            "{request}: that node is alive; this is another machine of its name, or the same one made anew, which gets it \
             once the Node is not Ready any more"
        )),
        _ => Verdict::Approve(format!("{request}, as any worker may join")),
    }
}

/// Kubelets ask for these three; with keys that cannot encipher, from 1.27 on, for two of them.
fn wrong_usages(request: &Request, auth: &str) -> Option<String> {
    let needed = ["digital signature", auth];
    let allowed = ["digital signature", "key encipherment", auth];
    let right = needed.iter().all(|usage| request.usages.contains(*usage))
        && request.usages.iter().all(|usage| allowed.contains(&usage.as_str()));
    (!right).then(|| {
        let asked: Vec<&str> = request.usages.iter().map(String::as_str).collect();
        format!("{request} is asked for with usages {}; wanted are {}", asked.join(", "), allowed.join(", "))
    })
}

impl Inventory {
    /// A name or address that is not this node's whatever its Node says: a node writes its own status, so it
    /// could claim those of the API server, and then be it.
    fn belongs_to_another(&self, request: &Request) -> Option<String> {
        let others = || self.nodes.iter().filter(|node| node.name != request.node);
        for name in &request.names {
            let lower = without_root(name).to_ascii_lowercase();
            let of_node =
                || others().find(|node| node.name == lower).map(|node| format!("node {}'s", node.name));
            if let Some(owner) = self.reserved(&lower).map(str::to_owned).or_else(of_node) {
                return Some(format!("{request}: the name {name} is {owner}"));
            }
        }
        for address in &request.addresses {
            let own =
                self.nodes.iter().any(|node| node.name == request.node && node.addresses.contains(address));
            let owner = if own {
                None
            } else if address.is_loopback() || address.is_unspecified() || address.is_multicast() {
                Some("no node's".to_owned())
            } else if self.endpoint_addresses.contains(address) {
                Some("the API's".to_owned())
            } else if self.services.contains(address) {
                Some("a Service's".to_owned())
            } else if self.pods.contains(address) {
                Some("a pod's".to_owned())
            } else {
                others()
                    .find(|node| node.addresses.contains(address))
                    .map(|node| format!("node {}'s", node.name))
            };
            if let Some(owner) = owner {
                return Some(format!("{request}: the address {address} is {owner}"));
            }
        }
        None
    }

    /// Whose a name in lower case is that can be no node's.
    fn reserved(&self, name: &str) -> Option<&'static str> {
        if name == "localhost" || name.contains('*') {
            Some("no node's")
        } else if name == "kubernetes" || name.starts_with("kubernetes.") || self.is_service(name) {
            Some("a Service's")
        } else if self.endpoint_names.contains(name) {
            Some("the API's")
        } else {
            None
        }
    }

    /// A name in the cluster's domain, or a short form of one.
    fn is_service(&self, name: &str) -> bool {
        name.ends_with(".svc") || name.ends_with(&format!(".{}", self.domain)) || name == self.domain
    }
}

/// A name without the dots at its end: `web.default.svc.` is `web.default.svc` to a resolver.
fn without_root(name: &str) -> &str {
    name.trim_end_matches('.')
}
