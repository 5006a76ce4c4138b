//! Nodes without routers, on one switch.

use std::io::Read;
use std::process::{Child, Command, Stdio};

use network_namespaces::Namespace;
use network_namespaces::process::isolated;

use super::bird::{Program, eventually};
use super::node::{Fabric, Family, Node, cluster_file};

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
    let family = node.family;
    let wanted: Vec<_> = others.iter().map(|number| (*number, family.address(20, *number))).collect();
    node.expect(20, &wanted);
}

fn story(family: Family) {
    let scratch = tempfile::tempdir().unwrap();
    let program = Program::find(scratch.path());
    let fabric = Fabric::new(family);
    let three = cluster_file(family, &[(20, 11), (20, 12), (20, 13)], &[]);
    let mut nodes: Vec<Node> =
        [11, 12, 13].map(|number| fabric.node(scratch.path(), 20, number, &three)).into();
    // What others have made, one of it of a node's own pods' range.
    let gateway = family.address(20, 1);
    let elsewhere = if family == Family::V4 { "10.99.0.0/16" } else { "fd00:99::/48" };
    nodes[0].net.ip(&format!("route add {elsewhere} via {gateway} proto static metric 10"));
    nodes[0].net.ip(&format!("route add {} via {gateway} proto static metric 9000", family.range(13)));
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
    let four = cluster_file(family, &[(20, 11), (20, 12), (20, 13), (20, 14)], &[]);
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

    stranger(&fabric, scratch.path(), &program, &mut nodes[0]);
    assert_eq!(nodes[0].foreign(), foreign);
}

/// Somebody on the link announces what is not theirs: only a range that is nobody's, and of a node's size, is taken.
fn stranger(fabric: &Fabric, scratch: &std::path::Path, program: &Program, victim: &mut Node) {
    let family = fabric.family;
    let net = Namespace::new();
    fabric.net.ip(&format!("link add p99 type veth peer name eth0 netns {}", net.path()));
    fabric.net.ip("link set p99 master br20 up");
    net.ip("link set eth0 up");
    let (number, length, nodad, inside, around, elsewhere) = match family {
        Family::V4 => (4, 24, "", "10.10.11.128/25", "10.10.0.0/16", "10.98.0.0/24"),
        Family::V6 => (6, 64, " nodad", "fd00:10:0:11:8000::/65", "fd00:10::/48", "fd00:98::/64"),
    };
    let own = family.address(20, 99);
    net.ip(&format!("address add {own}/{length} dev eth0{nodad}"));
    let everything = if family == Family::V4 { "0.0.0.0/0" } else { "::/0" };
    let ranges =
        [&family.range(11), &family.range(12), &family.range(77), inside, around, elsewhere, everything];
    let routes: String = ranges.iter().map(|range| format!("    route {range} unreachable;\n")).collect();
    let configuration = format!(
        "log stderr all;
router id 10.20.0.99;
protocol device {{ }}
protocol static lies {{
    ipv{number};
{routes}}}
protocol bgp victim {{
    local {own} as 64512;
    neighbor {} as 64512;
    direct;
    connect delay time 1;
    ipv{number} {{
        import none;
        next hop self;
        export filter {{ bgp_local_pref = 4000; accept; }};
    }};
}}
",
        family.address(20, victim.number)
    );
    let path = scratch.join("stranger.conf");
    std::fs::write(&path, configuration).unwrap();
    let socket = scratch.join("stranger.ctl");
    let arguments = ["-f", "-c", path.to_str().unwrap(), "-s", socket.to_str().unwrap()];
    let bird = program.start(&net, &arguments.map(str::to_owned), &scratch.join("stranger.log"));
    let address = |number| family.address(20, number);
    victim.expect(20, &[(12, address(12)), (13, address(13)), (77, own)]);
    bird.stop();
    victim.expect(20, &[(12, address(12)), (13, address(13))]);
}

#[test]
fn ipv4() {
    isolated("mesh::ipv4", || story(Family::V4));
}

#[test]
fn ipv6() {
    isolated("mesh::ipv6", || story(Family::V6));
}
