//! An API server in memory: Nodes and one Lease, of which every write counts for one version only. A call is answered when
//! the test says so, or never, and arrives whenever the test says so.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// Nodes in one answer, however many are asked for.
const PAGE: usize = 2;
const NODES: &str = "/api/v1/nodes";

/// A call that has not arrived.
pub struct Call {
    /// Number of the agent that made it.
    pub agent: usize,
    /// What it would do.
    pub method: Method,
    path: String,
    query: String,
    body: Value,
    reply: Option<oneshot::Sender<(u16, Value)>>,
}

impl Call {
    /// Whether somebody waits for the answer.
    pub fn is_awaited(&self) -> bool {
        self.reply.as_ref().is_some_and(|reply| !reply.is_closed())
    }

    /// The caller is told that the connection is lost; the call may be under way still.
    pub fn cut(&mut self) {
        self.reply = None;
    }
}

/// What there is, and what is under way.
#[derive(Default)]
pub struct Server {
    /// By name.
    pub nodes: BTreeMap<String, Value>,
    /// In the order in which they were made.
    pub calls: Vec<Call>,
    lease: Option<Value>,
    version: u64,
    /// Lists that were begun, by what their continuation is called.
    lists: BTreeMap<String, Vec<Value>>,
}

/// Shared by the test and the clients.
pub type Shared = Arc<Mutex<Server>>;

/// A client of the agent with this number.
pub fn client(server: &Shared, agent: usize) -> Client {
    let server = Arc::clone(server);
    let service = tower::service_fn(move |request: Request<Body>| {
        let server = Arc::clone(&server);
        async move {
            let (head, body) = request.into_parts();
            let body = serde_json::from_slice(&body.collect_bytes().await?).unwrap_or_default();
            let (reply, answer) = oneshot::channel();
            server.lock().unwrap().calls.push(Call {
                agent,
                method: head.method,
                path: head.uri.path().to_owned(),
                query: head.uri.query().unwrap_or_default().to_owned(),
                body,
                reply: Some(reply),
            });
            let (status, answer) = answer.await?;
            let mut response = Response::new(Body::from(answer.to_string().into_bytes()));
            *response.status_mut() = StatusCode::from_u16(status)?;
            Ok::<_, Box<dyn Error + Send + Sync>>(response)
        }
    });
    Client::new(service, "default")
}

impl Server {
    /// A call arrives, and its answer gets to who waits for it.
    pub fn arrive(&mut self, mut call: Call) {
        let answer = self.answer(&call);
        if let Some(reply) = call.reply.take() {
            // Nobody waits any more where the agent was ended.
            let _ = reply.send(answer);
        }
    }

    /// Makes a Node, or changes it: in a version of its own in any case.
    pub fn put(&mut self, name: &str, mut node: Value) {
        node["metadata"]["name"] = name.into();
        node["metadata"]["resourceVersion"] = self.next();
        self.nodes.insert(name.to_owned(), node);
    }

    fn next(&mut self) -> Value {
        self.version += 1;
        self.version.to_string().into()
    }

    fn answer(&mut self, call: &Call) -> (u16, Value) {
        let name = call.path.strip_prefix(NODES).map(|rest| rest.trim_start_matches('/'));
        match (name, &call.method) {
            (Some(""), &Method::GET) => (200, self.list(&call.query)),
            (Some(name), &Method::GET) => {
                self.nodes.get(name).cloned().map_or(refused(404), |node| (200, node))
            }
            (Some(name), &Method::PATCH) => self.patch(name, &call.body),
            (None, &Method::GET) => self.lease.clone().map_or(refused(404), |lease| (200, lease)),
            (None, &Method::POST) if self.lease.is_some() => refused(409),
            (None, &Method::POST) => self.write(&call.body),
            (None, &Method::PUT) => match &self.lease {
                None => refused(404),
                Some(lease) if version(lease) != version(&call.body) => refused(409),
                Some(_) => self.write(&call.body),
            },
            _ => panic!("no agent calls {} {}", call.method, call.path),
        }
    }

    fn write(&mut self, lease: &Value) -> (u16, Value) {
        let mut lease = lease.clone();
        lease["metadata"]["resourceVersion"] = self.next();
        self.lease = Some(lease.clone());
        (200, lease)
    }

    /// A merge patch of a version, as that of a range is; a range that is set stays.
    fn patch(&mut self, name: &str, patch: &Value) -> (u16, Value) {
        let Some(mut node) = self.nodes.get(name).cloned() else { return refused(404) };
        if version(&node) != version(patch) {
            return refused(409);
        }
        if !node["spec"]["podCIDRs"].is_null() {
            return refused(422);
        }
        node["spec"] = patch["spec"].clone();
        self.put(name, node);
        (200, self.nodes[name].clone())
    }

    /// Further pages are of the moment of the first.
    fn list(&mut self, query: &str) -> Value {
        let token = query.split('&').find_map(|part| part.strip_prefix("continue="));
        let mut rest = match token {
            Some(token) => self.lists.remove(token).unwrap(),
            None => self.nodes.values().cloned().collect(),
        };
        let more = rest.split_off(rest.len().min(PAGE));
        let mut metadata = json!({ "resourceVersion": self.version.to_string() });
        if !more.is_empty() {
            let token = format!("list{}", self.next().as_str().unwrap_or_default());
            metadata["continue"] = token.as_str().into();
            self.lists.insert(token, more);
        }
        json!({ "apiVersion": "v1", "kind": "NodeList", "metadata": metadata, "items": rest })
    }
}

fn version(object: &Value) -> &Value {
    &object["metadata"]["resourceVersion"]
}

fn refused(code: u16) -> (u16, Value) {
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        _ => "Invalid",
    };
    let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                         "message": "refused", "reason": reason, "code": code });
    (code, status)
}
