//! The agent against the real API server: its balancer, and who gets a certificate.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::{Value, json};

use super::cluster::{Cluster, Identity};
use super::{JSON, programs};

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
/// Port of the balancer, and of its health.
const BALANCER: u16 = bootwright_model::agent::BALANCER_PORT;
const HEALTH: u16 = bootwright_model::agent::HEALTH_PORT;
/// Generous: another test may have the processors.
const PATIENCE: Duration = Duration::from_secs(300);

#[test]
fn the_agent_balances_and_approves() {
    if !programs::inside_namespace("agent::the_agent_balances_and_approves") {
        return;
    }
    let mut cluster = Cluster::start();
    cluster.apply_bootstrap();
    // All of 10.20.0.0/24 is this machine: under the other address the same API server answers, with a
    // certificate that does not name it.
    cluster.start_agent(&["10.20.0.99/24"]);
    balancer(&cluster);
    rights(&cluster);
    let w1 = joining(&cluster);
    serving(&cluster, &w1);
    api_server_that_is_gone(&mut cluster);
}

fn healthz() -> Option<String> {
    let agent = ureq::Agent::config_builder().proxy(None).build().new_agent();
    agent.get(format!("http://127.0.0.1:{HEALTH}/healthz")).call().ok()?.body_mut().read_to_string().ok()
}

fn eventually_healthz(line: &str) {
    programs::eventually(line, PATIENCE, || healthz().is_some_and(|text| text.contains(line)));
}

/// The baked control plane is none; the real one is learnt from the API.
fn balancer(cluster: &Cluster) {
    eventually_healthz("10.20.0.99:6443 unreachable: invalid peer certificate");
    eventually_healthz("10.20.0.10:6443 healthy");
    let (status, node) =
        cluster.call_at(BALANCER, &Identity::Certificate("admin"), "GET", "/api/v1/nodes/cp1", JSON, None);
    assert_eq!((status, &node["metadata"]["name"]), (200, &json!("cp1")));
    let v6 = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, BALANCER));
    assert!(std::net::TcpStream::connect(v6).is_ok());
}

/// No more than it needs.
fn rights(cluster: &Cluster) {
    let agent = Identity::Certificate("agent");
    let status = |method: &str, path: &str| cluster.call(&agent, method, path, JSON, None).0;
    assert_eq!(status("GET", REQUESTS), 200);
    assert_eq!(status("GET", "/api/v1/nodes/cp1"), 200);
    assert_eq!(status("GET", "/api/v1/nodes"), 200);
    assert_eq!(status("PATCH", "/api/v1/nodes/cp1"), 403);
    let endpoints = |name: &str| {
        status("GET", &format!("/api/v1/namespaces/default/endpoints?fieldSelector=metadata.name%3D{name}"))
    };
    assert_eq!(endpoints("kubernetes"), 200);
    assert_eq!(endpoints("other"), 403);
    assert_eq!(status("GET", "/api/v1/namespaces/default/endpoints"), 403);
    assert_eq!(status("GET", "/api/v1/secrets"), 403);
    assert_eq!(status("DELETE", "/api/v1/nodes/cp1"), 403);
    assert_eq!(status("DELETE", &format!("{REQUESTS}/x")), 403);
}

/// A machine with the bootstrap token becomes the node that the inventory has, and no other.
fn joining(cluster: &Cluster) -> Identity {
    let token = Identity::Token(cluster.bootstrap_token());
    let client = "kubernetes.io/kube-apiserver-client-kubelet";
    let usages = ["digital signature", "key encipherment", "client auth"];
    let ask = |name: &str, node: &str| ask(cluster, &token, name, client, &usages, node, &[]);
    ask("stranger", "w9");
    ask("pretender", "cp1");
    let key = ask("w1", "w1");
    let certificate = issued(cluster, "w1");
    assert_eq!(condition(cluster, "pretender"), "Denied");
    // Left to a person: undecided, and the log says why.
    assert_eq!(condition(cluster, "stranger"), "");
    assert!(cluster.said("agent").contains("the inventory has no such node"));

    let w1 = Identity::Pair(certificate, key);
    assert_eq!(cluster.call(&w1, "GET", "/api/v1/nodes", JSON, None).0, 200, "it is a node now");

    // Its Node is alive: a second machine of that name has to wait.
    let mut node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "w1" } });
    cluster.create(&w1, "/api/v1/nodes", &node);
    node["status"] = json!({ "conditions": [{ "type": "Ready", "status": "True", "reason": "x", "message": "x",
        "lastHeartbeatTime": "2026-11-25T00:00:00Z", "lastTransitionTime": "2026-11-25T00:00:00Z" }] });
    patch_status(cluster, &w1, &node);
    ask("double", "w1");
    programs::eventually("the second w1 waits", PATIENCE, || {
        cluster.said("agent").contains("double of system:bootstrap")
            && condition(cluster, "double").is_empty()
    });
    assert!(cluster.said("agent").contains("that node is alive"));
    w1
}

/// What a node calls itself, and nothing that is another's.
fn serving(cluster: &Cluster, w1: &Identity) {
    let ask = |name: &str, names: &[&str]| {
        let usages = ["digital signature", "key encipherment", "server auth"];
        ask(cluster, w1, name, "kubernetes.io/kubelet-serving", &usages, "w1", names)
    };
    ask("of-the-api", &["w1", "10.20.0.10"]);
    ask("of-a-service", &["kubernetes.default.svc"]);
    ask("of-the-api-in-16-bytes", &["w1", "::ffff:10.20.0.10"]);
    ask("further", &["w1", "10.20.0.11", "192.0.2.7"]);
    ask("serving", &["w1", "10.20.0.11"]);
    let certificate = issued(cluster, "serving");
    assert!(certificate.contains("BEGIN CERTIFICATE"));
    programs::eventually("bad ones are denied", PATIENCE, || {
        let denied = |name| condition(cluster, name) == "Denied";
        denied("of-the-api") && denied("of-the-api-in-16-bytes") && denied("of-a-service")
    });
    // Left to a person, whatever the node says of itself.
    let status = json!({ "status": { "addresses": [{ "type": "ExternalIP", "address": "192.0.2.7" }] } });
    patch_status(cluster, w1, &status);
    programs::eventually("the further address is left", PATIENCE, || {
        cluster.said("agent").contains("192.0.2.7 is not in the inventory")
    });
    assert_eq!(condition(cluster, "further"), "");
}

/// It is said that nobody answers, and what was known stays.
fn api_server_that_is_gone(cluster: &mut Cluster) {
    cluster.kill("kube-apiserver");
    eventually_healthz("10.20.0.10:6443 unreachable");
    programs::eventually("the watches end", PATIENCE, || {
        cluster.said("agent").contains("certificate requests cannot be read, what is known stays")
    });
}

/// Posts a request as the kubelet of `node` would; answers its key, PEM.
pub fn ask(
    cluster: &Cluster,
    who: &Identity,
    name: &str,
    signer: &str,
    usages: &[&str],
    node: &str,
    names: &[&str],
) -> String {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(DnType::CommonName, format!("system:node:{node}"));
    let key = KeyPair::generate().unwrap();
    let request = params.serialize_request(&key).unwrap().pem().unwrap();
    let object = json!({
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": { "name": name },
        "spec": { "request": STANDARD.encode(request), "signerName": signer, "usages": usages },
    });
    cluster.create(who, REQUESTS, &object);
    key.serialize_pem()
}

fn request(cluster: &Cluster, name: &str) -> Value {
    cluster.get(&Identity::Certificate("admin"), &format!("{REQUESTS}/{name}"))
}

/// The first condition's type; empty while it is undecided.
fn condition(cluster: &Cluster, name: &str) -> String {
    let object = request(cluster, name);
    object["status"]["conditions"][0]["type"].as_str().unwrap_or_default().to_owned()
}

/// Waits for the certificate, PEM.
pub fn issued(cluster: &Cluster, name: &str) -> String {
    let mut certificate = String::new();
    programs::eventually(&format!("{name} is approved and signed"), PATIENCE, || {
        let object = request(cluster, name);
        certificate = object["status"]["certificate"].as_str().unwrap_or_default().to_owned();
        !certificate.is_empty()
    });
    String::from_utf8(STANDARD.decode(certificate).unwrap()).unwrap()
}

fn patch_status(cluster: &Cluster, who: &Identity, change: &Value) {
    let body = change.to_string();
    let (status, answer) = cluster.call(
        who,
        "PATCH",
        "/api/v1/nodes/w1/status",
        "application/strategic-merge-patch+json",
        Some(body.as_bytes()),
    );
    assert_eq!(status, 200, "{answer}");
}
