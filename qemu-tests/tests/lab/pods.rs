//! Pods on several nodes, and whether they reach each other.

use std::time::{Duration, Instant};

use bootwright::lab::api::Api;
use serde_json::{Value, json};

/// The image of the examples, which has busybox and nothing else.
const IMAGE: &str = "bootwright.local/web:1";
const PROGRAM: &str = "/usr/bin/busybox";
const PORT: u16 = 8080;
const DAEMON_SETS: &str = "/apis/apps/v1/namespaces/default/daemonsets";

/// Runs a web server on each of `nodes` and, on each too, a pod that is ready when it reaches all of these and
/// their Service; waits until every one is. The API server reaches them as well, from a node that runs none.
/// Called again, it looks whether that is still so.
///
/// # Panics
/// It is not so at the deadline.
pub fn reach_each_other(api: &Api, nodes: &[&str], deadline: Instant) {
    // They are there already the second time.
    let _ = api
        .post(DAEMON_SETS, &daemon_set("web", &["httpd", "-f", "-p", "8080", "-h", "/srv/www"], &at_home()));
    let servers = ready_pods(api, "web", nodes, deadline);
    let service = service_address(api);
    let mut targets: Vec<String> =
        servers.iter().map(|pod| format!("{} {PORT}", text(&pod["status"]["podIP"]))).collect();
    targets.push(format!("{service} 80"));
    // A new one each time: addresses change when a node has booted again.
    let name = format!(
        "reach-{}",
        targets.concat().bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31) + u32::from(byte))
    );
    let connect: Vec<String> = targets.iter().map(|target| format!("{PROGRAM} nc -w 3 {target}")).collect();
    // Seldom: each look is a process in the container, which takes an emulated machine seconds.
    let probe = json!({ "exec": { "command": [PROGRAM, "sh", "-c", connect.join(" && ")] },
                        "periodSeconds": 30, "timeoutSeconds": 30 });
    let _ = api.post(DAEMON_SETS, &daemon_set(&name, &["sleep", "1000000"], &probe));
    ready_pods(api, &name, nodes, deadline);
    println!("on each of {} a pod reaches {}", nodes.join(", "), targets.join(", "));
    for pod in servers {
        let path =
            format!("/api/v1/namespaces/default/pods/{}:{PORT}/proxy/", text(&pod["metadata"]["name"]));
        let page = api.text(&path).unwrap();
        assert!(page.contains("<title>"), "{path}: {page}");
    }
}

/// Waits until the web server's container on `node` runs in a boot of the machine after the first. Until the
/// kubelet has looked at the pod, the API shows it as it was before.
///
/// # Panics
/// It does not at the deadline.
pub fn started_again(api: &Api, node: &str, deadline: Instant) {
    loop {
        let pods = ready_pods(api, "web", &[], deadline);
        let mut here = pods.iter().filter(|pod| pod["spec"]["nodeName"] == node);
        if here.any(|pod| pod["status"]["containerStatuses"][0]["restartCount"].as_u64() > Some(0)) {
            return;
        }
        assert!(Instant::now() < deadline, "the web server on {node} was not started again: {pods:?}");
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn at_home() -> Value {
    json!({ "httpGet": { "path": "/", "port": PORT }, "periodSeconds": 1 })
}

fn daemon_set(name: &str, command: &[&str], probe: &Value) -> String {
    let command: Vec<&str> = std::iter::once(PROGRAM).chain(command.iter().copied()).collect();
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": { "name": name },
        "spec": {
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{ "name": "busybox", "image": IMAGE, "imagePullPolicy": "Never",
                                     "command": command, "readinessProbe": probe }],
                },
            },
        },
    })
    .to_string()
}

fn service_address(api: &Api) -> String {
    let services = "/api/v1/namespaces/default/services";
    let wanted = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
        "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80, "targetPort": PORT }] },
    });
    let made = api.post(services, &wanted.to_string());
    let service = made.or_else(|_| api.get(&format!("{services}/web"))).unwrap();
    text(&service["spec"]["clusterIP"]).to_owned()
}

/// The ready pods of an application, when there is one on each of `nodes` at least.
fn ready_pods(api: &Api, application: &str, nodes: &[&str], deadline: Instant) -> Vec<Value> {
    loop {
        let pods = api.get(&format!("/api/v1/namespaces/default/pods?labelSelector=app%3D{application}"));
        let pods = pods.map(|pods| pods["items"].as_array().cloned().unwrap_or_default());
        let ready: Vec<Value> = pods.iter().flatten().filter(|pod| is_ready(pod)).cloned().collect();
        let covered = |node: &&str| ready.iter().any(|pod| pod["spec"]["nodeName"] == **node);
        if nodes.iter().all(covered) {
            return ready;
        }
        assert!(Instant::now() < deadline, "{application} is not ready on {nodes:?}: {pods:?}");
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|one| one["type"] == "Ready" && one["status"] == "True")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}
