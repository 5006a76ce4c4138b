//! What the programs of a node do at the API: the kubelet (1.20: `pkg/kubelet/kubelet_node_status.go`, `nodelease`,
//! and the informers that it starts), kube-proxy and the agent, at their rates.

use std::io::{BufRead, BufReader};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::Rng;
use serde_json::Value;

use super::node::{Simulated, heartbeat};
use super::seen::Seen;

/// A kubelet renews its Lease so often (a quarter of its 40 s), and as often looks whether its status changed
/// (`nodeStatusUpdateFrequency`).
const KUBELET: Duration = Duration::from_secs(10);
/// It writes a status in which nothing changed so often (`nodeStatusReportFrequency`).
const REPORT: Duration = Duration::from_secs(300);
/// The agent's balancer looks at an API server so often (docs/agent.md).
const BALANCER: Duration = Duration::from_secs(5);
/// A kubelet's pauses are longer by up to this share (`JitterUntil` with 0.04).
const JITTER: f64 = 0.04;
/// Watches last so many seconds (`minWatchTimeout` of client-go: five minutes, to twice that).
const WATCH_SECONDS: std::ops::Range<u64> = 300..600;
/// How long a request may take; a kubelet gives its Lease as long.
const LIMIT: Duration = Duration::from_secs(10);
/// Pause after something failed.
const PAUSE: Duration = Duration::from_secs(1);
/// Threads of a node wait most of the time, and call little.
const STACK_BYTES: usize = 512 << 10;

/// What is watched: by the kubelet, by kube-proxy, by the agent. `{node}` is the node's name.
const WATCHED: [&str; 9] = [
    "/api/v1/pods?fieldSelector=spec.nodeName%3D{node}",
    "/api/v1/nodes?fieldSelector=metadata.name%3D{node}",
    "/api/v1/services?",
    "/apis/node.k8s.io/v1/runtimeclasses?",
    "/apis/storage.k8s.io/v1/csidrivers?",
    "/api/v1/services?labelSelector=!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name",
    "/apis/discovery.k8s.io/v1beta1/endpointslices?labelSelector=!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name",
    "/api/v1/nodes?",
    "/api/v1/namespaces/default/endpoints?fieldSelector=metadata.name%3Dkubernetes",
];
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

/// A node's way to the API, and what is seen there.
#[derive(Clone)]
pub struct Client {
    /// Who shows the node's certificate.
    pub agent: ureq::Agent,
    /// `https://127.0.0.1:40001`
    pub server: String,
    /// Shared by all nodes.
    pub seen: Arc<Seen>,
    /// The programs are to end.
    pub ended: Arc<AtomicBool>,
}

/// Starts a node's programs, which go on until they are to end: threads that nobody waits for, as a watch ends with
/// the machine.
///
/// # Errors
/// The system refuses a thread.
pub fn start(node: &Simulated, client: &Client) -> std::io::Result<()> {
    let spawn = |work: Box<dyn FnOnce() + Send>| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES).name(node.name.clone());
        thread.spawn(work).map(drop)
    };
    let (own, api) = (node.clone(), client.clone());
    spawn(Box::new(move || lease(&own, &api)))?;
    let (own, api) = (node.clone(), client.clone());
    spawn(Box::new(move || status(&own, &api)))?;
    let api = client.clone();
    spawn(Box::new(move || api.again_and_again(BALANCER, || api.look())))?;
    for path in WATCHED {
        let (path, api) = (path.replace("{node}", &node.name), client.clone());
        spawn(Box::new(move || api.follow(&path)))?;
    }
    Ok(())
}

fn lease(node: &Simulated, api: &Client) {
    let path = format!("{LEASES}/{}", node.name);
    let mut known: Option<Value> = None;
    api.again_and_again(KUBELET, || {
        let body = node.lease(known.as_ref()).to_string();
        known = match &known {
            Some(_) => api.request("PUT", &path, JSON, &body),
            None => api.request("POST", LEASES, JSON, &body),
        }
        // Somebody else wrote it, or an answer was lost: what there is is read.
        .or_else(|| api.request("GET", &path, JSON, ""));
    });
}

fn status(node: &Simulated, api: &Client) {
    let path = format!("/api/v1/nodes/{}", node.name);
    let mut reported: Option<Instant> = None;
    api.again_and_again(KUBELET, || {
        if reported.is_none() {
            // The first time it registers, unless an answer was lost.
            let registered = api.request("POST", "/api/v1/nodes", JSON, &node.node().to_string());
            reported = registered.or_else(|| api.request("GET", &path, JSON, "")).map(|_| Instant::now());
            return;
        }
        // From the API server's memory.
        api.request("GET", &format!("{path}?resourceVersion=0"), JSON, "");
        if reported.is_some_and(|at| at.elapsed() >= REPORT) {
            let patched =
                api.request("PATCH", &format!("{path}/status"), STRATEGIC, &heartbeat().to_string());
            reported = patched.map(|_| Instant::now()).or(reported);
        }
    });
}

const JSON: &str = "application/json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

impl Client {
    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Does something at once, and again after each pause.
    fn again_and_again(&self, pause: Duration, mut work: impl FnMut()) {
        while !self.has_ended() {
            work();
            std::thread::sleep(pause.mul_f64(1.0 + JITTER * rand::rng().random::<f64>()));
        }
    }

    /// A request that is counted; its answer, if that is a success.
    fn request(&self, method: &str, path: &str, kind: &str, body: &str) -> Option<Value> {
        let begin = Instant::now();
        let answer = self.send(method, path, kind, body);
        if self.has_ended() {
            return None;
        }
        self.seen.request(begin.elapsed());
        match answer {
            Ok(value) => Some(value),
            Err(reason) => {
                self.seen.failure(format!("{method} {}: {reason}", kind_of(path)));
                None
            }
        }
    }

    fn send(&self, method: &str, path: &str, kind: &str, body: &str) -> Result<Value, String> {
        let url = format!("{}{path}", self.server);
        let answer = match method {
            "GET" => self.agent.get(url).config().timeout_global(Some(LIMIT)).build().call(),
            _ => {
                let request = match method {
                    "PUT" => self.agent.put(url),
                    "PATCH" => self.agent.patch(url),
                    _ => self.agent.post(url),
                };
                let request = request.content_type(kind);
                request.config().timeout_global(Some(LIMIT)).build().send(body)
            }
        };
        let mut response = answer.map_err(|error| error.to_string())?;
        let text = response.body_mut().read_to_string().map_err(|error| error.to_string())?;
        let status = response.status();
        let value: Value = serde_json::from_str(&text).unwrap_or_default();
        if status.is_success() {
            return Ok(value);
        }
        Err(format!("status {}: {}", status.as_u16(), value["message"].as_str().unwrap_or(&text)))
    }

    /// What the balancer asks; it is no request of a user, and would make the others look better.
    fn look(&self) {
        let request = self.agent.get(format!("{}/readyz", self.server));
        let answer = request.config().timeout_global(Some(LIMIT)).build().call();
        let answer =
            answer.and_then(|mut response| response.body_mut().read_to_string().map(|_| response.status()));
        if self.has_ended() {
            return;
        }
        match answer {
            Ok(status) if status.is_success() => {}
            Ok(status) => self.seen.failure(format!("GET /readyz: status {}", status.as_u16())),
            Err(error) => self.seen.failure(format!("GET /readyz: {error}")),
        }
    }

    /// Lists and watches, again when a watch ends.
    fn follow(&self, path: &str) {
        while !self.has_ended() {
            let list = self.request("GET", &format!("{path}&resourceVersion=0"), JSON, "");
            let version = list.as_ref().and_then(|list| list["metadata"]["resourceVersion"].as_str());
            let watched = version.map(|version| self.watch(path, version));
            if self.has_ended() {
                return;
            }
            if let Some(Err(reason)) = &watched {
                self.seen.failure(format!("watch {}: {reason}", kind_of(path)));
            }
            if !matches!(watched, Some(Ok(()))) {
                std::thread::sleep(PAUSE);
            }
        }
    }

    fn watch(&self, path: &str, version: &str) -> Result<(), String> {
        let seconds = rand::rng().random_range(WATCH_SECONDS);
        let url = format!("{}{path}&watch=1&resourceVersion={version}&timeoutSeconds={seconds}", self.server);
        let request =
            self.agent.get(url).config().timeout_connect(Some(LIMIT)).timeout_recv_response(Some(LIMIT));
        let response = request.build().call().map_err(|error| error.to_string())?;
        if !response.status().is_success() {
            return Err(format!("status {}", response.status().as_u16()));
        }
        for line in BufReader::new(response.into_body().into_reader()).lines() {
            line.map_err(|error| error.to_string())?;
            if self.has_ended() {
                break;
            }
        }
        Ok(())
    }
}

/// `/api/v1/nodes` of `/api/v1/nodes/simulated-1/status?…`: failures of all nodes are one.
fn kind_of(path: &str) -> String {
    let path = path.split('?').next().unwrap_or(path);
    path.split('/').filter(|part| !part.starts_with("simulated-")).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_all_nodes_are_one() {
        assert_eq!(kind_of("/api/v1/nodes/simulated-7/status?x=1"), "/api/v1/nodes/status");
        assert_eq!(kind_of("/api/v1/services?"), "/api/v1/services");
    }

    #[test]
    fn every_watched_path_can_be_added_to() {
        assert!(WATCHED.iter().all(|path| path.contains('?')));
    }
}
