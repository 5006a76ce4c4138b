//! Nodes with a pod each, on switches.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use ipnet::IpNet;
use pod_network::{Mode, Outcome, Overlay, Own, Peer, PodNetwork, Settings, Wanted};

use network_namespaces::Namespace;

/// MTU of the nodes' links, bytes.
pub const LINK_MTU: u32 = 1500;

/// Which families a node has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Families {
    V4,
    V6,
    Both,
}

pub fn settings(mode: Mode) -> Settings {
    Settings { mode, overlay: Overlay { vni: 4096, port: 4789 } }
}

/// A node and its pod.
pub struct Node {
    pub net: Namespace,
    pub pod: Namespace,
    pub own: Own,
}

/// Two switches, `10.20.0.0/24` and `10.30.0.0/24` (`fd00:20::/64` and `fd00:30::/64`), with a router between.
pub struct Cluster {
    fabric: Namespace,
    router: Namespace,
    pub nodes: Vec<Node>,
    families: Families,
}

impl Cluster {
    /// So many nodes on the first switch.
    pub fn new(families: Families, count: u8) -> Cluster {
        let mut cluster =
            Cluster { fabric: Namespace::new(), router: Namespace::new(), nodes: Vec::new(), families };
        for network in [20, 30] {
            cluster.fabric.ip(&format!("link add br{network} type bridge"));
            cluster.fabric.ip(&format!("link set br{network} up"));
            cluster.plug(&cluster.router, &format!("eth{network}"), network, 254);
            for address in [format!("10.{network}.0.1/24"), format!("fd00:{network}::1/64")] {
                let nodad = if address.contains(':') { " nodad" } else { "" };
                cluster.router.ip(&format!("address add {address} dev eth{network}{nodad}"));
            }
        }
        for number in 1..=count {
            cluster.add(20, number + 10);
        }
        cluster
    }

    /// One more node: its number is the last of its address and says its pods' range.
    pub fn add(&mut self, network: u8, number: u8) -> &Node {
        let (net, pod) = (Namespace::new(), Namespace::new());
        self.plug(&net, "eth0", network, number);
        net.ip(&format!("link add veth0 mtu {LINK_MTU} type veth peer name eth0 netns {}", pod.path()));
        net.ip("link set veth0 up");
        pod.ip("link set eth0 up");
        let own = Own {
            name: format!("n{number}"),
            addresses: Vec::new(),
            pod_cidrs: Vec::new(),
            cluster_cidrs: Vec::new(),
        };
        self.nodes.push(Node { net, pod, own });
        let index = self.nodes.len() - 1;
        for &family in self.each_family() {
            let (address, range) = match family {
                4 => (format!("10.{network}.0.{number}/24"), format!("10.10.{number}.0/24")),
                _ => (format!("fd00:{network}::{number}/64"), format!("fd00:10:0:{number}::/64")),
            };
            let node = &mut self.nodes[index];
            node.own.addresses.push(address.parse().unwrap());
            node.own.pod_cidrs.push(range.parse().unwrap());
            node.add_address(address.parse().unwrap());
            let gateway = if family == 4 { "10.X.0.1" } else { "fd00:X::1" };
            let gateway = gateway.replace('X', &network.to_string());
            node.net.ip(&format!("route add default via {gateway}"));
            node.add_range(range.parse().unwrap());
        }
        &self.nodes[index]
    }

    fn each_family(&self) -> &'static [u8] {
        match self.families {
            Families::V4 => &[4],
            Families::V6 => &[6],
            Families::Both => &[4, 6],
        }
    }

    /// A cable from a namespace to a switch.
    fn plug(&self, to: &Namespace, name: &str, network: u8, number: u8) {
        let port = format!("p{network}-{number}");
        self.fabric.ip(&format!(
            "link add {port} mtu {LINK_MTU} type veth peer name {name} mtu {LINK_MTU} netns {}",
            to.path()
        ));
        self.fabric.ip(&format!("link set {port} master br{network} up"));
        to.ip(&format!("link set {name} up"));
    }

    /// All nodes as peers.
    pub fn peers(&self) -> Vec<Peer> {
        self.nodes.iter().map(Node::peer).collect()
    }

    /// Programs all nodes; nothing may fail, nobody may be left out.
    pub fn reconcile(&self, mode: Mode) {
        for node in &self.nodes {
            let outcome = node.reconcile(&settings(mode), &self.peers());
            assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
        }
    }

    /// Every pod reaches every other, and every node too, both ways.
    pub fn all_reach_each_other(&self) {
        for from in &self.nodes {
            for to in self.nodes.iter().filter(|to| to.own.name != from.own.name) {
                for address in to.pod_addresses() {
                    assert!(from.pod.reaches(address), "{}'s pod to {address}", from.own.name);
                    assert!(from.net.reaches(address), "{} itself to {address}", from.own.name);
                }
                for address in &to.own.addresses {
                    assert!(from.pod.reaches(address.addr()), "{}'s pod to {address}", from.own.name);
                }
            }
        }
    }
}

impl Node {
    pub fn peer(&self) -> Peer {
        Peer {
            since: 1,
            name: self.own.name.clone(),
            addresses: self.own.addresses.iter().map(IpNet::addr).collect(),
            pod_cidrs: self.own.pod_cidrs.clone(),
        }
    }

    pub fn wanted(&self, settings: &Settings, peers: &[Peer]) -> Wanted {
        Wanted::from_peers(&self.own, settings, peers)
    }

    /// Nobody may be left out.
    pub fn reconcile(&self, settings: &Settings, peers: &[Peer]) -> Outcome {
        let wanted = self.wanted(settings, peers);
        assert_eq!(wanted.skipped, []);
        self.apply(&wanted)
    }

    pub fn apply(&self, wanted: &Wanted) -> Outcome {
        self.net.enter(|| PodNetwork::open().unwrap().reconcile("eth0", wanted).unwrap())
    }

    /// As the stage `network` and the CNI plugin do.
    pub fn add_address(&self, address: IpNet) {
        let nodad = if address.addr().is_ipv6() { " nodad" } else { "" };
        self.net.ip(&format!("address add {address} dev eth0{nodad}"));
    }

    pub fn add_range(&self, range: IpNet) {
        let (gateway, own) = (nth(range, 1), nth(range, 2));
        let (length, nodad) = (range.prefix_len(), if range.addr().is_ipv6() { " nodad" } else { "" });
        self.net.ip(&format!("address add {gateway}/{length} dev veth0{nodad}"));
        self.pod.ip(&format!("address add {own}/{length} dev eth0{nodad}"));
        self.pod.ip(&format!("route replace default via {gateway}"));
    }

    pub fn pod_addresses(&self) -> Vec<IpAddr> {
        self.own.pod_cidrs.iter().map(|range| nth(*range, 2)).collect()
    }

    /// Programs of pods use what the CNI configuration says.
    pub fn set_pod_mtu(&self, bytes: u32) {
        self.net.ip(&format!("link set veth0 mtu {bytes}"));
        self.pod.ip(&format!("link set eth0 mtu {bytes}"));
    }
}

/// Whom a program in `to` sees when one in `from` sends to `address`.
pub fn seen_as(from: &Namespace, to: &Namespace, address: IpAddr) -> IpAddr {
    let listener = to.enter(|| UdpSocket::bind((address, 0)).unwrap());
    listener.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let target = listener.local_addr().unwrap();
    from.enter(|| {
        let any: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        UdpSocket::bind((any, 0)).unwrap().send_to(b"hello", target).unwrap();
    });
    listener.recv_from(&mut [0; 8]).unwrap().1.ip()
}

/// The n-th address of a range.
pub fn nth(range: IpNet, number: u8) -> IpAddr {
    match range.network() {
        IpAddr::V4(first) => IpAddr::from((u32::from(first) + u32::from(number)).to_be_bytes()),
        IpAddr::V6(first) => IpAddr::from((u128::from(first) + u128::from(number)).to_be_bytes()),
    }
}
