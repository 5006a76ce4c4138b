//! What the API says of Nodes becomes routes, neighbours and forwarding entries in a network namespace, and `ip` and
//! `bridge` show them.
//!
//! Run as root, or by a user who may make user namespaces. A test that gets no namespace fails.

// Clippy allows it in functions marked as tests only; here every function is part of one.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::process::Command;

use agent::peers::pods::Pods;
use agent::peers::table::{self, Table};
use agent::peers::{Dataplane, Outcome};
use bootwright_model::node::NodeFacts;
use network_namespaces::process;
use pod_network::baked_peers;
use serde_json::{Value, json};

/// Runs the named test again in a network namespace with the node's link. True in there.
fn inside_namespace(test: &str) -> bool {
    let inside = process::inside_namespace(test);
    if inside {
        for arguments in [
            "link add eth0 type veth peer name far",
            "address add 10.20.0.10/24 dev eth0",
            "link set eth0 up",
            "link set far up",
        ] {
            process::ip(arguments);
        }
    }
    inside
}

fn run(program: &str, arguments: &str) -> Value {
    let output = Command::new(program).args(arguments.split(' ')).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments}: {error}");
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

/// The node cp1 of a cluster file that has w1 as well.
fn facts(network: &Value) -> NodeFacts {
    let nodes = json!([
        { "name": "cp1", "role": "all-in-one", "address": "10.20.0.10/24", "pod-cidr": "10.10.0.0/24" },
        { "name": "w1", "role": "worker", "address": "10.20.0.11/24", "pod-cidr": "10.10.1.0/24" },
    ]);
    let text = json!({
        "name": "cp1", "address": "10.20.0.10/24", "gateway": "10.20.0.1", "link": "eth0",
        "pod-cidr": "10.10.0.0/24",
        "layer": {
            "file": {
                "cluster": {
                    "name": "harbor", "endpoint": "10.20.0.10", "pod-cidr": "10.10.0.0/16",
                    "service-cidr": "10.96.0.0/16",
                },
                "kubernetes": { "version": "1.20.2" },
                "network": network,
                "node": nodes,
            },
            "role": "all-in-one", "epoch": 0, "root-hash": "00",
        },
        "os": {
            "kernel-release": "6.1.0", "kubernetes": "1.20.2", "containerd": "1.6.20", "etcd": "3.4.23",
            "pause-image": "bootwright.local/pause:1", "images": [],
        },
    });
    serde_json::from_value(text).unwrap()
}

/// A Node as the API shows it; one with a larger number has joined later.
fn node(name: &str, joined: u8, address: &str, pod_cidrs: &[&str]) -> Value {
    let mut addresses = vec![json!({ "type": "InternalIP", "address": address })];
    addresses.retain(|_| !address.is_empty());
    json!({
        "metadata": { "name": name, "creationTimestamp": format!("2026-11-25T00:00:{joined:02}Z") },
        "spec": { "podCIDRs": pod_cidrs },
        "status": { "addresses": addresses },
    })
}

/// Everything of the agent between the API's answers and the kernel.
struct Follower {
    table: Table,
    pods: Pods,
}

impl Follower {
    fn start(network: &Value) -> Follower {
        let facts = facts(network);
        Follower { table: Table::new(facts.name.clone(), baked_peers(&facts)), pods: Pods::new(&facts) }
    }

    fn reconcile(&mut self) -> Outcome {
        self.pods.own_ranges(&self.table.own_ranges());
        self.pods.reconcile(&self.table.peers())
    }

    /// All must go well; answers what was said.
    fn applied(&mut self) -> Vec<String> {
        let outcome = self.reconcile();
        assert!(!outcome.incomplete, "{:?}", outcome.lines);
        outcome.lines
    }

    fn all(&mut self, nodes: &[Value]) -> Vec<String> {
        let peer = |node: &Value| table::peer(&serde_json::from_value(node.clone()).unwrap());
        assert!(self.table.set_all(nodes.iter().map(peer).collect()));
        self.applied()
    }

    fn set(&mut self, node: Value) -> Vec<String> {
        assert!(self.table.set(table::peer(&serde_json::from_value(node).unwrap())), "no change");
        self.applied()
    }

    fn gone(&mut self, name: &str) -> Vec<String> {
        assert!(self.table.remove(name));
        self.applied()
    }
}

/// Each pod CIDR with the node that packets to it go to, by what `ip` and `bridge` show; in brackets through VXLAN.
fn shown() -> BTreeMap<String, String> {
    let list = |value: Value| value.as_array().cloned().unwrap_or_default();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (mut neighbours, mut forwarding) = (BTreeMap::new(), BTreeMap::new());
    if list(run("ip", "-j link show")).iter().any(|link| link["ifname"] == "vxlan-pods4") {
        for one in list(run("ip", "-j -4 neigh show dev vxlan-pods4 nud permanent")) {
            neighbours.insert(word(&one["dst"]), word(&one["lladdr"]));
        }
        for one in list(run("bridge", "-j fdb show dev vxlan-pods4")) {
            forwarding.insert(word(&one["mac"]), word(&one["dst"]));
        }
    }
    let mut through = 0;
    let mut ways = BTreeMap::new();
    for route in list(run("ip", "-j -4 -N route show proto 98")) {
        let mut way = word(&route["gateway"]);
        if route["dev"] == "vxlan-pods4" {
            through += 1;
            way = format!("[{}]", forwarding[&neighbours[&way]]);
        }
        ways.insert(word(&route["dst"]), way);
    }
    assert_eq!((neighbours.len(), forwarding.len()), (through, through), "an entry that no route needs");
    ways
}

fn ways(expected: &[(&str, &str)]) -> BTreeMap<String, String> {
    expected.iter().map(|(range, way)| ((*range).to_owned(), (*way).to_owned())).collect()
}

const NOTHING: [&str; 0] = [];

#[test]
fn the_network_follows_the_nodes() {
    if !inside_namespace("the_network_follows_the_nodes") {
        return;
    }
    // Somebody else's.
    run("ip", "route add 10.99.0.0/16 via 10.20.0.99");
    let mut follower = Follower::start(&json!({ "mode": "vxlan" }));
    let own = node("cp1", 0, "10.20.0.10", &["10.10.0.0/24"]);

    // w1 has no Node yet; x1 is in no cluster file.
    follower.all(&[own.clone(), node("x1", 5, "10.20.0.21", &["10.10.21.0/24"])]);
    let w1 = ("10.10.1.0/24", "[10.20.0.11]");
    assert_eq!(shown(), ways(&[w1, ("10.10.21.0/24", "[10.20.0.21]")]));
    assert_eq!(follower.applied(), NOTHING, "again, and nothing changes");

    // Made by its kubelet with neither address nor range, then whole.
    assert_eq!(follower.set(node("w1", 6, "", &[])), NOTHING);
    assert_eq!(follower.set(node("w1", 6, "10.20.0.11", &["10.10.1.0/24"])), NOTHING);

    // Another address; made anew with another range.
    assert_eq!(follower.set(node("x1", 5, "10.20.0.22", &["10.10.21.0/24"])).len(), 1);
    assert_eq!(shown(), ways(&[w1, ("10.10.21.0/24", "[10.20.0.22]")]));
    follower.set(node("x1", 7, "10.20.0.22", &["10.10.22.0/24"]));
    let x1 = ("10.10.22.0/24", "[10.20.0.22]");
    assert_eq!(shown(), ways(&[w1, x1]));

    // Without a range, and with what another Node has: said once, and nobody else suffers.
    let said = follower.set(node("a1", 8, "10.20.0.23", &[]));
    assert_eq!(said, ["pods of node a1 are not reached: it has no pod CIDR"]);
    assert_eq!(follower.applied(), NOTHING);
    let said = follower.set(node("a2", 9, "10.20.0.22", &["10.10.24.0/24"]));
    let same_address =
        "pods of node a2 in 10.10.24.0/24 are not reached: its address 10.20.0.22 is that of node x1";
    assert_eq!(said, [same_address]);
    let said = follower.set(node("a3", 9, "10.20.0.25", &["10.10.22.128/25"]));
    let same_range =
        "pods of node a3 in 10.10.22.128/25 are not reached: the range overlaps 10.10.22.0/24 of node x1";
    assert_eq!(said, [same_range]);
    assert_eq!(shown(), ways(&[w1, x1]));

    // It gets its range.
    let said = follower.set(node("a1", 8, "10.20.0.23", &["10.10.23.0/24"]));
    assert_eq!(said.len(), 2, "{said:?}");
    assert_eq!(said[1], "no longer: pods of node a1 are not reached: it has no pod CIDR");
    let a1 = ("10.10.23.0/24", "[10.20.0.23]");
    assert_eq!(shown(), ways(&[w1, x1, a1]));

    // Who leaves makes room.
    follower.gone("x1");
    let (a2, a3) = (("10.10.24.0/24", "[10.20.0.22]"), ("10.10.22.128/25", "[10.20.0.25]"));
    assert_eq!(shown(), ways(&[w1, a1, a2, a3]));
    follower.gone("a2");
    follower.gone("a3");

    // One that takes an address later goes by when its Node was made, as docs/agent.md says: the same on every node, and
    // after every restart.
    follower.set(node("y1", 4, "10.20.0.41", &["10.10.41.0/24"]));
    let said = follower.set(node("y1", 4, "10.20.0.23", &["10.10.41.0/24"]));
    let older = "pods of node a1 in 10.10.23.0/24 are not reached: its address 10.20.0.23 is that of node y1";
    assert!(said.iter().any(|line| line == older), "{said:?}");
    assert_eq!(shown(), ways(&[w1, ("10.10.41.0/24", "[10.20.0.23]")]));
    follower.gone("y1");
    assert_eq!(shown(), ways(&[w1, a1]));

    // A node of the cluster file does not leave with its Node, which counts while it is there.
    follower.set(node("w1", 6, "10.20.0.31", &["10.10.31.0/24"]));
    assert_eq!(shown(), ways(&[("10.10.31.0/24", "[10.20.0.31]"), a1]));
    follower.gone("w1");
    assert_eq!(shown(), ways(&[w1, a1]));

    // Started anew: what there is stays, without a word.
    let mut follower = Follower::start(&json!({ "mode": "vxlan" }));
    assert_eq!(follower.all(&[own, node("a1", 8, "10.20.0.23", &["10.10.23.0/24"])]), NOTHING);
    assert_eq!(run("ip", "-j route show 10.99.0.0/16").as_array().unwrap().len(), 1);
}

#[test]
fn peers_move_between_the_link_and_the_overlay() {
    if !inside_namespace("peers_move_between_the_link_and_the_overlay") {
        return;
    }
    run("ip", "route add default via 10.20.0.1");
    let mut follower = Follower::start(&json!({ "mode": "routes", "fallback": "vxlan" }));
    let w1 = ("10.10.1.0/24", "10.20.0.11");
    follower.all(&[node("x1", 1, "10.30.0.21", &["10.10.21.0/24"])]);
    assert_eq!(shown(), ways(&[w1, ("10.10.21.0/24", "[10.30.0.21]")]));
    follower.set(node("x1", 1, "10.20.0.21", &["10.10.21.0/24"]));
    assert_eq!(shown(), ways(&[w1, ("10.10.21.0/24", "10.20.0.21")]));
    follower.gone("x1");
    assert_eq!(shown(), ways(&[w1]));
}

#[test]
fn a_node_that_is_given_its_range_reaches_nobody_before() {
    if !inside_namespace("a_node_that_is_given_its_range_reaches_nobody_before") {
        return;
    }
    let facts = NodeFacts { pod_cidr: None, admitted: true, ..facts(&json!({ "mode": "vxlan" })) };
    let mut follower =
        Follower { table: Table::new(facts.name.clone(), baked_peers(&facts)), pods: Pods::new(&facts) };
    assert_eq!(follower.all(&[node("cp1", 1, "10.20.0.10", &[])]), ["this node has no pod CIDR yet"]);
    assert_eq!(shown(), ways(&[]));
    follower.set(node("cp1", 1, "10.20.0.10", &["10.10.255.0/24"]));
    assert_eq!(shown(), ways(&[("10.10.1.0/24", "[10.20.0.11]")]));
    // It is the machine's for as long as it runs.
    assert_eq!(follower.set(node("cp1", 1, "10.20.0.10", &["10.10.7.0/24"])), NOTHING);
}

#[test]
fn a_link_that_is_gone_is_said_once_and_comes_back() {
    if !inside_namespace("a_link_that_is_gone_is_said_once_and_comes_back") {
        return;
    }
    let mut follower = Follower::start(&json!({ "mode": "routes" }));
    run("ip", "link set eth0 down");
    run("ip", "link set eth0 name other");
    let outcome = follower.reconcile();
    assert!(outcome.incomplete);
    assert_eq!(outcome.lines, ["there is no link eth0, which carries the node's address"]);
    assert_eq!(follower.reconcile(), Outcome { lines: Vec::new(), incomplete: true });
    run("ip", "link set other name eth0");
    run("ip", "link set eth0 up");
    assert_eq!(follower.applied().len(), 2, "what was done, and that nothing is wrong any more");
    assert_eq!(shown(), ways(&[("10.10.1.0/24", "10.20.0.11")]));
}
