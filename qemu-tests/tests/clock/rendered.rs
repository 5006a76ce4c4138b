//! The configurations that first boot writes: control planes that give the time, and a node that takes it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bootwright_model::clock;
use bootwright_model::cluster::ClusterFile;
use bootwright_model::kubernetes::component_below;
use bootwright_model::node::NodeFacts;
use firstboot::stages::clock::ask::{Question, Reply, ask};
use network_namespaces::{Namespace, process::isolated};
use qemu_tests::control_plane::node;
use serde_json::json;

use super::chronyd::{Chronyd, command};

/// Name, role and number of each node.
const NODES: [(&str, &str, u8); 3] =
    [("cp1", "control-plane", 10), ("cp2", "control-plane", 11), ("w1", "worker", 20)];

/// A machine on the link.
struct Machine {
    net: Namespace,
    root: PathBuf,
    facts: NodeFacts,
}

impl Machine {
    fn start(&self, chronyd: &[String]) -> Chronyd {
        let root = self.root.display().to_string();
        let rendered = component_below(&root, "chrony", &self.facts).unwrap();
        for file in &rendered.files {
            let path = Path::new(&file.path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            // Its socket for commands is the machine's own.
            std::fs::write(path, format!("bindcmdaddress /\n{}", file.contents)).unwrap();
        }
        Chronyd::start(chronyd, &self.net, &rendered.arguments, &self.root.join("log"))
    }
}

fn cluster() -> ClusterFile {
    let nodes =
        NODES.map(|(name, role, number)| json!({ "name": name, "role": role, "address": address(number) }));
    let file = json!({
        "cluster": {
            "name": "harbor", "endpoint": "10.20.0.10", "pod-cidr": "10.10.0.0/16", "service-cidr": "10.96.0.0/16",
        },
        "kubernetes": { "version": "1.20.2" },
        "clock": { "serve": true },
        "node": nodes,
    });
    serde_json::from_value(file).unwrap()
}

fn address(number: u8) -> String {
    format!("10.20.0.{number}/24")
}

fn plug(switch: &Namespace, net: &Namespace, number: u8, address: &str) {
    switch.ip(&format!("link add p{number} type veth peer name eth0 netns {}", net.path()));
    switch.ip(&format!("link set p{number} master br0 up"));
    net.ip(&format!("address add {address} dev eth0"));
    net.ip("link set eth0 up");
}

fn story() {
    let scratch = tempfile::tempdir().unwrap();
    let chronyd = command(scratch.path());
    let switch = Namespace::new();
    switch.ip("link add br0 type bridge");
    switch.ip("link set br0 up");
    let file = cluster();
    let [cp1, cp2, w1] = NODES.map(|(name, role, number)| {
        let mut facts = node::facts();
        facts.name = name.to_owned();
        facts.address = address(number).parse().unwrap();
        facts.time_servers = clock::servers(&file, role, None, Vec::new());
        facts.layer.file = file.clone();
        facts.layer.role = role.to_owned();
        let net = Namespace::new();
        plug(&switch, &net, number, &address(number));
        let root = scratch.path().join(name);
        std::fs::create_dir_all(root.join("run/chrony")).unwrap();
        Machine { net, root, facts }
    });

    // A control plane that is alone has no better time than its own, and gives it.
    let first = cp1.start(&chronyd);
    let ask_from = |net: &Namespace, server: &str, seconds: u64| {
        let (servers, asked) = ([server.to_owned()], scratch.path().join("asked"));
        let patience = Duration::from_secs(seconds);
        let answers =
            net.enter(|| ask(&Question { chronyd: &chronyd, servers: &servers, patience, scratch: &asked }));
        answers[0].reply.clone()
    };
    assert!(matches!(ask_from(&w1.net, "10.20.0.10", 30), Reply::Behind(_)));
    // Whoever is in none of the nodes' networks gets no answer.
    let stranger = Namespace::new();
    plug(&switch, &stranger, 66, "10.66.0.66/24");
    stranger.ip("route add 10.20.0.0/24 dev eth0");
    for machine in [&cp1, &cp2] {
        machine.net.ip("route add 10.66.0.0/24 dev eth0");
    }
    assert!(stranger.reaches("10.20.0.10".parse().unwrap()));
    assert_eq!(ask_from(&stranger, "10.20.0.10", 2), Reply::Silent);

    // The second follows the first, whose address is lower, and a worker takes the time from either.
    let mut second = cp2.start(&chronyd);
    let mut worker = w1.start(&chronyd);
    second.expect("Selected source 10.20.0.10");
    worker.expect("Selected source 10.20.0.1");
    assert!(matches!(ask_from(&w1.net, "10.20.0.11", 30), Reply::Behind(_)));
    // A node that serves nobody has no port for it.
    assert_eq!(ask_from(&cp1.net, "10.20.0.20", 2), Reply::Silent);
    for one in [&first, &second, &worker] {
        assert!(!one.said().contains("error"), "{}", one.said());
    }
}

#[test]
fn control_planes_give_the_time_and_others_take_it() {
    isolated("rendered::control_planes_give_the_time_and_others_take_it", story);
}
