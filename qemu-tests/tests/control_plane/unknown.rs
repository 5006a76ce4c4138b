//! A worker that nobody described joins: the real kubelet gets its certificates, the Node a range, and the machine the
//! network of its pods, also at the next boot.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bootwright::lab::console;
use bootwright_model::agent::WANTS_POD_CIDR;
use bootwright_model::kubernetes::{node_object, pki};
use bootwright_model::layout;
use bootwright_model::node::NodeFacts;
use firstboot::bootstrap::{join, labels, pod_cidr};
use firstboot::certificates::{self, Roots};
use firstboot::network::given_range;
use serde_json::json;

use super::agent::{ask, issued};
use super::cluster::{Cluster, Identity, spawn};
use super::join::worker;
use super::peers::eventually_way;
use super::programs::{self, PORTS_OF_THE_AGENT, eventually};
use super::ranges::{given, open, start};

const NODES: &str = "/api/v1/nodes";
/// As first boot would call it.
const NAME: &str = "worker-5254002000a1";
/// Generous: another test may have the processors.
const PATIENCE: Duration = Duration::from_secs(300);
const OF_WORKER: &str = "agent of the worker";

#[test]
fn a_worker_that_nobody_described_joins() {
    if !programs::inside_namespace("unknown::a_worker_that_nobody_described_joins") {
        return;
    }
    // Its card, which the ways to other nodes' pods leave by.
    programs::ip("link add eth0 type veth peer name far");
    for arguments in ["address add 10.20.1.77/24 dev eth0", "link set eth0 up", "link set far up"] {
        programs::ip(arguments);
    }
    let mut cluster = Cluster::start_node(open());
    cluster.apply_bootstrap();
    start(&mut cluster, "cp1");
    let root = tempfile::tempdir().unwrap();
    let facts = stranger(&cluster);
    let roots = prepare(&cluster, root.path(), &facts);
    cluster.run_agent(OF_WORKER, root.path(), &facts, PORTS_OF_THE_AGENT);

    // It gets no further than its certificates, as there is no containerd.
    let mut kubelet = spawn(root.path(), "kubelet", &programs::kubernetes("kubelet"), &facts);
    let joined = join::run(&roots, &facts);
    let log = || console::last_lines(&root.path().join("kubelet.log"), 30).join("\n");
    assert_eq!(joined.unwrap_or_else(|error| panic!("{error}\n{}", log())), NAME);
    let range = pod_cidr::run(root.path(), &roots, facts.clone());
    let range = range.unwrap_or_else(|error| panic!("{error}\n{}", cluster.said("agent-cp1")));
    let _ = kubelet.kill();
    let _ = kubelet.wait();

    assert_eq!(range.to_string(), "10.10.255.0/24");
    assert_eq!(given(&cluster, NAME), "10.10.255.0/24");
    let network = fs::read_to_string(root.path().join("etc/cni/net.d/10-bootwright.conflist")).unwrap();
    assert!(network.contains("10.10.255.0/24") && network.contains("10.10.255.1"), "{network}");
    // Its agent learns the range from the same Node, and reaches the pods of others.
    eventually_way(("10.10.3.0/24", "10.20.0.10"));
    assert!(
        cluster.said(OF_WORKER).contains("no longer: this node has no pod CIDR yet"),
        "{}",
        cluster.said(OF_WORKER)
    );

    its_label(&cluster);
    serving_certificate(&cluster, &roots);
    one_that_was_described(&cluster);
    the_next_boot(&mut cluster, root.path(), &roots, &facts);
    a_node_that_was_made_anew(&cluster, root.path(), &roots);
}

/// Another machine, by the facts that first boot has of it.
fn stranger(cluster: &Cluster) -> NodeFacts {
    let mut facts = cluster.facts().clone();
    facts.name = NAME.to_owned();
    facts.address = "10.20.1.77/24".parse().unwrap();
    facts.link = "eth0".to_owned();
    facts.layer.role = "worker".to_owned();
    facts.layer.file.cloud = Default::default();
    facts.provider_id = None;
    (facts.pod_cidr, facts.admitted) = (None, true);
    facts.os.etcd = String::new();
    facts
}

/// What the cluster layer of a worker has, and first boot makes of it.
fn prepare(cluster: &Cluster, root: &Path, facts: &NodeFacts) -> Roots {
    let roots = Roots::below(root);
    fs::create_dir_all(&roots.cluster_pki).unwrap();
    for name in ["ca.crt", pki::BOOTSTRAP_TOKEN] {
        fs::copy(cluster.roots().cluster_pki.join(name), roots.cluster_pki.join(name)).unwrap();
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    certificates::ensure(&roots, facts, now).unwrap();
    roots
}

/// As a worker of the cluster file has it; who asks for nothing gets none.
fn its_label(cluster: &Cluster) {
    let (admin, role) = (Identity::Certificate("admin"), "node-role.kubernetes.io/worker");
    let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "by-hand" } });
    cluster.create(&admin, NODES, &node);
    let (roots, facts) = (cluster.roots(), cluster.facts().clone());
    // Ends with the process.
    std::thread::spawn(move || labels::run(&roots, &facts));
    let label =
        |name: &str| cluster.get(&admin, &format!("{NODES}/{name}"))["metadata"]["labels"][role].clone();
    eventually("it has the label of its role", PATIENCE, || label(NAME) == "");
    assert!(label("by-hand").is_null());
    let path = format!("{NODES}/by-hand");
    assert_eq!(cluster.call(&admin, "DELETE", &path, "*/*", None).0, 200);
}

/// A worker of the cluster file, and the same machine with an image of a cluster file without it: its Node keeps what cannot
/// be changed, and the machine goes by that.
fn one_that_was_described(cluster: &Cluster) {
    let root = tempfile::tempdir().unwrap();
    let mut described = worker(cluster);
    // In a cloud the Node is made with a taint, by a call after which nothing of it goes by itself.
    (described.layer.file.cloud, described.provider_id) = (Default::default(), None);
    let roots = prepare(cluster, root.path(), &described);
    let token = Identity::Token(cluster.bootstrap_token());
    let usages = ["digital signature", "key encipherment", "client auth"];
    let key = ask(cluster, &token, "w1", "kubernetes.io/kube-apiserver-client-kubelet", &usages, "w1", &[]);
    fs::create_dir_all(&roots.kubelet_pki).unwrap();
    let path = roots.kubelet_pki.join(pki::KUBELET_CLIENT_CURRENT);
    fs::write(path, format!("{}{key}", issued(cluster, "w1"))).unwrap();
    assert_eq!(join::run(&roots, &described).unwrap(), "w1");
    assert_eq!(given(cluster, "w1"), "10.10.4.0/24");

    let mut facts = NodeFacts { pod_cidr: None, admitted: true, ..described };
    facts.layer.file.nodes.retain(|node| node.name != "w1");
    prepare(cluster, root.path(), &facts);
    let admin = Identity::Certificate("admin");
    let object = node_object::of(&facts).unwrap();
    let path = format!("{}?fieldManager=bootwright&force=true", object.path);
    let body = object.body.to_string();
    let answer = cluster.call(&admin, "PATCH", &path, "application/apply-patch+yaml", Some(body.as_bytes()));
    assert_eq!(answer.0, 422, "what it had applied would go: {}", answer.1);
    // At each boot.
    for _ in 0..2 {
        assert_eq!(join::run(&roots, &facts).unwrap(), "w1");
    }
    assert_eq!(pod_cidr::run(root.path(), &roots, facts.clone()).unwrap().to_string(), "10.10.4.0/24");
    assert_eq!(given_range::recall(root.path(), &facts).unwrap(), "10.10.4.0/24".parse().ok());
    let node = || cluster.get(&admin, &format!("{NODES}/w1"));
    assert_eq!(node()["spec"]["podCIDRs"], json!(["10.10.4.0/24"]));
    assert_eq!(node()["metadata"]["annotations"][WANTS_POD_CIDR], "true");
    assert!(node()["metadata"]["labels"]["disk"].is_null(), "{}", node());
    eventually("it has the label of its role", PATIENCE, || {
        node()["metadata"]["labels"]["node-role.kubernetes.io/worker"] == ""
    });
}

/// As its kubelet would ask, once its Node says which addresses it has.
fn serving_certificate(cluster: &Cluster, roots: &Roots) {
    let node = Identity::File(roots.kubelet_pki.join(pki::KUBELET_CLIENT_CURRENT));
    let usages = ["digital signature", "key encipherment", "server auth"];
    let signer = "kubernetes.io/kubelet-serving";
    ask(cluster, &node, "stranger", signer, &usages, NAME, &[NAME, "10.20.1.77"]);
    eventually("it is not signed without a reason", PATIENCE, || {
        cluster.said("agent-cp1").contains("10.20.1.77 is neither in its Node's status nor in the inventory")
    });
    let addresses = [("InternalIP", "10.20.1.77"), ("Hostname", NAME)];
    let addresses = addresses.map(|(kind, address)| json!({ "type": kind, "address": address }));
    let status = json!({ "status": { "addresses": addresses } }).to_string();
    let path = format!("{NODES}/{NAME}/status");
    let answer = cluster.call(&node, "PATCH", &path, "application/merge-patch+json", Some(status.as_bytes()));
    assert_eq!(answer.0, 200, "{}", answer.1);
    issued(cluster, "stranger");
}

/// The range is there before anybody is asked, and nothing is to do.
fn the_next_boot(cluster: &mut Cluster, root: &Path, roots: &Roots, facts: &NodeFacts) {
    cluster.kill("agent-cp1");
    let kept = given_range::recall(root, facts).unwrap();
    assert_eq!(kept.map(|ranges| ranges.to_string()).as_deref(), Some("10.10.255.0/24"));
    let facts = NodeFacts { pod_cidr: kept, ..facts.clone() };
    fs::copy(
        cluster.roots().cluster_pki.join(pki::BOOTSTRAP_TOKEN),
        roots.cluster_pki.join(pki::BOOTSTRAP_TOKEN),
    )
    .unwrap();
    assert_eq!(join::run(roots, &facts).unwrap(), NAME);
    assert_eq!(pod_cidr::run(root, roots, facts).unwrap().to_string(), "10.10.255.0/24");
    assert!(root.join(layout::ADMITTED.trim_start_matches('/')).exists());
}

/// Somebody deleted it, and another has the range meanwhile: the machine is told to start again.
fn a_node_that_was_made_anew(cluster: &Cluster, root: &Path, roots: &Roots) {
    let admin = Identity::Certificate("admin");
    let path = format!("{NODES}/{NAME}");
    assert_eq!(cluster.call(&admin, "DELETE", &path, "*/*", None).0, 200);
    let mut facts = stranger(cluster);
    facts.pod_cidr = "10.10.255.0/24".parse().ok();
    assert_eq!(join::run(roots, &facts).unwrap(), NAME);
    assert_eq!(given(cluster, NAME), "", "it sets none itself");
    let range = json!({ "spec": { "podCIDR": "10.10.7.0/24", "podCIDRs": ["10.10.7.0/24"] } }).to_string();
    let answer = cluster.call(&admin, "PATCH", &path, "application/merge-patch+json", Some(range.as_bytes()));
    assert_eq!(answer.0, 200, "{}", answer.1);
    let error = pod_cidr::run(root, roots, facts.clone()).unwrap_err().to_string();
    assert!(
        error.ends_with(
            "given the pod CIDR 10.10.7.0/24, and this machine runs with 10.10.255.0/24: restart it"
        ),
        "{error}"
    );
    assert_eq!(given_range::recall(root, &facts).unwrap(), "10.10.7.0/24".parse().ok());
}
