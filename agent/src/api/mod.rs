//! The API server as the agent sees it: who one is to it, how it is called, and the few fields that are read.
//!
//! [`kube`] lists and watches; the connection below it is made here, because a kubeconfig's certificate is
//! renewed on disk while the agent runs and kube reads it once.

mod credentials;
pub mod objects;
mod watch;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::Client;
use kube::client::middleware::BaseUriLayer;
use kube::client::{Body, ClientBuilder};

pub use credentials::{Credentials, CredentialsError};
pub use watch::{Change, watch};

/// To connect, which takes one round trip.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A watch may be silent for minutes: keep-alive finds out that the other side is gone (tcp(7)).
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Between looks for a kubeconfig that is not there yet.
const KUBECONFIG_INTERVAL: Duration = Duration::from_secs(2);

/// A client for what the credentials name. Opens no connection yet.
pub fn client(credentials: Credentials) -> Client {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    tcp.set_keepalive_retries(Some(3));
    let tls: HttpsConnector<HttpConnector> = HttpsConnectorBuilder::new()
        .with_tls_config(credentials.tls)
        .https_only()
        .enable_http1()
        .wrap_connector(tcp);
    let http: HttpClient<_, Body> = HttpClient::builder(TokioExecutor::new())
        // A connection is never used again: the next one is made with the certificate that is on disk then.
        // Requests are rare, as a watch lasts for minutes.
        .pool_max_idle_per_host(0)
        .build(tls);
    ClientBuilder::new(http, "default").with_layer(&BaseUriLayer::new(credentials.server)).build()
}

/// A client by the kubeconfig at `path`. Waits for it and for the files that it names.
pub async fn wait_for_client(path: &Path) -> Client {
    let mut said = String::new();
    loop {
        match Credentials::read(path) {
            Ok(credentials) => {
                eprintln!("api: {} by {}", credentials.server, path.display());
                return client(credentials);
            }
            Err(error) => {
                let error = crate::chain(&error);
                if error != said {
                    eprintln!("api: waiting for a usable kubeconfig: {error}");
                    said = error;
                }
            }
        }
        tokio::time::sleep(KUBECONFIG_INTERVAL).await;
    }
}

/// TLS as everywhere in this program: ring, and the authority's certificates from PEM text.
pub fn roots(pem: &[u8]) -> Result<Arc<rustls::RootCertStore>, String> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() { Err("no certificate in it".to_owned()) } else { Ok(Arc::new(roots)) }
}

/// Protocol versions and algorithms: rustls' choice, with ring.
pub fn tls_builder() -> rustls::ConfigBuilder<rustls::ClientConfig, rustls::WantsVerifier> {
    rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has algorithms of both versions")
}
