//! The agent against the real API server: the pod network follows the Nodes.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::cluster::{Cluster, Identity};
use super::programs::{self, eventually};

const NODES: &str = "/api/v1/nodes";
/// Generous: another test may have the processors.
const PATIENCE: Duration = Duration::from_secs(300);
/// The node of the cluster file that has no Node at first.
const W1: (&str, &str) = ("10.10.4.0/24", "10.20.0.11");

#[test]
fn the_pod_network_follows_the_nodes() {
    if !programs::inside_namespace("peers::the_pod_network_follows_the_nodes") {
        return;
    }
    let mut cluster = Cluster::start();
    cluster.apply_bootstrap();
    cluster.start_agent(&["10.20.0.10/24"]);
    eventually_way(W1);

    joins_changes_and_heartbeats(&cluster);
    what_cannot_be_reached(&cluster);
    of_the_cluster_file(&cluster);
    nothing_flaps(&mut cluster);
}

fn joins_changes_and_heartbeats(cluster: &Cluster) {
    create(cluster, "x1", "10.20.0.21", Some("10.10.21.0/24"));
    eventually_way(("10.10.21.0/24", "10.20.0.21"));
    patch_status(cluster, "x1", &json!({ "addresses": [internal("10.20.0.22")] }));
    eventually_way(("10.10.21.0/24", "10.20.0.22"));
    let applied = || cluster.said("agent").matches("entries set").count();
    let before = applied();
    let now = "2026-11-25T00:00:00Z";
    let ready =
        json!({ "type": "Ready", "status": "True", "lastHeartbeatTime": now, "lastTransitionTime": now });
    patch_status(cluster, "x1", &json!({ "conditions": [ready] }));
    create(cluster, "x2", "10.20.0.23", None);
    eventually_said(cluster, "pods of node x2 are not reached: it has no pod CIDR");
    assert_eq!(applied(), before, "a heartbeat, or a Node without a range, changed something");
    let range = json!({ "spec": { "podCIDR": "10.10.23.0/24", "podCIDRs": ["10.10.23.0/24"] } });
    patch(cluster, &format!("{NODES}/x2"), &range);
    eventually_way(("10.10.23.0/24", "10.20.0.23"));
}

/// A Node with what another has: the other loses nothing, until it is deleted.
fn what_cannot_be_reached(cluster: &Cluster) {
    create(cluster, "a1", "10.20.0.22", Some("10.10.24.0/24"));
    eventually_said(cluster, "10.10.24.0/24 are not reached: its address 10.20.0.22 is that of node x1");
    create(cluster, "a2", "10.20.0.26", Some("10.10.21.128/25"));
    eventually_said(cluster, "10.10.21.128/25 are not reached: the range overlaps 10.10.21.0/24 of node x1");
    assert_eq!((way("10.10.21.0/24").as_deref(), way("10.10.24.0/24")), (Some("10.20.0.22"), None));
    delete(cluster, "a2");
    delete(cluster, "x1");
    eventually_way(("10.10.24.0/24", "10.20.0.22"));
    assert_eq!(way("10.10.21.0/24"), None);
}

/// It stays without a Node, and its Node counts while there is one.
fn of_the_cluster_file(cluster: &Cluster) {
    assert_eq!(way(W1.0).as_deref(), Some(W1.1));
    create(cluster, "w1", "10.20.0.31", None);
    eventually_way((W1.0, "10.20.0.31"));
    delete(cluster, "w1");
    eventually_way(W1);
}

/// Neither when the agent starts again, nor when nobody answers it.
fn nothing_flaps(cluster: &mut Cluster) {
    let ways = || [W1.0, "10.10.23.0/24", "10.10.24.0/24"].map(way);
    let before = ways();
    assert!(before.iter().all(Option::is_some), "{before:?}");
    cluster.kill("agent");
    assert_eq!(ways(), before);
    cluster.start_agent(&["10.20.0.10/24"]);
    eventually_said(cluster, "api: nodes can be read");
    // Changes are gathered for a second.
    std::thread::sleep(Duration::from_secs(3));
    assert!(!cluster.said("agent").contains("entries set"), "{}", cluster.said("agent"));
    cluster.kill("kube-apiserver");
    eventually_said(cluster, "nodes cannot be read, what is known stays");
    assert_eq!(ways(), before);
    cluster.kill("agent");
    // Nobody to ask from the start.
    cluster.start_agent(&["10.20.0.10/24"]);
    eventually_said(cluster, "nodes cannot be read, what is known stays");
    assert_eq!(ways(), before);
}

fn internal(address: &str) -> Value {
    json!({ "type": "InternalIP", "address": address })
}

fn create(cluster: &Cluster, name: &str, address: &str, range: Option<&str>) {
    let mut node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": { "name": name }, "spec": {},
        "status": { "addresses": [internal(address)] },
    });
    if let Some(range) = range {
        node["spec"] = json!({ "podCIDR": range, "podCIDRs": [range] });
    }
    cluster.create(&Identity::Certificate("admin"), NODES, &node);
}

fn patch(cluster: &Cluster, path: &str, change: &Value) {
    let kind = "application/merge-patch+json";
    let body = change.to_string();
    let (status, answer) =
        cluster.call(&Identity::Certificate("admin"), "PATCH", path, kind, Some(body.as_bytes()));
    assert_eq!(status, 200, "{answer}");
}

fn patch_status(cluster: &Cluster, name: &str, status: &Value) {
    patch(cluster, &format!("{NODES}/{name}/status"), &json!({ "status": status }));
}

fn delete(cluster: &Cluster, name: &str) {
    let path = format!("{NODES}/{name}");
    let (status, answer) = cluster.call(&Identity::Certificate("admin"), "DELETE", &path, "*/*", None);
    assert_eq!(status, 200, "{answer}");
}

fn eventually_said(cluster: &Cluster, line: &str) {
    eventually(line, PATIENCE, || cluster.said("agent").contains(line));
}

/// Waits until packets to a range go to a node.
pub fn eventually_way((range, node): (&str, &str)) {
    eventually(&format!("{range} through {node}"), PATIENCE, || way(range).as_deref() == Some(node));
}

/// The node that packets to a range go to through VXLAN, by what `ip` and `bridge` show.
fn way(range: &str) -> Option<String> {
    let route = shown("ip", &["-j", "route", "show", "proto", "98", range]).pop()?;
    assert_eq!(route["dev"], "vxlan-pods4");
    let gateway = route["gateway"].as_str()?;
    let neighbour = shown("ip", &["-j", "neigh", "show", gateway, "dev", "vxlan-pods4"]).pop()?;
    let entries = shown("bridge", &["-j", "fdb", "show", "dev", "vxlan-pods4"]);
    let entry = entries.iter().find(|entry| entry["mac"] == neighbour["lladdr"])?;
    entry["dst"].as_str().map(str::to_owned)
}

/// What a program lists; nothing if it fails, as while a device is made.
pub fn shown(program: &str, arguments: &[&str]) -> Vec<Value> {
    let output = Command::new(program).args(arguments).output().expect("iproute2 is installed");
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}
