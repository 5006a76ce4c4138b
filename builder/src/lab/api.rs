//! The API server of a machine, over HTTPS: what is asked often or watched, without a process each time.

use std::io::{BufRead, BufReader};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use ureq::RequestBuilder;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};
use ureq::typestate::WithBody;

use super::Error;
use super::kubeconfig::Kubeconfig;
use super::readiness::{Readiness, event, follow};

/// How long one request may take; a request to a guest that is not up yet hangs until then.
const REQUEST: Duration = Duration::from_secs(10);
/// The Nodes.
const NODES: &str = "/api/v1/nodes";
/// Pause between attempts while the API server is not there.
const PAUSE: Duration = Duration::from_millis(500);

/// A client with the rights of the kubeconfig.
#[derive(Clone)]
pub struct Api {
    agent: ureq::Agent,
    server: String,
}

impl Api {
    /// A client for the server that the kubeconfig names. Nothing is asked yet.
    ///
    /// # Errors
    /// The kubeconfig's certificates cannot be used.
    pub fn new(kubeconfig: &Kubeconfig) -> Result<Api, Error> {
        let server = kubeconfig.server()?.to_owned();
        let agent = agent(&kubeconfig.authority()?, &kubeconfig.certificate()?, &kubeconfig.key()?);
        let agent =
            agent.map_err(|reason| Error::Api { address: server.clone(), reason: reason.to_string() })?;
        Ok(Api { agent, server })
    }

    /// The object or list at `path`: `/api/v1/nodes`.
    ///
    /// # Errors
    /// No answer within 10 s, or another status than 200, with the server's message.
    pub fn get(&self, path: &str) -> Result<Value, Error> {
        let text = self.text(path)?;
        serde_json::from_str(&text).map_err(|error| self.error(path, format!("not JSON: {error}")))
    }

    /// What is at `path`, as text.
    ///
    /// # Errors
    /// As [`Api::get`].
    pub fn text(&self, path: &str) -> Result<String, Error> {
        let request = self.agent.get(format!("{}{path}", self.server));
        let request = request.config().timeout_global(Some(REQUEST)).build();
        let mut response = request.call().map_err(|error| self.error(path, error.to_string()))?;
        let body =
            response.body_mut().read_to_string().map_err(|error| self.error(path, error.to_string()))?;
        self.check_status(path, response.status().as_u16(), &body)?;
        Ok(body)
    }

    /// Sends `body`, JSON, to `path` and returns the answer.
    ///
    /// # Errors
    /// As [`Api::get`], for any status but those of success.
    pub fn post(&self, path: &str, body: &str) -> Result<Value, Error> {
        self.send(self.agent.post(format!("{}{path}", self.server)), "application/json", path, body)
    }

    /// Changes the object at `path` by a merge patch (RFC 7386), and returns it.
    ///
    /// # Errors
    /// As [`Api::post`].
    pub fn patch(&self, path: &str, body: &str) -> Result<Value, Error> {
        let request = self.agent.patch(format!("{}{path}", self.server));
        self.send(request, "application/merge-patch+json", path, body)
    }

    fn send(
        &self,
        request: RequestBuilder<WithBody>,
        content_type: &str,
        path: &str,
        body: &str,
    ) -> Result<Value, Error> {
        let request = request.content_type(content_type).config().timeout_global(Some(REQUEST)).build();
        let mut response = request.send(body).map_err(|error| self.error(path, error.to_string()))?;
        let body =
            response.body_mut().read_to_string().map_err(|error| self.error(path, error.to_string()))?;
        self.check_status(path, response.status().as_u16(), &body)?;
        serde_json::from_str(&body).map_err(|error| self.error(path, format!("not JSON: {error}")))
    }

    /// Waits until the node's `Ready` condition is true in the boot `boot_id` and returns when that was. The
    /// node is watched, not asked again and again: a guest without acceleration has nothing to spare for it.
    ///
    /// # Errors
    /// It was not by `deadline`; with what stood in the way last.
    pub fn node_ready(&self, node: &str, boot_id: &str, deadline: Instant) -> Result<Instant, Error> {
        let mut obstacle = "the API server does not answer".to_owned();
        while Instant::now() < deadline {
            let outcome = self.watch_node(node, boot_id, deadline, &mut |readiness| {
                obstacle = format!("node {node} {readiness}");
            });
            match outcome {
                Ok(Readiness::Ready) => return Ok(Instant::now()),
                Ok(_) => {}
                // At the deadline we break it off ourselves: what was seen before stands in the way, not that.
                Err(_) if Instant::now() >= deadline => break,
                Err(error) => obstacle = error.to_string(),
            }
            std::thread::sleep(PAUSE.min(left_until(deadline)));
        }
        Err(self.error(&format!("/api/v1/nodes/{node}"), obstacle))
    }

    /// Follows the node until it is Ready, the stream ends, or it is `deadline`. `seen` is told each thing that
    /// the node says.
    fn watch_node(
        &self,
        node: &str,
        boot_id: &str,
        deadline: Instant,
        seen: &mut dyn FnMut(Readiness),
    ) -> Result<Readiness, Error> {
        let left = left_until(deadline);
        let path = format!(
            "/api/v1/nodes?watch=1&fieldSelector=metadata.name%3D{node}&timeoutSeconds={}",
            left.as_secs().max(1)
        );
        let events = self.stream(&path, left)?;
        follow(events, boot_id, seen).map_err(|reason| self.error(&path, reason))
    }

    /// All Nodes, and the version of the list to watch from.
    ///
    /// # Errors
    /// As [`Api::get`].
    pub fn nodes(&self) -> Result<(Vec<Value>, String), Error> {
        let mut list = self.get(NODES)?;
        let version = list["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
        match list["items"].take() {
            Value::Array(nodes) => Ok((nodes, version)),
            _ => Err(self.error(NODES, "not a list".to_owned())),
        }
    }

    /// Follows the Nodes from a version of their list on, for as long as `limit`. `each` is told whether a Node was
    /// deleted, and the Node; it says whether to go on.
    ///
    /// # Errors
    /// No answer, a stream that breaks off, or a version that is too old.
    pub fn watch_nodes(
        &self,
        version: &str,
        limit: Duration,
        mut each: impl FnMut(bool, Value) -> bool,
    ) -> Result<(), Error> {
        let seconds = limit.as_secs().max(1);
        let path = format!("{NODES}?watch=1&resourceVersion={version}&timeoutSeconds={seconds}");
        let events = self.stream(&path, limit + REQUEST)?;
        for line in events.lines() {
            let line = line.map_err(|error| self.error(&path, error.to_string()))?;
            let (deleted, node) = event(&line).map_err(|reason| self.error(&path, reason))?;
            if !each(deleted, node) {
                break;
            }
        }
        Ok(())
    }

    /// The lines of an answer that goes on for as long as `limit`.
    fn stream(&self, path: &str, limit: Duration) -> Result<impl BufRead + use<>, Error> {
        let request = self.agent.get(format!("{}{path}", self.server));
        // The answer begins at once; what is watched for may take its time.
        let request = request.config().timeout_connect(Some(REQUEST)).timeout_recv_response(Some(REQUEST));
        let request = request.timeout_global(Some(limit)).build();
        let mut response = request.call().map_err(|error| self.error(path, error.to_string()))?;
        let status = response.status().as_u16();
        if status != 200 {
            let body = response.body_mut().read_to_string().unwrap_or_default();
            self.check_status(path, status, &body)?;
        }
        Ok(BufReader::new(response.into_body().into_reader()))
    }

    fn check_status(&self, path: &str, status: u16, body: &str) -> Result<(), Error> {
        if (200..300).contains(&status) {
            return Ok(());
        }
        // The server explains itself in a Status object; anything else is shown as it is.
        let message = serde_json::from_str::<Value>(body)
            .ok()
            .and_then(|status| status["message"].as_str().map(str::to_owned))
            .unwrap_or_else(|| body.chars().take(200).collect());
        Err(self.error(path, format!("status {status}: {message}")))
    }

    fn error(&self, path: &str, reason: String) -> Error {
        Error::Api { address: format!("{}{path}", self.server), reason }
    }
}

/// An HTTP client that trusts an authority and shows a certificate, all PEM. Statuses are no errors to it.
///
/// # Errors
/// One of them cannot be used.
pub fn agent(authority: &[u8], certificate: &[u8], key: &[u8]) -> Result<ureq::Agent, ureq::Error> {
    let authority = Certificate::from_pem(authority)?;
    let own = ClientCert::new_with_certs(&[Certificate::from_pem(certificate)?], PrivateKey::from_pem(key)?);
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(vec![authority])))
        .client_cert(Some(own))
        .build();
    let config = ureq::Agent::config_builder().tls_config(tls);
    // The machine's proxy has no business on loopback.
    Ok(config.proxy(None).http_status_as_error(false).build().into())
}

fn left_until(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

#[cfg(test)]
mod tests {
    use super::super::readiness::tests::{BEFORE, NOW, events, node};
    use super::*;

    /// A server on loopback that answers each request with `answer` and keeps the connection; the client of it.
    fn server(answer: String) -> Api {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(answer.as_bytes());
                kept.push(stream);
            }
        });
        let agent = ureq::Agent::config_builder().proxy(None).http_status_as_error(false).build().into();
        Api { agent, server }
    }

    fn in_vain(api: &Api) -> String {
        let begin = Instant::now();
        let error = api.node_ready("cp1", NOW, begin + Duration::from_secs(1)).unwrap_err().to_string();
        assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
        error
    }

    #[test]
    fn at_the_deadline_the_last_obstacle_is_told_not_the_end_of_the_wait() {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n";
        let watch = events(&[("ADDED", node(BEFORE, "True")), ("MODIFIED", node(NOW, "False"))]);
        let error = in_vain(&server(format!("{head}{watch}")));
        assert!(error.ends_with("/api/v1/nodes/cp1: node cp1 is not Ready"), "{error}");
        // A server that takes the connection and says nothing.
        let error = in_vain(&server(String::new()));
        assert!(error.ends_with("the API server does not answer"), "{error}");
        let refused = "HTTP/1.1 403 Forbidden\r\nContent-Length: 20\r\n\r\n{\"message\": \"no\"}   ";
        let error = in_vain(&server(refused.to_owned()));
        assert!(error.ends_with("status 403: no"), "{error}");
    }
}
