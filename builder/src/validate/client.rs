//! The API server over HTTPS, with the rights of a kubeconfig.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use ureq::http::{Method, Request};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use super::ValidateError;
use super::kubeconfig::{Kubeconfig, User};

/// How long one request may take. One to a probe lasts as long as its checks; the API server gives up after a minute.
const LIMIT: Duration = Duration::from_secs(70);
/// Bytes of an answer that are read: lists of a large cluster's Nodes have some megabytes.
const MOST: u64 = 256 << 20;

/// A client of the API server.
#[derive(Clone)]
pub struct Client {
    agent: ureq::Agent,
    server: String,
    token: Option<String>,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// 200 for one.
    pub status: u16,
    /// All of it.
    pub body: String,
    /// The server's clock.
    pub date: Option<OffsetDateTime>,
}

/// A request that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Status, if there was an answer.
    pub status: Option<u16>,
    /// In words.
    pub why: String,
}

impl Refusal {
    /// Whether the same request may be answered in a moment: nobody did, or somebody has a fault of his own or too much to
    /// do.
    pub fn passes(&self) -> bool {
        self.status.is_none_or(|status| status == 429 || status >= 500)
    }
}

impl Client {
    /// Nothing is asked yet.
    ///
    /// # Errors
    /// Certificates or key of the kubeconfig cannot be used.
    pub fn new(kubeconfig: &Kubeconfig) -> Result<Client, ValidateError> {
        let server = kubeconfig.server.clone();
        let error = |why: ureq::Error| ValidateError::Api { server: server.clone(), why: why.to_string() };
        let authority = Certificate::from_pem(&kubeconfig.authority).map_err(error)?;
        let mut tls = TlsConfig::builder().root_certs(RootCerts::Specific(Arc::new(vec![authority])));
        let mut token = None;
        match &kubeconfig.user {
            User::Certificate { certificate, key } => {
                let certificate = Certificate::from_pem(certificate).map_err(error)?;
                let key = PrivateKey::from_pem(key).map_err(error)?;
                tls = tls.client_cert(Some(ClientCert::new_with_certs(&[certificate], key)));
            }
            User::Token(text) => token = Some(text.clone()),
        }
        let agent = ureq::Agent::config_builder()
            .tls_config(tls.build())
            .timeout_global(Some(LIMIT))
            .timeout_connect(Some(Duration::from_secs(10)))
            // What else is asked here, the certificate that the server shows, goes there directly too.
            .proxy(None)
            .http_status_as_error(false)
            .build()
            .into();
        Ok(Client { agent, server, token })
    }

    /// As the kubeconfig says.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The object or list at `path`.
    ///
    /// # Errors
    /// No answer, another status than those of success, or no JSON.
    pub fn get(&self, path: &str) -> Result<Value, Refusal> {
        json(&self.call(Method::GET, path, None)?)
    }

    /// What is at `path`, whatever its status.
    ///
    /// # Errors
    /// No answer.
    pub fn text(&self, path: &str) -> Result<Answer, Refusal> {
        self.call(Method::GET, path, None)
    }

    /// Posts JSON and returns what comes back.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn post(&self, path: &str, body: &impl serde::Serialize) -> Result<Value, Refusal> {
        let body = serde_json::to_vec(body).expect("what is posted is JSON or made of strings and numbers");
        json(&self.call(Method::POST, path, Some(body))?)
    }

    /// Deletes what is at `path`.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn delete(&self, path: &str) -> Result<(), Refusal> {
        json(&self.call(Method::DELETE, path, None)?).map(|_| ())
    }

    fn call(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<Answer, Refusal> {
        let failed = |why: String| Refusal { status: None, why };
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.server));
        request =
            request.header("Content-Type", "application/json").header("Accept", "application/json, */*");
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let unmade = |error: ureq::http::Error| failed(format!("{path}: {error}"));
        // Only what is posted has a body.
        let response = match body {
            None => self.agent.run(request.body(()).map_err(unmade)?),
            Some(body) => self.agent.run(request.body(body).map_err(unmade)?),
        };
        let mut response = response.map_err(|error| failed(error.to_string()))?;
        let date = response.headers().get("Date").and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| OffsetDateTime::parse(date, &Rfc2822).ok());
        let body = response.body_mut().with_config().limit(MOST).read_to_string();
        let body = body.map_err(|error| failed(error.to_string()))?;
        Ok(Answer { status: response.status().as_u16(), body, date })
    }
}

fn json(answer: &Answer) -> Result<Value, Refusal> {
    let refusal = |why: String| Refusal { status: Some(answer.status), why };
    let value: Result<Value, _> = serde_json::from_str(&answer.body);
    if (200..300).contains(&answer.status) {
        return value.map_err(|error| refusal(format!("the answer is not JSON: {error}")));
    }
    // The server explains itself in a Status object; anything else is shown as it is.
    let told = value.ok().and_then(|status| status["message"].as_str().map(str::to_owned));
    let told = told.unwrap_or_else(|| answer.body.trim().chars().take(200).collect());
    Err(refusal(format!("status {}: {told}", answer.status)))
}
