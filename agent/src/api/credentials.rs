//! A kubeconfig, and the client certificate that it names, read again at every connection.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kube::config::Kubeconfig;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// Where the API server is, and how one shows who one is.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// `https://host:port`
    pub server: http::Uri,
    /// Trusts the kubeconfig's authority, and shows its client certificate.
    pub tls: rustls::ClientConfig,
}

/// A kubeconfig that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// It is not there, or no kubeconfig.
    #[error("cannot read the kubeconfig {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<kube::config::KubeconfigError>,
    },
    /// Something in it is missing, or of a kind that this program does not use.
    #[error("kubeconfig {}: {what}", path.display())]
    Lacks {
        /// The file.
        path: PathBuf,
        /// What is wrong and what is wanted.
        what: String,
    },
}

impl Credentials {
    /// The current context of a kubeconfig. Its user must be a pair of files, as the kubelet's and first boot's
    /// are.
    pub fn read(path: &Path) -> Result<Credentials, CredentialsError> {
        let lacks = |what: &str| CredentialsError::Lacks { path: path.to_owned(), what: what.to_owned() };
        let config = Kubeconfig::read_from(path)
            .map_err(|source| CredentialsError::Read { path: path.to_owned(), source: Box::new(source) })?;
        let current = config.current_context.as_deref().unwrap_or_default();
        let context = config.contexts.iter().find(|context| context.name == current);
        let context = context
            .and_then(|named| named.context.as_ref())
            .ok_or_else(|| lacks("no current-context; name one of its contexts"))?;
        let cluster = config.clusters.iter().find(|cluster| cluster.name == context.cluster);
        let cluster = cluster
            .and_then(|named| named.cluster.as_ref())
            .ok_or_else(|| lacks("no cluster of the current context's name"))?;
        let user = config.auth_infos.iter().find(|user| Some(&user.name) == context.user.as_ref());
        let user = user
            .and_then(|named| named.auth_info.as_ref())
            .ok_or_else(|| lacks("no user of the current context's name"))?;

        let server: http::Uri = (cluster.server.as_deref().unwrap_or_default().parse())
            .map_err(|_| lacks("its server is no https://host:port"))?;
        if server.scheme() != Some(&http::uri::Scheme::HTTPS) {
            return Err(lacks("its server is no https://host:port"));
        }
        let roots = super::roots(&authority(cluster).map_err(|what| lacks(&what))?)
            .map_err(|why| lacks(&format!("its certificate-authority is no certificate in PEM: {why}")))?;
        let (Some(certificate), Some(key)) = (&user.client_certificate, &user.client_key) else {
            return Err(lacks("its user needs client-certificate and client-key, both names of files"));
        };
        let pair = Pair { certificate: certificate.into(), key: key.into() };
        // Now, so that a missing file is seen before the first connection.
        pair.load().map_err(|what| lacks(&what))?;
        let tls =
            super::tls_builder().with_root_certificates(roots).with_client_cert_resolver(Arc::new(pair));
        Ok(Credentials { server, tls })
    }
}

/// PEM text of the authority that signed the API server's certificate.
fn authority(cluster: &kube::config::Cluster) -> Result<Vec<u8>, String> {
    use base64::Engine;
    if let Some(data) = &cluster.certificate_authority_data {
        let decoded = base64::engine::general_purpose::STANDARD.decode(data);
        return decoded.map_err(|error| format!("its certificate-authority-data is no base64: {error}"));
    }
    let path = cluster.certificate_authority.as_deref();
    let path = path.ok_or("its cluster needs a certificate-authority")?;
    std::fs::read(path).map_err(|error| format!("cannot read {path}: {error}"))
}

/// Files of a client certificate and its key; one and the same for the kubelet's.
#[derive(Debug)]
struct Pair {
    certificate: PathBuf,
    key: PathBuf,
}

impl Pair {
    fn load(&self) -> Result<CertifiedKey, String> {
        let failed = |path: &Path, why: String| format!("cannot use {}: {why}", path.display());
        let chain: Vec<_> = CertificateDer::pem_file_iter(&self.certificate)
            .and_then(Iterator::collect)
            .map_err(|error| failed(&self.certificate, error.to_string()))?;
        if chain.is_empty() {
            return Err(failed(&self.certificate, "no certificate in it".to_owned()));
        }
        let key =
            PrivateKeyDer::from_pem_file(&self.key).map_err(|error| failed(&self.key, error.to_string()))?;
        let key = any_supported_type(&key).map_err(|error| failed(&self.key, error.to_string()))?;
        Ok(CertifiedKey::new(chain, key))
    }
}

/// Asked at each handshake; two small files are read quicker than the handshake goes on.
impl ResolvesClientCert for Pair {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        match self.load() {
            Ok(pair) => Some(Arc::new(pair)),
            // The API server answers to nobody then, and the next connection tries again.
            Err(why) => {
                eprintln!("api: no client certificate: {why}");
                None
            }
        }
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bootwright_model::kubernetes::kubeconfig::{Kubeconfig, Pem};

    use super::*;

    fn self_signed(name: &str) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn write(folder: &Path, server: &str) -> PathBuf {
        let at = |name: &str| folder.join(name).to_string_lossy().into_owned();
        let (certificate, key) = self_signed("one");
        fs::write(at("ca.crt"), &certificate).unwrap();
        // As the kubelet keeps it: both in one file.
        fs::write(at("current.pem"), certificate + &key).unwrap();
        let config = Kubeconfig {
            cluster: "harbor",
            server,
            authority: Pem::File(&at("ca.crt")),
            user: "system:node:w1",
            certificate: Pem::File(&at("current.pem")),
            key: Pem::File(&at("current.pem")),
        };
        fs::write(at("agent.conf"), config.render()).unwrap();
        folder.join("agent.conf")
    }

    #[test]
    fn a_renewed_certificate_is_shown_at_the_next_connection() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), "https://127.0.0.1:7443");
        let credentials = Credentials::read(&path).unwrap();
        assert_eq!(credentials.server, "https://127.0.0.1:7443");
        let resolver = credentials.tls.client_auth_cert_resolver;
        let before = resolver.resolve(&[], &[]).unwrap().cert.clone();
        let (certificate, key) = self_signed("two");
        fs::write(folder.path().join("current.pem"), certificate + &key).unwrap();
        assert_ne!(resolver.resolve(&[], &[]).unwrap().cert, before);
        // A moment without the file is a connection without a certificate, not a fault.
        fs::remove_file(folder.path().join("current.pem")).unwrap();
        assert!(resolver.resolve(&[], &[]).is_none());
    }

    #[test]
    fn what_a_kubeconfig_lacks_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), "http://127.0.0.1:8080");
        let say = |path: &Path| crate::chain(&Credentials::read(path).unwrap_err());
        assert!(say(&path).ends_with("agent.conf: its server is no https://host:port"), "{}", say(&path));
        let path = write(folder.path(), "https://127.0.0.1:7443");
        fs::write(folder.path().join("ca.crt"), "").unwrap();
        assert!(say(&path).contains("certificate-authority"), "{}", say(&path));
        let path = write(folder.path(), "https://127.0.0.1:7443");
        fs::remove_file(folder.path().join("current.pem")).unwrap();
        assert!(say(&path).contains("current.pem"), "{}", say(&path));
        fs::write(&path, "clusters: []\n").unwrap();
        assert!(say(&path).contains("current-context"), "{}", say(&path));
        assert!(say(&folder.path().join("none")).contains("none"));
    }
}
