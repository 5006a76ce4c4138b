//! A control plane of both address families: what the programs make of the rendered flags.

use std::net::IpAddr;

use bootwright_model::cluster::ClusterFile;
use bootwright_model::node::NodeFacts;
use qemu_tests::control_plane::node;
use serde_json::{Value, json};

use super::cluster::{Cluster, Identity};
use super::programs;

const SERVICES: &str = "/api/v1/namespaces/default/services";
const PODS: [&str; 2] = ["10.10.3.0/24", "fd00:10:10:3::/64"];
const SERVICE_RANGES: [&str; 2] = ["10.96.0.0/16", "fd00:96::/112"];

#[test]
fn nodes_and_services_have_both_families() {
    if !programs::inside_namespace("dual_stack::nodes_and_services_have_both_families") {
        return;
    }
    programs::ip("address add fd00:20::10/64 dev lo");
    let cluster = Cluster::start_node(facts());
    let admin = Identity::Certificate("admin");
    for server in ["10.20.0.10:6443", "[fd00:20::10]:6443"] {
        assert!(cluster.is_ready_at(server.parse().unwrap()), "{server}");
    }

    // Twice: the second time changes nothing.
    let count = cluster.apply_bootstrap();
    assert_eq!(count, cluster.apply_bootstrap());
    let node = cluster.get(&admin, "/api/v1/nodes/cp1");
    assert_eq!(node["spec"]["podCIDR"], PODS[0]);
    assert_eq!(node["spec"]["podCIDRs"], json!(PODS));
    // As its kubelet tells them. The API server of 1.20 cannot apply anything to such a Node.
    let addresses = ["10.20.0.10", "fd00:20::10"].map(|one| json!({ "type": "InternalIP", "address": one }));
    let status = json!({ "status": { "addresses": addresses } }).to_string();
    let (path, merge) = ("/api/v1/nodes/cp1/status", "application/merge-patch+json");
    let (code, answer) = cluster.call(&admin, "PATCH", path, merge, Some(status.as_bytes()));
    assert_eq!(code, 200, "{answer}");
    assert_eq!(count, cluster.apply_bootstrap());
    let node = cluster.get(&admin, "/api/v1/nodes/cp1");
    assert_eq!(node["status"]["addresses"].as_array().map(Vec::len), Some(2));
    assert_eq!(node["spec"]["podCIDRs"], json!(PODS));
    let error = cluster.apply_bootstrap_with_pod_cidr("10.10.3.0/24,fd00:10:10:9::/64").unwrap_err();
    assert!(error.to_string().contains("this machine's 10.10.3.0/24, fd00:10:10:9::/64"), "{error}");

    services(&cluster, &admin);
}

/// One that asks for both families gets an address of each range, one that asks for nothing the primary one.
fn services(cluster: &Cluster, admin: &Identity) {
    let create = |name: &str, policy: Option<&str>| {
        let mut service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
            "spec": { "selector": { "app": name }, "ports": [{ "port": 80 }] },
        });
        if let Some(policy) = policy {
            service["spec"]["ipFamilyPolicy"] = policy.into();
        }
        cluster.create(admin, SERVICES, &service)["spec"].clone()
    };
    let ranges: Vec<_> = cluster.facts().layer.file.cluster.service_cidr.iter().collect();
    let in_range = |address: &Value, range: usize| {
        ranges[range].contains(&address.as_str().unwrap().parse::<IpAddr>().unwrap())
    };
    let both = create("both", Some("RequireDualStack"));
    assert_eq!(both["ipFamilies"], json!(["IPv4", "IPv6"]));
    let addresses = both["clusterIPs"].as_array().unwrap();
    assert_eq!(addresses.len(), 2, "{both}");
    assert!(in_range(&addresses[0], 0) && in_range(&addresses[1], 1), "{both}");
    let plain = create("plain", None);
    assert_eq!(plain["clusterIPs"].as_array().map(Vec::len), Some(1), "{plain}");
    assert!(in_range(&plain["clusterIP"], 0), "{plain}");
    let api = cluster.get(admin, &format!("{SERVICES}/kubernetes"));
    assert_eq!(api["spec"]["clusterIP"], "10.96.0.1");
}

/// The node of a cluster file of both families.
fn facts() -> NodeFacts {
    let file: ClusterFile = serde_json::from_value(json!({
        "cluster": {
            "name": "harbor", "endpoint": "10.20.0.10",
            "pod-cidr": ["10.10.0.0/16", "fd00:10:10::/56"], "service-cidr": SERVICE_RANGES,
        },
        "kubernetes": { "version": "1.20.2" },
        "node": [{
            "name": "cp1", "role": "all-in-one", "address": ["10.20.0.10/24", "fd00:20::10/64"], "pod-cidr": PODS,
        }],
    }))
    .unwrap();
    let mut facts = node::facts();
    facts.address = file.nodes[0].address;
    facts.pod_cidr = file.nodes[0].pod_cidr;
    facts.provider_id = None;
    facts.layer.file = file;
    facts
}
