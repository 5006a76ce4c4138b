//! Pod CIDRs of machines that nobody described: agents of two control planes, one range for each Node.

use std::time::Duration;

use bootwright_model::agent::{GIVING_POD_CIDR, LEASE_NAMESPACE, POD_CIDR_LEASE, WANTS_POD_CIDR};
use bootwright_model::cluster::NetworkMode;
use bootwright_model::node::NodeFacts;
use serde_json::{Value, json};

use super::JSON;
use super::cluster::{Cluster, Identity};
use super::node::facts;
use super::programs::{self, eventually};

const NODES: &str = "/api/v1/nodes";
const MERGE: &str = "application/merge-patch+json";
/// Generous: another test may have the processors.
const PATIENCE: Duration = Duration::from_secs(300);

/// The control plane's node, in a cluster that strangers may join.
pub fn open() -> NodeFacts {
    let mut facts = facts();
    facts.layer.file.cluster.admit_unknown_workers = true;
    facts
}

#[test]
fn each_stranger_is_given_a_range_of_its_own() {
    if !programs::inside_namespace("ranges::each_stranger_is_given_a_range_of_its_own") {
        return;
    }
    let mut cluster = Cluster::start_node(open());
    cluster.apply_bootstrap();
    rights(&cluster);
    for node in ["cp1", "cp2"] {
        start(&mut cluster, node);
    }
    // Both ask at once, and so do both agents.
    create(&cluster, "n1", "true");
    create(&cluster, "n2", "true");
    let first = [eventually_given(&cluster, "n1"), eventually_given(&cluster, "n2")];
    assert_eq!(sorted(&first), ["10.10.254.0/24", "10.10.255.0/24"]);

    who_does_not_ask_is_left_alone(&cluster);
    of_the_cluster_file(&cluster);

    // One is gone, whichever served; and the other was killed while it was giving.
    cluster.kill("agent-cp1");
    create(&cluster, "n3", "true");
    assert_eq!(eventually_given(&cluster, "n3"), "10.10.253.0/24");
    begun_by_another(&cluster);

    // Started again, nobody's range changes, and one that is made anew has its range again.
    start(&mut cluster, "cp1");
    cluster.kill("agent-cp2");
    delete(&cluster, "n2");
    create(&cluster, "n2", &first[1]);
    assert_eq!(eventually_given(&cluster, "n2"), first[1]);
    assert_eq!([given(&cluster, "n1"), given(&cluster, "n2")], first);
    eventually("the Lease is given back", PATIENCE, || holder(&cluster).is_empty());
}

/// No more than it takes.
fn rights(cluster: &Cluster) {
    let agent = Identity::Certificate("agent");
    let status = |method: &str, path: &str| {
        let body = json!({ "metadata": {} }).to_string();
        let kind = if method == "PATCH" { MERGE } else { JSON };
        cluster.call(&agent, method, path, kind, Some(body.as_bytes())).0
    };
    assert_eq!(status("PATCH", &format!("{NODES}/cp1")), 200);
    assert_eq!(status("PUT", &format!("{NODES}/cp1")), 403);
    assert_eq!(status("DELETE", &format!("{NODES}/cp1")), 403);
    assert_eq!(status("PATCH", &format!("{NODES}/cp1/status")), 403);
    assert_eq!(status("DELETE", &lease()), 403);
}

fn who_does_not_ask_is_left_alone(cluster: &Cluster) {
    let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "silent" } });
    cluster.create(&Identity::Certificate("admin"), NODES, &node);
    create(cluster, "n0", "10.10.9.0/24");
    assert_eq!(eventually_given(cluster, "n0"), "10.10.9.0/24", "what it had before is free");
    assert_eq!(given(cluster, "silent"), "");
}

/// It is not to be given another than the cluster file's, and nobody is given that.
fn of_the_cluster_file(cluster: &Cluster) {
    create(cluster, "w1", "true");
    let line = "node w1 asks for a pod CIDR, and the cluster file has one for it";
    eventually(line, PATIENCE, || ["cp1", "cp2"].iter().any(|node| said(cluster, node).contains(line)));
    create(cluster, "n9", "10.10.4.0/24");
    assert_ne!(eventually_given(cluster, "n9"), "10.10.4.0/24");
    for name in ["w1", "n9"] {
        delete(cluster, name);
    }
}

/// What stands in the Lease is that Node's and nobody else's: the call may be under way.
fn begun_by_another(cluster: &Cluster) {
    let admin = Identity::Certificate("admin");
    let note = |holder: &str, giving: &str| {
        let body = json!({
            "metadata": { "annotations": { GIVING_POD_CIDR: giving } },
            "spec": { "holderIdentity": holder, "leaseDurationSeconds": 20 },
        });
        let answer = cluster.call(&admin, "PATCH", &lease(), MERGE, Some(body.to_string().as_bytes()));
        assert_eq!(answer.0, 200, "{}", answer.1);
    };
    note("cp9", "n5 10.10.252.0/24");
    create(cluster, "n4", "true");
    create(cluster, "n5", "true");
    // It waits for the Lease to run out, and completes what was begun.
    assert_eq!(eventually_given(cluster, "n5"), "10.10.252.0/24");
    assert_eq!(eventually_given(cluster, "n4"), "10.10.251.0/24");
}

/// The agent of a control plane.
pub fn start(cluster: &mut Cluster, node: &str) {
    let mut facts = cluster.facts().clone();
    facts.name = node.to_owned();
    // The pod network of this namespace is nobody's here.
    facts.layer.file.network.mode = NetworkMode::None;
    cluster.run_agent_of(&facts);
}

fn said(cluster: &Cluster, node: &str) -> String {
    cluster.said(&format!("agent-{node}"))
}

fn create(cluster: &Cluster, name: &str, wish: &str) {
    let metadata = json!({ "name": name, "annotations": { WANTS_POD_CIDR: wish } });
    let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": metadata });
    cluster.create(&Identity::Certificate("admin"), NODES, &node);
}

fn delete(cluster: &Cluster, name: &str) {
    let path = format!("{NODES}/{name}");
    let (status, answer) = cluster.call(&Identity::Certificate("admin"), "DELETE", &path, "*/*", None);
    assert_eq!(status, 200, "{answer}");
}

/// The range of a Node; empty while it has none.
pub fn given(cluster: &Cluster, name: &str) -> String {
    let node = cluster.get(&Identity::Certificate("admin"), &format!("{NODES}/{name}"));
    let range = &node["spec"]["podCIDR"];
    assert!(range.is_null() || node["spec"]["podCIDRs"] == json!([range]), "{node}");
    range.as_str().unwrap_or_default().to_owned()
}

/// Waits until a Node has a range.
fn eventually_given(cluster: &Cluster, name: &str) -> String {
    eventually(&format!("{name} is given a range"), PATIENCE, || !given(cluster, name).is_empty());
    given(cluster, name)
}

fn sorted(ranges: &[String]) -> Vec<String> {
    let mut ranges = ranges.to_vec();
    ranges.sort();
    ranges
}

fn lease() -> String {
    format!("/apis/coordination.k8s.io/v1/namespaces/{LEASE_NAMESPACE}/leases/{POD_CIDR_LEASE}")
}

fn holder(cluster: &Cluster) -> String {
    let lease: Value = cluster.get(&Identity::Certificate("admin"), &lease());
    lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
}
