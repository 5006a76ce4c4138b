//! Nodes with routers, on two switches.

use std::net::IpAddr;
use std::path::Path;

use bootwright::routes::{Format, PodRoutes};
use bootwright_model::cluster::ClusterFile;
use bootwright_model::families::Family;
use network_namespaces::process::isolated;

use super::bird::{Bird, Program, eventually};
use super::node::{Fabric, Node};
use super::places::{address, cluster_file, digit};

/// A router's BIRD: what `bootwright routes` prints, in what any router has.
fn router(fabric: &Fabric, scratch: &Path, program: &Program, file: &ClusterFile) -> Bird {
    let sessions = PodRoutes::of(file).text(Format::Bird);
    std::fs::write(scratch.join("nodes.conf"), sessions).unwrap();
    let mut configuration = "log stderr all;\nrouter id 10.20.0.1;\nprotocol device { }\n".to_owned();
    for family in fabric.families {
        let number = digit(*family);
        configuration += &format!(
            "protocol direct {{ ipv{number}; }}
protocol kernel {{ ipv{number} {{ import none; export where source = RTS_BGP; }}; }}
"
        );
    }
    configuration += &format!("include \"{}\";\n", scratch.join("nodes.conf").display());
    program.configured(&fabric.net, scratch, "router", &configuration)
}

/// Two nodes on one switch and a third on the other, with these routers.
fn story(families: &'static [Family], routers: &[(IpAddr, u32)], prepare: impl Fn(&Fabric)) {
    let scratch = tempfile::tempdir().unwrap();
    let program = Program::find(scratch.path());
    let fabric = Fabric::new(families);
    prepare(&fabric);
    let places = [(20, 11), (20, 12), (30, 13)];
    let file = cluster_file(families, &places, routers);
    let mut nodes: Vec<Node> =
        places.map(|(network, number)| fabric.node(scratch.path(), network, number, &file)).into();
    let mut bird = router(&fabric, scratch.path(), &program, &file);
    for node in &mut nodes {
        node.start(&program);
    }
    // On one link directly, and to the other by the router.
    let by_router = |nodes: &mut [Node]| {
        nodes[0].expect(&[(12, (20, 12)), (13, (20, 1))]);
        nodes[1].expect(&[(11, (20, 11)), (13, (20, 1))]);
        nodes[2].expect(&[(11, (30, 1)), (12, (30, 1))]);
    };
    by_router(&mut nodes);
    bird.assert_alive();
    for (one, other) in [(0, 1), (0, 2), (1, 2)] {
        nodes[one].pods_reach_each_other(&nodes[other]);
    }
    // A node that stops.
    nodes[2].bird.take().unwrap().stop();
    nodes[0].expect(&[(12, (20, 12))]);
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
    nodes[0].expect(&[]);
    let _bird = router(&fabric, scratch.path(), &program, &file);
    by_router(&mut nodes);
}

/// The switches' addresses in both networks: each node speaks to that of its own.
fn of_each_network(families: &'static [Family]) {
    let of = |family: &Family| [address(*family, 20, 1), address(*family, 30, 1)];
    let routers: Vec<_> = families.iter().flat_map(of).map(|address| (address, 64601)).collect();
    story(families, &routers, |_| {});
}

/// An address on no link of the nodes, in their own system.
fn reflector(families: &'static [Family]) {
    let addresses: Vec<_> = families.iter().map(|family| address(*family, 40, 1)).collect();
    let routers: Vec<_> = addresses.iter().map(|address| (*address, 64512)).collect();
    story(families, &routers, |fabric| {
        for address in &addresses {
            fabric.net.ip(&format!("address add {address} dev lo"));
        }
    });
}

#[test]
fn routers_of_each_network_ipv4() {
    isolated("fabric::routers_of_each_network_ipv4", || of_each_network(&[Family::V4]));
}

#[test]
fn routers_of_each_network_ipv6() {
    isolated("fabric::routers_of_each_network_ipv6", || of_each_network(&[Family::V6]));
}

#[test]
fn routers_of_each_network_in_both_families() {
    isolated("fabric::routers_of_each_network_in_both_families", || of_each_network(&Family::ALL));
}

#[test]
fn a_route_reflector_behind_a_gateway_ipv4() {
    isolated("fabric::a_route_reflector_behind_a_gateway_ipv4", || reflector(&[Family::V4]));
}

#[test]
fn a_route_reflector_behind_a_gateway_ipv6() {
    isolated("fabric::a_route_reflector_behind_a_gateway_ipv6", || reflector(&[Family::V6]));
}

#[test]
fn a_route_reflector_behind_a_gateway_in_both_families() {
    isolated("fabric::a_route_reflector_behind_a_gateway_in_both_families", || reflector(&Family::ALL));
}
