//! Nodes with a pod each, on switches of a namespace that is also the router between them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use bootwright_model::cluster::ClusterFile;
use bootwright_model::kubernetes::bird::{CONTROL_SOCKET, RECOVER};
use bootwright_model::kubernetes::component_below;
use bootwright_model::node::NodeFacts;
use network_namespaces::Namespace;
use serde_json::{Value, json};

use super::bird::{Bird, Program, eventually};

/// IPv4, or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// An address of the network with this number.
    pub fn address(self, network: u8, number: u8) -> IpAddr {
        match self {
            Family::V4 => [10, network, 0, number].into(),
            Family::V6 => format!("fd00:{network}::{number}").parse().unwrap(),
        }
    }

    /// The pods' range of the node with this number.
    pub fn range(self, number: u8) -> String {
        match self {
            Family::V4 => format!("10.10.{number}.0/24"),
            Family::V6 => format!("fd00:10:0:{number}::/64"),
        }
    }

    /// An address among the pods of the node with this number: 1 is the node's own, 2 its pod's.
    pub fn pod(self, number: u8, address: u8) -> IpAddr {
        match self {
            Family::V4 => [10, 10, number, address].into(),
            Family::V6 => format!("fd00:10:0:{number}::{address}").parse().unwrap(),
        }
    }

    fn link_length(self) -> u8 {
        if self == Family::V4 { 24 } else { 64 }
    }

    /// The option of `ip`.
    fn option(self) -> &'static str {
        if self == Family::V4 { "-4" } else { "-6" }
    }

    /// Addresses of a link, the link-local one such that [`Family::global`] knows it.
    fn plug(self, net: &Namespace, link: &str, network: u8, number: u8) {
        net.ip(&format!("link set {link} addrgenmode none"));
        net.ip(&format!("link set {link} up"));
        let (address, length) = (self.address(network, number), self.link_length());
        net.ip(&format!("address add {address}/{length} dev {link}{}", self.nodad()));
        if self == Family::V6 {
            net.ip(&format!("address add fe80::{network}:{number}/64 dev {link} nodad"));
        }
    }

    /// The address of whoever has this one: neighbours of another system also tell their link-local address (RFC 2545),
    /// and that is the gateway then.
    fn global(address: &str) -> String {
        match address.strip_prefix("fe80::").and_then(|rest| rest.split_once(':')) {
            Some((network, number)) => format!("fd00:{network}::{number}"),
            None => address.to_owned(),
        }
    }

    fn nodad(self) -> &'static str {
        if self == Family::V4 { "" } else { " nodad" }
    }
}

/// A cluster file with a node for each pair of network and number, and these routers.
pub fn cluster_file(family: Family, nodes: &[(u8, u8)], routers: &[(IpAddr, u32)]) -> ClusterFile {
    let (pods, services) = match family {
        Family::V4 => ("10.10.0.0/16", "10.96.0.0/16"),
        Family::V6 => ("fd00:10::/48", "fd00:96::/112"),
    };
    let node = |(network, number): &(u8, u8)| {
        let address = format!("{}/{}", family.address(*network, *number), family.link_length());
        json!({ "name": format!("n{number}"), "role": "worker", "address": address, "pod-cidr": family.range(*number) })
    };
    let router = |(address, asn): &(IpAddr, u32)| json!({ "address": address.to_string(), "as": asn });
    serde_json::from_value(json!({
        "cluster": { "name": "harbor", "endpoint": family.address(20, 11).to_string(), "pod-cidr": pods, "service-cidr": services },
        "kubernetes": { "version": "1.20.2" },
        "network": { "mode": "bgp", "bgp": { "router": routers.iter().map(router).collect::<Vec<_>>() } },
        "node": nodes.iter().map(node).collect::<Vec<_>>(),
    }))
    .unwrap()
}

/// A node, its pod, and its BIRD while it runs.
pub struct Node {
    pub family: Family,
    pub number: u8,
    pub net: Namespace,
    pub pod: Namespace,
    pub bird: Option<Bird>,
    root: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
}

/// Switches `10.20.0.0/24` and `10.30.0.0/24` (`fd00:20::/64` and `fd00:30::/64`) with a router between: the first
/// address of each.
pub struct Fabric {
    pub family: Family,
    pub net: Namespace,
}

impl Fabric {
    pub fn new(family: Family) -> Fabric {
        let net = Namespace::new();
        for network in [20, 30] {
            net.ip(&format!("link add br{network} type bridge"));
            family.plug(&net, &format!("br{network}"), network, 1);
        }
        Fabric { family, net }
    }

    /// A node as its first boot leaves it, by the cluster file that its image has. Its BIRD does not run yet.
    pub fn node(&self, scratch: &Path, network: u8, number: u8, file: &ClusterFile) -> Node {
        let family = self.family;
        let (net, pod) = (Namespace::new(), Namespace::new());
        let (length, nodad) = (family.link_length(), family.nodad());
        let range = family.range(number);
        let pod_length = range.rsplit_once('/').unwrap().1;
        self.net.ip(&format!("link add p{number} type veth peer name eth0 netns {}", net.path()));
        self.net.ip(&format!("link set p{number} master br{network} up"));
        let address = family.address(network, number);
        let gateway = family.address(network, 1);
        family.plug(&net, "eth0", network, number);
        net.ip(&format!("route add default via {gateway}"));
        net.ip(&format!("link add veth0 type veth peer name eth0 netns {}", pod.path()));
        net.ip("link set veth0 up");
        net.ip(&format!("address add {}/{pod_length} dev veth0{nodad}", family.pod(number, 1)));
        pod.ip("link set eth0 up");
        pod.ip(&format!("address add {}/{pod_length} dev eth0{nodad}", family.pod(number, 2)));
        pod.ip(&format!("route add default via {}", family.pod(number, 1)));

        let facts: NodeFacts = serde_json::from_value(json!({
            "name": format!("n{number}"), "address": format!("{address}/{length}"), "gateway": gateway.to_string(),
            "link": "eth0", "pod-cidr": range,
            "layer": { "file": file, "role": "worker", "epoch": 0, "root-hash": "00" },
            "os": { "kernel-release": "6.1.0", "kubernetes": "1.20.2", "containerd": "1.6.20", "etcd": "",
                    "pause-image": "bootwright.local/pause:1", "images": [] },
        }))
        .unwrap();
        let root = scratch.join(format!("n{number}"));
        let component = component_below(root.to_str().unwrap(), "bird", &facts).unwrap();
        for file in &component.files {
            std::fs::create_dir_all(Path::new(&file.path).parent().unwrap()).unwrap();
            std::fs::write(&file.path, &file.contents).unwrap();
        }
        let log = root.join("log");
        Node { family, number, net, pod, bird: None, root, arguments: component.arguments, log }
    }
}

impl Node {
    /// As `firstboot bird` does.
    pub fn start(&mut self, program: &Program) {
        let mut arguments = self.arguments.clone();
        if self.root.join(CONTROL_SOCKET.trim_start_matches('/')).exists() {
            arguments.push(RECOVER.to_owned());
        }
        self.bird = Some(program.start(&self.net, &arguments, &self.log));
    }

    /// BIRD's routes: range to the gateway and the source, or to the type of one without.
    pub fn routes(&self) -> BTreeMap<String, String> {
        let shown = self.net.ip(&format!("{} -N route show proto 12", self.family.option()));
        let word = |route: &Value, name: &str| route[name].as_str().unwrap_or_default().to_owned();
        let shown = shown.as_array().cloned().unwrap_or_default();
        let routes = shown.iter().map(|route| {
            let way = match route["type"].as_str() {
                // RTN_UNREACHABLE: rtnetlink(7).
                Some("7" | "unreachable") => "unreachable".to_owned(),
                _ => format!("{} from {}", Family::global(&word(route, "gateway")), word(route, "prefsrc")),
            };
            (word(route, "dst"), way)
        });
        routes.collect()
    }

    /// Waits until it has these routes to pods and no others: number of a node to the gateway.
    pub fn expect(&mut self, network: u8, wanted: &[(u8, IpAddr)]) {
        let own = self.family.address(network, self.number);
        let mut expected: BTreeMap<String, String> = wanted
            .iter()
            .map(|(number, gateway)| (self.family.range(*number), format!("{gateway} from {own}")))
            .collect();
        expected.insert(self.family.range(self.number), "unreachable".to_owned());
        let mut last = BTreeMap::new();
        let what = format!("n{} has {expected:?}", self.number);
        let came = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually(&what, || {
                if let Some(bird) = &mut self.bird {
                    bird.assert_alive();
                }
                last = self.routes();
                last == expected
            });
        }));
        if let Err(panic) = came {
            println!(
                "n{} has {last:?}\n{}",
                self.number,
                self.bird.as_ref().map(Bird::said).unwrap_or_default()
            );
            std::panic::resume_unwind(panic);
        }
    }

    /// The pod of this node and that of another reach each other.
    pub fn pods_reach_each_other(&self, other: &Node) {
        for (from, to) in [(self, other), (other, self)] {
            let address = to.family.pod(to.number, 2);
            assert!(from.pod.reaches(address), "n{}'s pod to {address}", from.number);
            assert!(from.net.reaches(address), "n{} itself to {address}", from.number);
        }
    }

    /// Routes that are not BIRD's, as `ip` prints them.
    pub fn foreign(&self) -> String {
        let text = self.net.run("ip", &format!("{} -N route show table all", self.family.option())).stdout;
        let text = String::from_utf8(text).unwrap();
        // Nor the kernel's own, some of which come with the first packet.
        let lines = text.lines().filter(|line| !line.contains("proto 12 ") && !line.contains("proto 2 "));
        lines.collect::<Vec<_>>().join("\n")
    }
}
