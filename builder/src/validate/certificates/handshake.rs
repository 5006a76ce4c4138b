//! The certificate that a TLS server shows, from its first words alone.
//!
//! A server shows its certificate before it asks for ours: in the clear (TLS 1.2), or sealed with keys that come from
//! both sides' first words (1.3, RFC 8446). So one message there and one answer are enough, and a probe that knows
//! nothing of TLS can carry them. Nothing is proved by it and nothing is trusted: only dates are read.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};

/// How long a server may take over its first words.
const LIMIT: Duration = Duration::from_secs(10);
/// Bytes of the first words that are read.
const MOST: usize = 64 << 10;

/// A handshake that ends with the server's certificate.
pub struct Handshake {
    connection: ClientConnection,
    recorder: Arc<Recorder>,
}

impl Handshake {
    /// With whoever is at `host`, a name or an address.
    ///
    /// # Errors
    /// It is neither.
    pub fn new(host: &str) -> Result<Handshake, String> {
        let name = ServerName::try_from(host.to_owned()).map_err(|error| format!("{host}: {error}"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let recorder = Arc::new(Recorder { shown: Mutex::new(None), provider: Arc::clone(&provider) });
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&recorder) as Arc<dyn ServerCertVerifier>)
            .with_no_client_auth();
        let connection = ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())?;
        Ok(Handshake { connection, recorder })
    }

    /// Our first words.
    pub fn hello(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.connection.wants_write() {
            if self.connection.write_tls(&mut bytes).is_err() {
                break;
            }
        }
        bytes
    }

    /// The certificate (DER), if what was said until now has it.
    ///
    /// # Errors
    /// What was said is no TLS, or a refusal.
    pub fn hear(&mut self, mut said: &[u8]) -> Result<Option<Vec<u8>>, String> {
        while !said.is_empty() {
            let heard = self.connection.read_tls(&mut said);
            heard.map_err(|error| error.to_string())?;
            let outcome = self.connection.process_new_packets();
            if let Some(shown) = self.recorder.shown() {
                // What comes after it does not matter.
                return Ok(Some(shown));
            }
            outcome.map_err(|error| format!("no TLS handshake: {error}"))?;
        }
        Ok(self.recorder.shown())
    }
}

/// The certificate (DER) of the server at `https://…`.
///
/// # Errors
/// It does not answer, or not with TLS.
pub fn with_server(url: &str) -> Result<Vec<u8>, String> {
    let authority = url.trim_start_matches("https://").split('/').next().unwrap_or_default();
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => {
            (host, port.parse::<u16>().map_err(|_| format!("{port} is no port"))?)
        }
        _ => (authority, 443),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let mut handshake = Handshake::new(host)?;
    let failed = |error: std::io::Error| format!("{authority}: {error}");
    let mut addresses = (host, port).to_socket_addrs().map_err(failed)?;
    let address = addresses.next().ok_or_else(|| format!("{host} has no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, LIMIT).map_err(failed)?;
    stream.set_read_timeout(Some(LIMIT)).map_err(failed)?;
    stream.write_all(&handshake.hello()).map_err(failed)?;
    let mut buffer = [0; 4096];
    let mut total = 0;
    while total < MOST {
        let count = stream.read(&mut buffer).map_err(failed)?;
        if count == 0 {
            break;
        }
        total += count;
        if let Some(certificate) = handshake.hear(&buffer[..count])? {
            return Ok(certificate);
        }
    }
    Err(format!("{authority}: it said something, and showed no certificate"))
}

/// Takes any certificate, and keeps it.
#[derive(Debug)]
struct Recorder {
    shown: Mutex<Option<Vec<u8>>>,
    provider: Arc<CryptoProvider>,
}

impl Recorder {
    fn shown(&self) -> Option<Vec<u8>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(end_entity.to_vec());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use rustls::pki_types::PrivatePkcs8KeyDer;
    use rustls::{ServerConfig, ServerConnection, SupportedProtocolVersion, version};

    use super::*;

    /// A server that shows a certificate made here, in this version of TLS, once; its port and the certificate.
    fn server(version: &'static SupportedProtocolVersion) -> (u16, Vec<u8>) {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["a".to_owned()]).unwrap().self_signed(&key).unwrap();
        let shown = certificate.der().to_vec();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let mut connection = ServerConnection::new(Arc::new(config)).unwrap();
            let (mut stream, _) = listener.accept().unwrap();
            // It ends when we hang up.
            while connection.complete_io(&mut stream).is_ok_and(|(read, written)| read + written > 0) {}
        });
        (port, shown)
    }

    #[test]
    fn the_first_words_of_both_versions_have_the_certificate() {
        for version in [&version::TLS12, &version::TLS13] {
            let (port, shown) = server(version);
            assert_eq!(with_server(&format!("https://127.0.0.1:{port}")), Ok(shown));
        }
    }

    #[test]
    fn what_is_no_tls_is_told() {
        let mut handshake = Handshake::new("10.20.0.10").unwrap();
        assert!(!handshake.hello().is_empty());
        let error = handshake.hear(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap_err();
        assert!(error.starts_with("no TLS handshake"), "{error}");
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(with_server(&format!("https://{nobody}")).unwrap_err().contains("refused"));
    }
}
