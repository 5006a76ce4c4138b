//! Golden outputs, and the commands in a network namespace.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::*;

pub(super) fn file(network: &Value, nodes: &[(&str, &str, &str)]) -> ClusterFile {
    let nodes: Vec<Value> = nodes
        .iter()
        .map(|(name, address, pods)| json!({ "name": name, "role": "worker", "address": address, "pod-cidr": pods }))
        .collect();
    let file = json!({
        "cluster": { "name": "harbor-east", "endpoint": "10.20.0.10", "pod-cidr": "10.10.0.0/16",
                     "service-cidr": "10.96.0.0/16" },
        "kubernetes": { "version": "1.20.2" },
        "network": network,
        "node": nodes,
    });
    serde_json::from_value(file).unwrap()
}

fn both_families() -> PodRoutes {
    PodRoutes::of(&file(
        &json!({ "mode": "routes" }),
        &[
            ("cp1", "10.20.0.10/24", "10.10.0.0/24"),
            ("w1", "10.20.0.11/24", "10.10.1.0/24"),
            ("w6", "fd00:20::11/64", "fd00:10:0:1::/64"),
        ],
    ))
}

#[test]
fn commands_of_iproute2() {
    insta::assert_snapshot!(both_families().text(Format::Ip), @r"
    # Pods of cluster harbor-east, by node.
    # Nodes have these routes to each other: the fabric needs them for what reaches pods from outside
    # the cluster.
    # cp1
    ip -4 route replace 10.10.0.0/24 via 10.20.0.10
    # w1
    ip -4 route replace 10.10.1.0/24 via 10.20.0.11
    # w6
    ip -6 route replace fd00:10:0:1::/64 via fd00:20::11
    ");
}

#[test]
fn static_routes_of_frr() {
    insta::assert_snapshot!(both_families().text(Format::Frr), @r"
    ! Pods of cluster harbor-east, by node.
    ! Nodes have these routes to each other: the fabric needs them for what reaches pods from outside
    ! the cluster.
    ! cp1
    ip route 10.10.0.0/24 10.20.0.10
    ! w1
    ip route 10.10.1.0/24 10.20.0.11
    ! w6
    ipv6 route fd00:10:0:1::/64 fd00:20::11
    ");
}

#[test]
fn protocols_of_bird() {
    insta::assert_snapshot!(both_families().text(Format::Bird), @r"
    # Pods of cluster harbor-east, by node.
    # Nodes have these routes to each other: the fabric needs them for what reaches pods from outside
    # the cluster.
    protocol static pods4_harbor_east {
        ipv4;
        route 10.10.0.0/24 via 10.20.0.10; # cp1
        route 10.10.1.0/24 via 10.20.0.11; # w1
    }
    protocol static pods6_harbor_east {
        ipv6;
        route fd00:10:0:1::/64 via fd00:20::11; # w6
    }
    ");
}

#[test]
fn json_has_the_same() {
    let routes = PodRoutes::of(&file(&json!({}), &[("cp1", "10.20.0.10/24", "10.10.0.0/24")]));
    let json: Value = serde_json::from_str(&routes.text(Format::Json)).unwrap();
    assert_eq!(json["cluster"], "harbor-east");
    assert_eq!(json["network"], "vxlan");
    assert!(json["purpose"].as_str().unwrap().contains("in VXLAN"), "{json}");
    let expected = json!([{ "node": "cp1", "pod-cidr": "10.10.0.0/24", "via": "10.20.0.10" }]);
    assert_eq!(json["routes"], expected);
}

#[test]
fn each_mode_says_what_the_fabric_is_needed_for() {
    let purpose = |network: Value| PodRoutes::of(&file(&network, &[])).purpose;
    assert!(purpose(json!({ "mode": "none" })).contains("a plugin or to the fabric"));
    assert!(purpose(json!({ "mode": "routes", "fallback": "vxlan" })).contains("VXLAN to the others"));
    assert!(!purpose(json!({ "mode": "routes" })).contains("VXLAN"));
}

#[test]
fn a_node_of_both_families_has_a_route_of_each() {
    let mut file = file(&json!({}), &[("cp1", "10.20.0.10/24", "10.10.0.0/24")]);
    file.nodes[0].address = "10.20.0.10/24,fd00:20::10/64".parse().unwrap();
    file.nodes[0].pod_cidr = "10.10.0.0/24,fd00:10:10::/64".parse().ok();
    insta::assert_snapshot!(PodRoutes::of(&file).text(Format::Ip), @r"
    # Pods of cluster harbor-east, by node.
    # Nodes carry their pods' packets to each other in VXLAN: the fabric needs these only for what
    # reaches pods from outside the cluster.
    # cp1
    ip -4 route replace 10.10.0.0/24 via 10.20.0.10
    # cp1
    ip -6 route replace fd00:10:10::/64 via fd00:20::10
    ");
}

#[test]
fn an_address_of_the_other_family_is_no_next_hop() {
    let mixed = file(&json!({}), &[("cp1", "10.20.0.10/24", "fd00:10::/64")]);
    assert_eq!(PodRoutes::of(&mixed).routes, []);
}

/// In a network namespace of its own, twice: a kernel takes the commands, and has the routes then.
#[test]
fn a_kernel_takes_the_commands() {
    let commands = both_families().text(Format::Ip);
    let script = format!(
        "set -e\nip link set lo up\nip link add fabric type veth peer name other\nip link set other up\nip link set fabric up\n\
         ip addr add 10.20.0.1/24 dev fabric\nip addr add fd00:20::1/64 dev fabric nodad\n\
         {commands}{commands}ip -4 -j route; ip -6 -j route\n"
    );
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "--", "sh"]);
    let mut shell =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    shell.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = shell.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tables: Vec<Value> =
        serde_json::Deserializer::from_slice(&output.stdout).into_iter().collect::<Result<_, _>>().unwrap();
    let mut found: Vec<(String, String)> = Vec::new();
    for route in tables.iter().filter_map(Value::as_array).flatten() {
        if let (Some(target), Some(gateway)) = (route["dst"].as_str(), route["gateway"].as_str()) {
            found.push((target.to_owned(), gateway.to_owned()));
        }
    }
    let expected = both_families().routes;
    let expected: Vec<(String, String)> =
        expected.iter().map(|route| (route.pod_cidr.to_string(), route.via.to_string())).collect();
    assert_eq!(found, expected);
}
