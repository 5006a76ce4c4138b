//! Nodes with routers, on two switches.

use std::net::IpAddr;
use std::path::Path;

use bootwright::routes::{Format, PodRoutes};
use bootwright_model::cluster::ClusterFile;
use network_namespaces::process::isolated;

use super::bird::{Bird, Program, eventually};
use super::node::{Fabric, Family, Node, cluster_file};

/// A router's BIRD: what `bootwright routes` prints, in what any router has.
fn router(fabric: &Fabric, scratch: &Path, program: &Program, file: &ClusterFile) -> Bird {
    let number = if fabric.family == Family::V4 { 4 } else { 6 };
    let sessions = PodRoutes::of(file).text(Format::Bird);
    std::fs::write(scratch.join("nodes.conf"), sessions).unwrap();
    let configuration = format!(
        "log stderr all;
router id 10.20.0.1;
protocol device {{ }}
protocol direct {{ ipv{number}; }}
protocol kernel {{ ipv{number} {{ import none; export where source = RTS_BGP; }}; }}
include \"{}\";
",
        scratch.join("nodes.conf").display()
    );
    let path = scratch.join("router.conf");
    std::fs::write(&path, configuration).unwrap();
    let socket = scratch.join("router.ctl");
    let arguments = ["-f", "-c", path.to_str().unwrap(), "-s", socket.to_str().unwrap()];
    program.start(&fabric.net, &arguments.map(str::to_owned), &scratch.join("router.log"))
}

/// Two nodes on one switch and a third on the other, with these routers.
fn story(family: Family, routers: &[(IpAddr, u32)], prepare: impl Fn(&Fabric)) {
    let scratch = tempfile::tempdir().unwrap();
    let program = Program::find(scratch.path());
    let fabric = Fabric::new(family);
    prepare(&fabric);
    let places = [(20, 11), (20, 12), (30, 13)];
    let file = cluster_file(family, &places, routers);
    let mut nodes: Vec<Node> =
        places.map(|(network, number)| fabric.node(scratch.path(), network, number, &file)).into();
    let mut bird = router(&fabric, scratch.path(), &program, &file);
    for node in &mut nodes {
        node.start(&program);
    }
    // On one link directly, and to the other by the router.
    let address = |network, number| family.address(network, number);
    let by_router = |nodes: &mut [Node]| {
        nodes[0].expect(20, &[(12, address(20, 12)), (13, address(20, 1))]);
        nodes[1].expect(20, &[(11, address(20, 11)), (13, address(20, 1))]);
        nodes[2].expect(30, &[(11, address(30, 1)), (12, address(30, 1))]);
    };
    by_router(&mut nodes);
    bird.assert_alive();
    for (one, other) in [(0, 1), (0, 2), (1, 2)] {
        nodes[one].pods_reach_each_other(&nodes[other]);
    }
    // A node that stops.
    nodes[2].bird.take().unwrap().stop();
    nodes[0].expect(20, &[(12, address(20, 12))]);
    nodes[2].start(&program);
    by_router(&mut nodes);
    // One whose BIRD crashes: the router keeps the way to its pods meanwhile.
    nodes[0].bird.take().unwrap().kill();
    std::thread::sleep(std::time::Duration::from_secs(1));
    by_router(&mut nodes);
    nodes[0].pods_reach_each_other(&nodes[2]);
    nodes[0].start(&program);
    eventually("n11 has heard from the router", || {
        nodes[0].bird.as_ref().unwrap().said().contains("Graceful restart done")
    });
    by_router(&mut nodes);
    // Without the router there is nothing to go by; with it everything is back.
    bird.stop();
    nodes[0].expect(20, &[]);
    let _bird = router(&fabric, scratch.path(), &program, &file);
    by_router(&mut nodes);
}

/// The switches' addresses in both networks: each node speaks to that of its own.
fn of_each_network(family: Family) {
    let routers = [family.address(20, 1), family.address(30, 1)].map(|address| (address, 64601));
    story(family, &routers, |_| {});
}

/// An address on no link of the nodes, in their own system.
fn reflector(family: Family) {
    let address = family.address(40, 1);
    story(family, &[(address, 64512)], |fabric| {
        fabric.net.ip(&format!("address add {address} dev lo"));
    });
}

#[test]
fn routers_of_each_network_ipv4() {
    isolated("fabric::routers_of_each_network_ipv4", || of_each_network(Family::V4));
}

#[test]
fn routers_of_each_network_ipv6() {
    isolated("fabric::routers_of_each_network_ipv6", || of_each_network(Family::V6));
}

#[test]
fn a_route_reflector_behind_a_gateway_ipv4() {
    isolated("fabric::a_route_reflector_behind_a_gateway_ipv4", || reflector(Family::V4));
}

#[test]
fn a_route_reflector_behind_a_gateway_ipv6() {
    isolated("fabric::a_route_reflector_behind_a_gateway_ipv6", || reflector(Family::V6));
}
