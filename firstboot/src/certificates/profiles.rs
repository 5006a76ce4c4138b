//! What a certificate has to look like: the table that everything else works from.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bootwright_model::addresses::{AddressError, api_service_address};
use bootwright_model::agent;
use bootwright_model::kubernetes::{is_control_plane, pki, runs_etcd};
use bootwright_model::node::NodeFacts;

/// One leaf certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Profile {
    /// File name without its ending.
    pub(super) name: &'static str,
    /// Name of the authority that signs it.
    pub(super) authority: &'static str,
    /// Subject: the user for client certificates.
    pub(super) common_name: String,
    /// Subject: the group.
    pub(super) organization: Option<&'static str>,
    /// Extended key usage.
    pub(super) usage: Usage,
    /// Subject alternative names, sorted, each once.
    pub(super) names: Vec<Name>,
    /// A kubeconfig with this certificate is written beside it.
    pub(super) kubeconfig: bool,
    /// Services that read it once, when they start. Everything else reads its files again: servers from
    /// `k8s.io/apiserver` poll them, etcd and clients by path do at each connection.
    pub(super) restart: &'static [&'static str],
}

/// What a certificate is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Usage {
    Client,
    Server,
    /// etcd's, which also dials itself and its peers with them.
    Both,
}

/// A subject alternative name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    Dns(String),
    Ip(IpAddr),
}

impl From<&str> for Name {
    fn from(text: &str) -> Name {
        text.parse().map_or_else(|_| Name::Dns(text.to_owned()), Name::Ip)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Dns(name) => write!(f, "{name}"),
            Name::Ip(address) => write!(f, "{address}"),
        }
    }
}

impl Profile {
    fn client(name: &'static str, authority: &'static str, user: &str) -> Profile {
        Profile {
            name,
            authority,
            common_name: user.to_owned(),
            organization: None,
            usage: Usage::Client,
            names: Vec::new(),
            kubeconfig: false,
            restart: &[],
        }
    }

    /// A client of the API server, with a kubeconfig.
    fn user(name: &'static str, user: &str) -> Profile {
        Profile { kubeconfig: true, ..Profile::client(name, pki::CA, user) }
    }

    fn server(name: &'static str, authority: &'static str, subject: &str, names: Vec<Name>) -> Profile {
        let mut names = names;
        names.sort();
        names.dedup();
        Profile { usage: Usage::Server, names, ..Profile::client(name, authority, subject) }
    }
}

/// Every certificate of a machine that issues its own.
pub(super) fn all(facts: &NodeFacts) -> Result<Vec<Profile>, AddressError> {
    let role = &facts.layer.role;
    let mut profiles = Vec::new();
    if is_control_plane(role) {
        profiles.extend(api_server(facts)?);
    }
    if runs_etcd(role, &facts.layer.file) {
        profiles.extend(etcd(facts));
    }
    if is_control_plane(role) {
        profiles.extend(kubelet(facts));
        profiles.extend(controllers(facts));
    }
    Ok(profiles)
}

/// What works through the API server of a control plane.
fn controllers(facts: &NodeFacts) -> [Profile; 7] {
    [
        Profile::user(pki::CONTROLLER_MANAGER, "system:kube-controller-manager"),
        Profile::server(
            pki::CONTROLLER_MANAGER_SERVER,
            pki::CA,
            "kube-controller-manager",
            loopback(&facts.name),
        ),
        Profile::user(pki::SCHEDULER, "system:kube-scheduler"),
        Profile::server(pki::SCHEDULER_SERVER, pki::CA, "kube-scheduler", loopback(&facts.name)),
        Profile::user(pki::PROXY, "system:kube-proxy"),
        Profile::user(pki::AGENT, agent::USER),
        Profile { organization: Some("system:masters"), ..Profile::user(pki::ADMIN, "kubernetes-admin") },
    ]
}

/// The API server, and what it shows to those it calls.
fn api_server(facts: &NodeFacts) -> Result<[Profile; 4], AddressError> {
    let cluster = &facts.layer.file.cluster;
    let mut names = loopback(&facts.name);
    names.extend(["kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(Name::from));
    names.push(Name::Dns(format!("kubernetes.default.svc.{}", cluster.domain)));
    // The Service kubernetes.default has the address of the primary family alone; a certificate that is good for the
    // other one as well does no harm, and need not be issued again when it gets it.
    names.extend(cluster.service_cidr.try_map(api_service_address)?.iter().map(Name::Ip));
    names.extend(facts.address.addrs().iter().map(Name::Ip));
    names.push(Name::Ip(cluster.endpoint));
    names.extend(cluster.virtual_ip.map(Name::Ip));
    names.extend(cluster.endpoint_names.iter().map(|name| Name::from(name.as_str())));
    Ok([
        Profile::server(pki::APISERVER, pki::CA, "kube-apiserver", names),
        Profile::client(pki::APISERVER_KUBELET_CLIENT, pki::CA, pki::APISERVER_KUBELET_CLIENT_USER),
        Profile::client(pki::APISERVER_ETCD_CLIENT, pki::ETCD_CA, "kube-apiserver-etcd-client"),
        Profile::client(pki::FRONT_PROXY_CLIENT, pki::FRONT_PROXY_CA, pki::FRONT_PROXY_CLIENT_USER),
    ])
}

fn etcd(facts: &NodeFacts) -> [Profile; 3] {
    let member = |name| {
        let mut names = loopback(&facts.name);
        names.extend(facts.address.addrs().iter().map(Name::Ip));
        Profile { usage: Usage::Both, ..Profile::server(name, pki::ETCD_CA, &facts.name, names) }
    };
    [
        member(pki::ETCD_SERVER),
        member(pki::ETCD_PEER),
        Profile::client(pki::ETCD_HEALTH_CLIENT, pki::ETCD_CA, "etcd-health-client"),
    ]
}

/// Both with the subject that the node authoriser wants.
fn kubelet(facts: &NodeFacts) -> [Profile; 2] {
    let user = format!("system:node:{}", facts.name);
    let mut names = vec![Name::Dns(facts.name.clone())];
    names.extend(facts.address.addrs().iter().map(Name::Ip));
    let organization = Some("system:nodes");
    [
        Profile { organization, ..Profile::user(pki::KUBELET_CLIENT, &user) },
        Profile {
            organization,
            restart: &["kubelet"],
            ..Profile::server(pki::KUBELET_SERVER, pki::CA, &user, names)
        },
    ]
}

/// Names under which a program reaches its own machine.
fn loopback(node: &str) -> Vec<Name> {
    vec![
        Name::Dns(node.to_owned()),
        Name::Dns("localhost".to_owned()),
        Name::Ip(Ipv4Addr::LOCALHOST.into()),
        Name::Ip(Ipv6Addr::LOCALHOST.into()),
    ]
}
