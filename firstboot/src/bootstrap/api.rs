//! The few calls that first boot makes to the API server: on a control plane as the cluster's administrator, on
//! other nodes as the node itself.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bootwright_model::kubernetes::bootstrap::{Method, Object};
use bootwright_model::kubernetes::pki;
use serde_json::Value;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use crate::certificates::Roots;

/// Owner of the fields that are applied, in the objects' `managedFields`.
const FIELD_MANAGER: &str = "bootwright";
/// One call; generous for a processor that is emulated.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How long the API server lets a watch last.
const WATCH: Duration = Duration::from_secs(300);
/// What is asked for of an object whose metadata is enough.
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The administrator's certificate cannot be used.
    #[error("cannot use {} as a credential: {reason}", path.display())]
    Credential {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// No answer.
    #[error("cannot call {url}")]
    Call {
        /// What was called.
        url: String,
        /// Why.
        source: Box<ureq::Error>,
    },
    /// An answer that is no success.
    #[error("{url} answered {status}: {message}")]
    Refused {
        /// What was called.
        url: String,
        /// HTTP status.
        status: u16,
        /// The API server's words.
        message: String,
    },
    /// An answer that does not say what it should.
    #[error("{url} answered without {what}")]
    Lacks {
        /// Who was called.
        url: String,
        /// What is missing.
        what: &'static str,
    },
}

impl ApiError {
    /// Whether the same call may succeed a little later. Besides overload and a missing connection, that is
    /// a namespace (404) or a role (403) that the API server makes while it already answers.
    pub fn is_temporary(&self) -> bool {
        match self {
            ApiError::Credential { .. } => false,
            ApiError::Call { .. } | ApiError::Lacks { .. } => true,
            ApiError::Refused { status, .. } => matches!(status, 403 | 404 | 409 | 429 | 500..),
        }
    }

    /// Whether it is about a Node with two addresses of one type, one of each family: API servers tell addresses apart by
    /// their type alone, and refuse to apply anything to such a Node.
    fn is_about_two_addresses(&self) -> bool {
        matches!(self, ApiError::Refused { status: 500, message, .. }
            if message.contains(".status.addresses: duplicate entries"))
    }
}

/// A connection to an API server.
pub struct Api {
    agent: ureq::Agent,
    server: String,
}

impl Api {
    /// This node's own API server, as the administrator whose certificate a control plane has.
    pub fn open(roots: &Roots, port: u16) -> Result<Api, ApiError> {
        let certificate = roots.node_pki.join(pki::certificate(pki::ADMIN));
        let key = roots.node_pki.join(pki::key(pki::ADMIN));
        Api::connect(roots, [&certificate, &key], SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port))
    }

    /// The API server at `server`, as the node whose kubelet has been given its certificate.
    pub fn open_as_node(roots: &Roots, server: SocketAddr) -> Result<Api, ApiError> {
        let both = roots.kubelet_pki.join(pki::KUBELET_CLIENT_CURRENT);
        Api::connect(roots, [&both, &both], server)
    }

    fn connect(roots: &Roots, [certificate, key]: [&Path; 2], server: SocketAddr) -> Result<Api, ApiError> {
        let authority = roots.cluster_pki.join(pki::certificate(pki::CA));
        let agent = agent(&authority, [certificate, key], TIMEOUT)?;
        Ok(Api { agent, server: format!("https://{server}") })
    }

    /// Brings an object into the cluster in its own way.
    pub fn send(&self, object: &Object) -> Result<(), ApiError> {
        match object.method {
            Method::Apply => self.apply(&object.path, &object.body),
            Method::Create => match self.create(&object.path, &object.body) {
                // There is one.
                Err(ApiError::Refused { status: 409, .. }) => Ok(()),
                other => other,
            },
        }
    }

    /// Creates an object in the collection at `path`.
    fn create(&self, path: &str, object: &Value) -> Result<(), ApiError> {
        let url = format!("{}{path}?fieldManager={FIELD_MANAGER}", self.server);
        let request = self.agent.post(&url).header("Content-Type", "application/json");
        answer(&url, request.send(object.to_string())).map(|_| ())
    }

    /// Server-side apply (`application/apply-patch+yaml`, KEP-555): creates the object, or sets these
    /// fields and takes them over from whoever owned them.
    pub fn apply(&self, path: &str, object: &Value) -> Result<(), ApiError> {
        let url = format!("{}{path}?fieldManager={FIELD_MANAGER}&force=true", self.server);
        let request = self.agent.patch(&url).header("Content-Type", "application/apply-patch+yaml");
        match answer(&url, request.send(object.to_string())) {
            // It exists, so the fields can be set as well; what is set no longer stays then.
            Err(error) if error.is_about_two_addresses() => self.merge(path, object),
            other => other.map(|_| ()),
        }
    }

    /// Merge patch (`application/merge-patch+json`, RFC 7396): sets these fields, and removes those that are null.
    pub fn merge(&self, path: &str, patch: &Value) -> Result<(), ApiError> {
        let url = format!("{}{path}?fieldManager={FIELD_MANAGER}", self.server);
        let request = self.agent.patch(&url).header("Content-Type", "application/merge-patch+json");
        answer(&url, request.send(patch.to_string())).map(|_| ())
    }

    /// Calls `each` for every object of the collection at `path` and for every change after that, with their
    /// metadata alone, until the API server ends the watch. An error of `each` ends it too.
    ///
    /// <https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes>
    pub fn watch(
        &self,
        path: &str,
        mut each: impl FnMut(Value) -> Result<(), ApiError>,
    ) -> Result<(), ApiError> {
        let url = format!("{}{path}?watch=true&timeoutSeconds={}", self.server, WATCH.as_secs());
        let request = self.agent.get(&url).header("Accept", METADATA_ONLY);
        let request = request.config().timeout_global(Some(WATCH + TIMEOUT)).build();
        let call = |source| ApiError::Call { url: url.clone(), source: Box::new(source) };
        let mut response = request.call().map_err(call)?;
        if !response.status().is_success() {
            return answer(&url, Ok(response)).map(|_| ());
        }
        // One JSON document per line.
        for line in BufReader::new(response.body_mut().as_reader()).lines() {
            let line = line.map_err(|error| call(error.into()))?;
            each(serde_json::from_str(&line).unwrap_or_default())?;
        }
        Ok(())
    }

    /// The object at a path.
    pub fn get(&self, path: &str) -> Result<Value, ApiError> {
        let url = format!("{}{path}", self.server);
        answer(&url, self.agent.get(&url).call())
    }
}

/// Calls over TLS with servers that `authority` has signed, as the holder of a certificate and its key; one call takes
/// `timeout` at most.
pub(super) fn agent(
    authority: &Path,
    [certificate, key]: [&Path; 2],
    timeout: Duration,
) -> Result<ureq::Agent, ApiError> {
    let authority = load(authority, |pem| Certificate::from_pem(pem))?;
    let certificate = load(certificate, |pem| Certificate::from_pem(pem))?;
    let key = load(key, |pem| PrivateKey::from_pem(pem))?;
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&[authority]))
        .client_cert(Some(ClientCert::new_with_certs(&[certificate], key)))
        .build();
    let config = ureq::Agent::config_builder()
        .tls_config(tls)
        .https_only(true)
        .proxy(None)
        .timeout_global(Some(timeout))
        // The body of an error says what is wrong.
        .http_status_as_error(false);
    Ok(config.build().new_agent())
}

pub(super) fn load<T>(path: &Path, parse: impl Fn(&[u8]) -> Result<T, ureq::Error>) -> Result<T, ApiError> {
    let failed = |reason: String| ApiError::Credential { path: path.to_owned(), reason };
    let pem = fs::read(path).map_err(|error| failed(error.to_string()))?;
    parse(&pem).map_err(|error| failed(error.to_string()))
}

/// The body of a success, as JSON.
pub(super) fn answer(
    url: &str,
    response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> Result<Value, ApiError> {
    let call = |source| ApiError::Call { url: url.to_owned(), source: Box::new(source) };
    let mut response = response.map_err(call)?;
    let status = response.status();
    let body = response.body_mut().read_to_string().map_err(call)?;
    let value: Value = serde_json::from_str(&body).unwrap_or_default();
    if status.is_success() {
        return Ok(value);
    }
    let message = value["message"].as_str().unwrap_or(body.trim()).to_owned();
    Err(ApiError::Refused { url: url.to_owned(), status: status.as_u16(), message })
}
