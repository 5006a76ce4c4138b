//! The virtual address with the real API server: agents of two control planes, one address.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bootwright_model::agent::{LEASE_NAMESPACE, VIRTUAL_IP_LEASE};
use serde_json::{Value, json};

use super::JSON;
use super::cluster::{Cluster, Identity};
use super::programs::{self, eventually};

const ADDRESS: &str = "10.20.0.9";
/// Generous: another test may have the processors.
const PATIENCE: Duration = Duration::from_secs(300);

#[test]
fn one_control_plane_at_a_time_has_the_virtual_address() {
    if !programs::inside_namespace("vip::one_control_plane_at_a_time_has_the_virtual_address") {
        return;
    }
    let mut cluster = Cluster::start();
    cluster.apply_bootstrap();
    for node in ["cp1", "cp2"] {
        programs::ip(&format!("link add {node} type veth peer name {node}-cable"));
        programs::ip(&format!("link set dev {node} up"));
        programs::ip(&format!("link set dev {node}-cable up"));
    }
    let watch = Watch::start();

    start(&mut cluster, "cp1");
    eventually_at(&["cp1"]);
    assert_eq!(holder(&cluster), "cp1");
    start(&mut cluster, "cp2");
    eventually("cp2 waits", PATIENCE, || cluster.said("agent-cp2").contains("10.20.0.9 is held by cp1"));

    // One that is stopped gives it back, and the other need not wait until it runs out.
    cluster.terminate("agent-cp1");
    assert!(cluster.said("agent-cp1").contains("vip: given back"), "{}", cluster.said("agent-cp1"));
    eventually_at(&["cp2"]);

    // One that is killed gives nothing back.
    start(&mut cluster, "cp1");
    cluster.kill("agent-cp2");
    eventually_at(&["cp1"]);
    assert_eq!(lease(&cluster)["spec"]["leaseTransitions"], 2);
    rights(&cluster);

    // Without an API server that serves, there is nothing to come for.
    cluster.kill("kube-apiserver");
    eventually_at(&[]);
    watch.end();
}

/// The agent of a control plane whose link has its name.
fn start(cluster: &mut Cluster, node: &str) {
    let mut facts = cluster.facts().clone();
    facts.name = node.to_owned();
    facts.link = node.to_owned();
    facts.layer.file.cluster.virtual_ip = Some(ADDRESS.parse().unwrap());
    cluster.run_agent_of(&facts);
}

/// Only this Lease, and nobody takes it away.
fn rights(cluster: &Cluster) {
    let agent = Identity::Certificate("agent");
    let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{LEASE_NAMESPACE}/leases");
    let status = |method: &str, name: &str| {
        let body =
            json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": name } });
        let body = body.to_string();
        cluster.call(&agent, method, &format!("{leases}/{name}"), JSON, Some(body.as_bytes())).0
    };
    assert_eq!(status("GET", VIRTUAL_IP_LEASE), 200);
    assert_eq!(status("DELETE", VIRTUAL_IP_LEASE), 403);
    assert_eq!(status("GET", "kube-controller-manager"), 403);
    assert_eq!(status("PUT", "kube-controller-manager"), 403);
}

fn lease(cluster: &Cluster) -> Value {
    let path = format!("/apis/coordination.k8s.io/v1/namespaces/{LEASE_NAMESPACE}/leases/{VIRTUAL_IP_LEASE}");
    cluster.get(&Identity::Certificate("admin"), &path)
}

fn holder(cluster: &Cluster) -> String {
    lease(cluster)["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
}

/// Links that have the address.
fn links() -> Vec<String> {
    let output = Command::new("ip").args(["-j", "address", "show"]).output().expect("ip of iproute2 runs");
    let shown: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let has =
        |link: &&Value| link["addr_info"].as_array().into_iter().flatten().any(|one| one["local"] == ADDRESS);
    shown.iter().filter(has).map(|link| link["ifname"].as_str().unwrap().to_owned()).collect()
}

fn eventually_at(wanted: &[&str]) {
    eventually(&format!("{ADDRESS} is on {wanted:?}"), PATIENCE, || links() == wanted);
}

/// Looks all the time whether two have it.
struct Watch {
    over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Watch {
    fn start() -> Watch {
        let over = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            while !asked.load(Ordering::Relaxed) {
                let links = links();
                assert!(links.len() <= 1, "two have it: {links:?}");
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Watch { over, thread }
    }

    fn end(self) {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("never two of them had the address");
    }
}
