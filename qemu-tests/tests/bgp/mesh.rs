//! Nodes without routers, on one switch.

use std::io::Read;
use std::process::{Child, Command, Stdio};

use bootwright_model::families::Family;
use network_namespaces::Namespace;
use network_namespaces::process::isolated;

use super::bird::{Program, eventually};
use super::node::{Fabric, Node};
use super::places::{address, cluster_file, range};
use super::stranger;

/// `ip monitor route` in a namespace.
struct Monitor(Child);

impl Monitor {
    fn start(net: &Namespace) -> Monitor {
        let mut command = Command::new("ip");
        command.args(["monitor", "route"]).stdout(Stdio::piped());
        Monitor(net.enter(|| command.spawn().unwrap()))
    }

    /// Routes by a gateway that were deleted, changed ones among them.
    fn deleted(mut self) -> Vec<String> {
        self.0.kill().unwrap();
        let mut text = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        self.0.wait().unwrap();
        text.lines()
            .filter(|line| line.contains("Deleted") && line.contains(" via "))
            .map(str::to_owned)
            .collect()
    }
}

fn expect(node: &mut Node, others: &[u8]) {
    let wanted: Vec<_> = others.iter().map(|number| (*number, (20, *number))).collect();
    node.expect(&wanted);
}

fn story(families: &'static [Family]) {
    let scratch = tempfile::tempdir().unwrap();
    let program = Program::find(scratch.path());
    let fabric = Fabric::new(families);
    let three = cluster_file(families, &[(20, 11), (20, 12), (20, 13)], &[]);
    // One of them knows of more.
    let victims = stranger::victims_file(families);
    let mut nodes: Vec<Node> = [(11, &victims), (12, &three), (13, &three)]
        .map(|(number, file)| fabric.node(scratch.path(), 20, number, file))
        .into();
    // What others have made, one of it of a node's own pods' range.
    for family in families.iter().copied() {
        let gateway = address(family, 20, 1);
        let elsewhere = if family == Family::V4 { "10.99.0.0/16" } else { "fd00:99::/48" };
        nodes[0].net.ip(&format!("route add {elsewhere} via {gateway} proto static metric 10"));
        let pods = range(family, 13);
        nodes[0].net.ip(&format!("route add {pods} via {gateway} proto static metric 9000"));
    }
    let foreign = nodes[0].foreign();
    assert!(foreign.contains("metric 9000"), "{foreign}");
    for node in &mut nodes {
        node.start(&program);
    }

    // Three know each other.
    for (index, others) in [[12, 13], [11, 13], [11, 12]].iter().enumerate() {
        expect(&mut nodes[index], others);
    }
    nodes[0].pods_reach_each_other(&nodes[1]);
    nodes[1].pods_reach_each_other(&nodes[2]);

    // A fourth comes, which the others' cluster file does not have.
    let four = cluster_file(families, &[(20, 11), (20, 12), (20, 13), (20, 14)], &[]);
    let mut fourth = fabric.node(scratch.path(), 20, 14, &four);
    fourth.start(&program);
    expect(&mut fourth, &[11, 12, 13]);
    for (index, others) in [[12, 13, 14], [11, 13, 14], [11, 12, 14]].iter().enumerate() {
        expect(&mut nodes[index], others);
    }
    fourth.pods_reach_each_other(&nodes[0]);

    // A BIRD that was cut off and comes back loses nothing, on no side.
    let monitors: Vec<Monitor> = nodes.iter().map(|node| Monitor::start(&node.net)).collect();
    nodes[1].bird.take().unwrap().kill();
    nodes[1].start(&program);
    eventually("n12 has heard from all", || {
        nodes[1].bird.as_ref().unwrap().said().contains("Graceful restart done")
    });
    expect(&mut nodes[1], &[11, 13, 14]);
    expect(&mut nodes[0], &[12, 13, 14]);
    for monitor in monitors {
        assert_eq!(monitor.deleted(), Vec::<String>::new());
    }
    nodes[0].pods_reach_each_other(&nodes[1]);

    // One that leaves takes its routes along; its own stay until the machine is off.
    fourth.bird.take().unwrap().stop();
    for (index, others) in [[12, 13], [11, 13], [11, 12]].iter().enumerate() {
        expect(&mut nodes[index], others);
    }
    expect(&mut fourth, &[11, 12, 13]);

    stranger::story(&fabric, scratch.path(), &program, &mut nodes[0]);
    assert_eq!(nodes[0].foreign(), foreign);
}

#[test]
fn ipv4() {
    isolated("mesh::ipv4", || story(&[Family::V4]));
}

#[test]
fn ipv6() {
    isolated("mesh::ipv6", || story(&[Family::V6]));
}

#[test]
fn both_families() {
    isolated("mesh::both_families", || story(&Family::ALL));
}
