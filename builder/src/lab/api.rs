//! The API server of a machine, over HTTPS: what is asked often or watched, without a process each time.

use std::io::{BufRead, BufReader};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use super::Error;
use super::kubeconfig::Kubeconfig;

/// How long one request may take; a request to a guest that is not up yet hangs until then.
const REQUEST: Duration = Duration::from_secs(10);
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
        let error = |reason: ureq::Error| Error::Api { address: server.clone(), reason: reason.to_string() };
        let authority = Certificate::from_pem(&kubeconfig.authority()?).map_err(error)?;
        let certificate = Certificate::from_pem(&kubeconfig.certificate()?).map_err(error)?;
        let key = PrivateKey::from_pem(&kubeconfig.key()?).map_err(error)?;
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(vec![authority])))
            .client_cert(Some(ClientCert::new_with_certs(&[certificate], key)))
            .build();
        let agent = ureq::Agent::config_builder()
            .tls_config(tls)
            // The machine's proxy has no business on loopback.
            .proxy(None)
            .http_status_as_error(false)
            .build()
            .into();
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
        let request = self.agent.post(format!("{}{path}", self.server)).content_type("application/json");
        let request = request.config().timeout_global(Some(REQUEST)).build();
        let mut response = request.send(body).map_err(|error| self.error(path, error.to_string()))?;
        let body =
            response.body_mut().read_to_string().map_err(|error| self.error(path, error.to_string()))?;
        self.check_status(path, response.status().as_u16(), &body)?;
        serde_json::from_str(&body).map_err(|error| self.error(path, format!("not JSON: {error}")))
    }

    /// Waits until the node's `Ready` condition is true and returns when that was. The node is watched,
    /// not asked again and again: a guest without acceleration has nothing to spare for it.
    /// The condition may be that of an earlier boot, as the API server keeps it.
    ///
    /// # Errors
    /// It was not by `deadline`; with what stood in the way last.
    pub fn node_ready(&self, node: &str, deadline: Instant) -> Result<Instant, Error> {
        let mut obstacle = "the API server does not answer".to_owned();
        while Instant::now() < deadline {
            match self.watch_node(node, deadline) {
                Ok(true) => return Ok(Instant::now()),
                Ok(false) => obstacle = format!("node {node} is not Ready"),
                Err(error) => obstacle = error.to_string(),
            }
            std::thread::sleep(PAUSE);
        }
        Err(self.error(&format!("/api/v1/nodes/{node}"), obstacle))
    }

    /// Follows the node until it is Ready, or the stream ends.
    fn watch_node(&self, node: &str, deadline: Instant) -> Result<bool, Error> {
        let left = deadline.saturating_duration_since(Instant::now());
        let path = format!(
            "/api/v1/nodes?watch=1&fieldSelector=metadata.name%3D{node}&timeoutSeconds={}",
            left.as_secs().max(1)
        );
        let request = self.agent.get(format!("{}{path}", self.server));
        // The answer begins at once; what is watched for may take its time.
        let request = request.config().timeout_connect(Some(REQUEST)).timeout_recv_response(Some(REQUEST));
        let request = request.timeout_recv_body(Some(left)).build();
        let mut response = request.call().map_err(|error| self.error(&path, error.to_string()))?;
        let status = response.status().as_u16();
        if status != 200 {
            let body = response.body_mut().read_to_string().unwrap_or_default();
            self.check_status(&path, status, &body)?;
        }
        for line in BufReader::new(response.body_mut().as_reader()).lines() {
            let line = line.map_err(|error| self.error(&path, error.to_string()))?;
            let event: Value = serde_json::from_str(&line)
                .map_err(|error| self.error(&path, format!("not JSON: {error}")))?;
            if is_ready(&event["object"]) {
                return Ok(true);
            }
        }
        Ok(false)
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

/// Whether an object (node or pod) has a condition `Ready` that is true.
pub fn is_ready(object: &Value) -> bool {
    object["status"]["conditions"].as_array().is_some_and(|conditions| {
        conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ready_is_a_condition_that_is_true() {
        let object = |status: &str| json!({"status": {"conditions": [{"type": "DiskPressure", "status": "True"}, {"type": "Ready", "status": status}]}});
        assert!(is_ready(&object("True")));
        assert!(!is_ready(&object("False")));
        assert!(!is_ready(&object("Unknown")));
        assert!(!is_ready(&json!({"status": {}})));
    }
}
