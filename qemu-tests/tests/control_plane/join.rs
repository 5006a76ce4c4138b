//! A node without keys joins through its own agent's balancer: the real kubelet asks for its certificate, the agent of
//! the control plane and the real controllers grant it.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bootwright::lab::console;
use bootwright_model::cluster::NetworkMode;
use bootwright_model::kubernetes::pki;
use bootwright_model::node::NodeFacts;
use firstboot::bootstrap::{self, join, labels};
use firstboot::certificates::{self, Roots};
use serde_json::{Value, json};

use super::cluster::{Cluster, Identity, spawn};
use super::peers::eventually_way;
use super::programs::{PORTS_OF_THE_AGENT, eventually};

const NODES: &str = "/api/v1/nodes";
/// Generous: another test may have the processors.
const PATIENCE: Duration = Duration::from_secs(300);
/// The worker's agent; "agent" is the control plane's.
const OF_WORKER: &str = "agent of the worker";

/// The worker of the inventory; its files lie in a folder of its own.
pub fn a_worker_joins(cluster: &mut Cluster) {
    let admin = Identity::Certificate("admin");
    let root = tempfile::tempdir().unwrap();
    let roots = Roots::below(root.path());
    let facts = worker(cluster);
    // What the cluster layer of a worker has.
    fs::create_dir_all(&roots.cluster_pki).unwrap();
    for name in ["ca.crt", pki::BOOTSTRAP_TOKEN] {
        fs::copy(cluster.roots().cluster_pki.join(name), roots.cluster_pki.join(name)).unwrap();
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    certificates::ensure(&roots, &facts, now).unwrap();
    assert_eq!(cluster.call(&admin, "GET", &format!("{NODES}/w1"), "*/*", None).0, 404);

    // It approves what the worker asks for. The ports are the worker's agent's, which it calls the API through, and so is
    // the pod network of this namespace.
    let mut beside = cluster.facts().clone();
    beside.layer.file.network.mode = NetworkMode::None;
    let control_plane = cluster.root().to_owned();
    cluster.run_agent("agent", &control_plane, &beside, [17443, 17444]);
    cluster.run_agent(OF_WORKER, root.path(), &facts, PORTS_OF_THE_AGENT);
    eventually("the worker's agent has no certificate yet", PATIENCE, || {
        cluster.said(OF_WORKER).contains("waiting for a usable kubeconfig")
    });

    // It gets no further than its certificates, as there is no containerd.
    let mut kubelet = spawn(root.path(), "kubelet", &super::programs::kubernetes("kubelet"), &facts);
    let joined = join::run(&roots, &facts);
    let _ = kubelet.kill();
    let _ = kubelet.wait();
    let log = || console::last_lines(&root.path().join("kubelet.log"), 30).join("\n");
    assert_eq!(joined.unwrap_or_else(|error| panic!("{error}\n{}", log())), "w1");

    let node = cluster.get(&admin, &format!("{NODES}/w1"));
    assert_eq!(node["spec"]["podCIDRs"], json!(["10.10.4.0/24"]));
    assert_eq!(node["metadata"]["labels"]["disk"], "fast");
    super::waits_for_its_cloud(&node, "harbor://w1");
    assert!(!roots.cluster_pki.join(pki::BOOTSTRAP_TOKEN).exists(), "the token is still there");
    // Again, as at the next boot: nothing is asked for.
    assert_eq!(join::run(&roots, &facts).unwrap(), "w1");
    // With the certificate that the kubelet got meanwhile.
    eventually("the worker's agent reads Nodes", PATIENCE, || {
        let said = cluster.said(OF_WORKER);
        said.contains("nodes can be read") && said.contains("the API's endpoints can be read")
    });
    eventually_way(("10.10.3.0/24", "10.20.0.10"));
    assert!(!cluster.said(OF_WORKER).contains("certificate requests"), "it approves");
    its_rights(cluster, &roots);
    its_labels(cluster, &facts);
    cluster.kill(OF_WORKER);
}

/// What kube-proxy needs, and nothing of other nodes.
fn its_rights(cluster: &Cluster, roots: &Roots) {
    let node = Identity::File(roots.kubelet_pki.join(pki::KUBELET_CLIENT_CURRENT));
    for path in ["/api/v1/services", "/apis/discovery.k8s.io/v1beta1/endpointslices"] {
        assert_eq!(cluster.call(&node, "GET", path, "*/*", None).0, 200, "{path}");
    }
    let merge = "application/merge-patch+json";
    let other = json!({ "metadata": { "labels": { "disk": "slow" } } }).to_string();
    let role =
        json!({ "metadata": { "labels": { "node-role.kubernetes.io/control-plane": "" } } }).to_string();
    for (name, body) in [("cp1", &other), ("w1", &role)] {
        let path = format!("{NODES}/{name}");
        let (status, answer) = cluster.call(&node, "PATCH", &path, merge, Some(body.as_bytes()));
        assert_eq!(status, 403, "{answer}");
    }
}

/// Those that it may not give itself come from the control plane.
fn its_labels(cluster: &Cluster, facts: &NodeFacts) {
    let (roots, facts) = (cluster.roots(), NodeFacts { name: "cp1".to_owned(), ..facts.clone() });
    // Ends with the process.
    std::thread::spawn(move || labels::run(&roots, &facts));
    eventually("the worker has the label of its role", Duration::from_secs(120), || {
        let node = cluster.get(&Identity::Certificate("admin"), &format!("{NODES}/w1"));
        let labels = &node["metadata"]["labels"];
        labels["node-role.kubernetes.io/worker"] == "" && labels["disk"] == "fast"
    });
}

/// A taint is set when the Node is made, and does not come back when a person took it away.
pub fn a_taint_is_set_once(cluster: &Cluster) {
    let admin = Identity::Certificate("admin");
    let mut facts = cluster.facts().clone();
    facts.name = "cp9".to_owned();
    facts.layer.role = "control-plane".to_owned();
    facts.layer.file.cloud = Default::default();
    facts.pod_cidr = "10.10.9.0/24".parse().ok();
    let path = format!("{NODES}/cp9");
    let taints = || cluster.get(&admin, &path)["spec"]["taints"].clone();
    let not_ready = |taint: &Value| taint["key"].as_str().unwrap().starts_with("node.kubernetes.io/");
    let of_role = || -> Vec<Value> {
        let all = taints().as_array().cloned().unwrap_or_default();
        all.into_iter().filter(|taint| !not_ready(taint)).collect()
    };
    bootstrap::run(&cluster.roots(), &facts).unwrap();
    assert_eq!(of_role(), [json!({ "key": "node-role.kubernetes.io/master", "effect": "NoSchedule" })]);
    let none = json!({ "spec": { "taints": null } }).to_string();
    let merge = "application/merge-patch+json";
    assert_eq!(cluster.call(&admin, "PATCH", &path, merge, Some(none.as_bytes())).0, 200);
    bootstrap::run(&cluster.roots(), &facts).unwrap();
    assert!(of_role().is_empty(), "{}", taints());
    assert_eq!(cluster.call(&admin, "DELETE", &path, "*/*", None).0, 200);
}

/// The worker of the inventory, by the facts that first boot has of it.
pub fn worker(cluster: &Cluster) -> NodeFacts {
    let mut facts = cluster.facts().clone();
    let node = &facts.layer.file.nodes[1];
    (facts.name, facts.address) = (node.name.clone(), node.address);
    facts.layer.role = node.role.clone();
    facts.provider_id = Some("harbor://w1".to_owned());
    facts.pod_cidr = "10.10.4.0/24".parse().ok();
    facts.os.etcd = String::new();
    facts
}
