//! Who tries what. Pure.

use std::net::{IpAddr, SocketAddr};

use bootwright_model::probe::{Check as Ask, HOST_PORT};
use serde_json::Value;

use super::{POD_PORT, Place, Probe};
use crate::validate::certificates::handshake::Handshake;
use crate::validate::report::{Check, Finding};

/// TLS ports of every node, and whose they are.
const NODE_TLS: [(u16, &str); 1] = [(10_250, "kubelet")];
/// TLS ports of a control plane's node on its loopback, where people with a shell find them.
const CONTROL_PLANE_TLS: [(u16, &str); 2] = [(10_257, "kube-controller-manager"), (10_259, "kube-scheduler")];
/// Where an etcd member serves clients.
const ETCD: u16 = 2379;
/// Where it tells its health.
const ETCD_HEALTH: u16 = 2381;

/// What there is to reach besides the probes.
#[derive(Debug, Clone, Default)]
pub struct Targets {
    /// The probes' Service, in each family.
    pub services: Vec<SocketAddr>,
    /// The API server's Service.
    pub api: Option<SocketAddr>,
    /// The API servers behind it.
    pub api_servers: Vec<SocketAddr>,
    /// Names and addresses of etcd's machines; none if its members are on the control planes' loopback.
    pub etcd: Vec<(String, IpAddr)>,
    /// The cluster's DNS, if it has one.
    pub dns: Option<Dns>,
}

/// A name that the cluster's DNS has to know.
#[derive(Debug, Clone)]
pub struct Dns {
    /// The name.
    pub name: String,
    /// Its address.
    pub address: Option<IpAddr>,
}

/// Something for a probe to try.
pub struct Planned {
    /// Position among all that is planned.
    pub order: usize,
    /// Position of the probe.
    pub source: usize,
    /// What is found out by it.
    pub goal: Goal,
    /// For the report: `w1 to w2`.
    pub subject: String,
    /// What the probe is asked.
    pub ask: Ask,
}

/// What is found out by a check.
pub enum Goal {
    /// A pod reaches a pod, which sees the address that the first one has.
    Pod { pod: String, seen_as: IpAddr },
    /// A whole packet arrives.
    Mtu,
    /// A Service leads to one of the probes.
    Service,
    /// The API server answers.
    Api,
    /// A node reaches a pod.
    FromNode { pod: String },
    /// A node's port leads to its pod.
    HostPort { pod: String },
    /// The name has this address.
    Dns { address: Option<IpAddr> },
    /// A certificate's dates. A server that is not there is nothing to tell if it is `optional`.
    Certificate { handshake: Box<Handshake>, optional: bool },
    /// An etcd member is healthy. One that is not there is nothing to tell if it is `optional`.
    Etcd { optional: bool },
}

impl Planned {
    /// Whether it may fail for a moment after the pods are ready: nodes program Services and ports of pods when they
    /// hear of them.
    pub fn settles(&self) -> bool {
        matches!(self.goal, Goal::Service | Goal::HostPort { .. } | Goal::Dns { .. })
    }
}

/// All checks, by source. A part of the control plane that does not listen is a fault only of a node that has to have the
/// `whole` of it.
pub fn plan(probes: &[Probe], targets: &Targets, whole: bool) -> Vec<Planned> {
    let mut planned = Vec::new();
    for (source, probe) in probes.iter().enumerate() {
        let mut add = |goal: Goal, subject: String, ask: Ask| {
            planned.push(Planned { order: 0, source, goal, subject, ask });
        };
        match probe.place {
            Place::Pod => from_pod(probe, probes, targets, &mut add),
            Place::Node => from_node(probe, probes, targets, whole, &mut add),
        }
    }
    planned.iter_mut().enumerate().for_each(|(order, one)| one.order = order);
    planned
}

type Add<'a> = &'a mut dyn FnMut(Goal, String, Ask);

fn http(address: IpAddr, port: u16) -> Ask {
    Ask::Http { to: SocketAddr::new(address, port), path: "/".to_owned() }
}

fn from_pod(probe: &Probe, probes: &[Probe], targets: &Targets, add: Add) {
    let here = &probe.node;
    for other in probes.iter().filter(|other| other.node != probe.node) {
        for (address, seen_as, family) in ways(probe, other) {
            let subject = format!("{here} to {}{family}", other.node);
            match other.place {
                Place::Pod => {
                    let goal = Goal::Pod { pod: other.pod.clone(), seen_as };
                    add(goal, subject.clone(), http(address, POD_PORT));
                    if let Some(bytes) = probe.mtu {
                        let to = SocketAddr::new(address, POD_PORT);
                        add(Goal::Mtu, subject, Ask::Datagram { to, bytes });
                    }
                }
                Place::Node => {
                    if let Some(pod) = pod_of(probes, &other.node) {
                        let goal = Goal::HostPort { pod: pod.pod.clone() };
                        add(goal, format!("pod of {subject}"), http(address, HOST_PORT));
                    }
                }
            }
        }
    }
    for service in &targets.services {
        let family = named(service.ip(), targets.services.len());
        add(Goal::Service, format!("{here}{family}"), http(service.ip(), service.port()));
    }
    if let Some(api) = targets.api {
        // Without TLS: an API server answers that it wants some, and that it does is all there is to find out.
        add(Goal::Api, here.clone(), http(api.ip(), api.port()));
    }
    if let Some(dns) = &targets.dns {
        add(Goal::Dns { address: dns.address }, here.clone(), Ask::Resolve { name: dns.name.clone() });
    }
}

fn from_node(probe: &Probe, probes: &[Probe], targets: &Targets, whole: bool, add: Add) {
    let here = &probe.node;
    for other in probes.iter().filter(|other| other.place == Place::Pod) {
        for (address, _, family) in ways(probe, other) {
            let subject = format!("{here} to {}{family}", other.node);
            add(Goal::FromNode { pod: other.pod.clone() }, subject, http(address, POD_PORT));
        }
    }
    if let Some(pod) = pod_of(probes, here) {
        for (address, _, family) in ways(probe, probe) {
            let goal = Goal::HostPort { pod: pod.pod.clone() };
            add(goal, format!("{here} to itself{family}"), http(address, HOST_PORT));
        }
    }
    for (port, name) in NODE_TLS {
        for address in &probe.addresses {
            let family = named(*address, probe.addresses.len());
            let subject = format!("{name} of {here}{family}");
            certificate(&subject, SocketAddr::new(*address, port), false, add);
        }
    }
    if probe.control_plane {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        if targets.etcd.is_empty() {
            member(here.clone(), loopback, !whole, add);
        }
        for (name, address) in &targets.etcd {
            member(format!("{name} from {here}"), *address, false, add);
        }
        for (port, name) in CONTROL_PLANE_TLS {
            certificate(&format!("{name} of {here}"), SocketAddr::new(loopback, port), !whole, add);
        }
    }
    for server in targets.api_servers.iter().filter(|server| probe.addresses.contains(&server.ip())) {
        certificate(&format!("kube-apiserver of {here}"), *server, false, add);
    }
}

/// A member of etcd: its certificate, and its health.
fn member(subject: String, address: IpAddr, optional: bool, add: Add) {
    certificate(&format!("etcd of {subject}"), SocketAddr::new(address, ETCD), optional, add);
    let to = SocketAddr::new(address, ETCD_HEALTH);
    add(Goal::Etcd { optional }, subject, Ask::Http { to, path: "/health".to_owned() });
}

/// How one probe reaches another in each family that both have: the other's address, its own, and the family for the
/// report where there is more than one.
fn ways<'a>(from: &'a Probe, to: &'a Probe) -> impl Iterator<Item = (IpAddr, IpAddr, &'static str)> + 'a {
    let own = |address: &IpAddr| from.addresses.iter().find(|own| own.is_ipv4() == address.is_ipv4());
    let ways = to.addresses.iter().filter_map(move |address| Some((*address, *own(address)?)));
    ways.map(|(address, own)| (address, own, named(address, to.addresses.len())))
}

/// The family of an address as the report has it behind a subject; nothing if it is one of one.
fn named(address: IpAddr, of: usize) -> &'static str {
    match address {
        _ if of < 2 => "",
        IpAddr::V4(_) => " (IPv4)",
        IpAddr::V6(_) => " (IPv6)",
    }
}

fn certificate(subject: &str, to: SocketAddr, optional: bool, add: Add) {
    // An address is a name that a handshake takes.
    if let Ok(mut handshake) = Handshake::new(&to.ip().to_string()) {
        let bytes = handshake.hello();
        let goal = Goal::Certificate { handshake: Box::new(handshake), optional };
        add(goal, subject.to_owned(), Ask::Exchange { to, bytes });
    }
}

fn pod_of<'a>(probes: &'a [Probe], node: &str) -> Option<&'a Probe> {
    probes.iter().find(|probe| probe.node == node && probe.place == Place::Pod)
}

/// What could not be planned, and why.
pub fn skipped(probes: &[Probe], targets: &Targets) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut skip = |check, why: &str| findings.push(Finding::skipped(check, "all nodes", why));
    let pods = probes.iter().filter(|probe| probe.place == Place::Pod).count();
    if pods < 2 {
        for check in [Check::PodToPod, Check::SourceAddress, Check::Mtu] {
            skip(check, "it takes probes on two nodes");
        }
    }
    if pods >= 2 && probes.iter().any(|probe| probe.place == Place::Pod && probe.mtu.is_none()) {
        skip(Check::Mtu, "a probe sees no link, or none of a packet's size");
    }
    if targets.dns.is_none() {
        skip(Check::Dns, "the cluster has no DNS: no Service in kube-system has the label k8s-app=kube-dns");
    }
    if targets.api.is_none() {
        skip(Check::PodToApi, "the API server's Service default/kubernetes has no address");
    }
    if !probes.iter().any(|probe| probe.place == Place::Node && probe.control_plane) {
        skip(Check::EtcdMember, "no node is labelled as control plane, or none has a probe");
    }
    findings
}

/// Addresses of the API servers, of the Endpoints of their Service.
pub fn api_servers(endpoints: &Value) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for subset in endpoints["subsets"].as_array().into_iter().flatten() {
        let port = subset["ports"][0]["port"].as_u64().and_then(|port| u16::try_from(port).ok());
        let Some(port) = port else { continue };
        for address in subset["addresses"].as_array().into_iter().flatten() {
            let address: Option<IpAddr> = address["ip"].as_str().and_then(|ip| ip.parse().ok());
            found.extend(address.map(|address| SocketAddr::new(address, port)));
        }
    }
    found
}
