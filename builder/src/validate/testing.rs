//! An API server of a few lines, over HTTPS, that says what a test wants.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;

use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use super::client::Client;
use super::kubeconfig::{Kubeconfig, User};

/// What a request comes to.
#[derive(Debug, Clone)]
pub enum Answer {
    /// A status and a body.
    Body(u16, String),
    /// None: the connection ends.
    HangUp,
}

impl Answer {
    pub fn json(status: u16, body: &Value) -> Answer {
        Answer::Body(status, body.to_string())
    }

    pub fn text(status: u16, body: &str) -> Answer {
        Answer::Body(status, body.to_owned())
    }
}

/// Answers until the test's process ends.
pub struct Server {
    kubeconfig: Kubeconfig,
}

impl Server {
    /// `answer` gets method and path.
    pub fn new(answer: impl Fn(&str, &str) -> Answer + Send + Sync + 'static) -> Server {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = certificate.self_signed(&key).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .unwrap();
        let (config, answer) = (Arc::new(config), Arc::new(answer));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let kubeconfig = Kubeconfig {
            server: format!("https://{}", listener.local_addr().unwrap()),
            authority: certificate.pem().into_bytes(),
            user: User::Token("secret".to_owned()),
        };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, answer) = (Arc::clone(&config), Arc::clone(&answer));
                std::thread::spawn(move || {
                    // A client that hangs up is no fault.
                    let _ = serve(stream, config, &*answer);
                });
            }
        });
        Server { kubeconfig }
    }

    pub fn client(&self) -> Client {
        Client::new(&self.kubeconfig).unwrap()
    }
}

/// One request, and the end of the connection.
fn serve(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    answer: &dyn Fn(&str, &str) -> Answer,
) -> std::io::Result<()> {
    let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut stream = BufReader::new(StreamOwned::new(connection, stream));
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let request = line.clone();
    let mut length = 0;
    while line.trim() != "" {
        line.clear();
        stream.read_line(&mut line)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    stream.read_exact(&mut vec![0; length])?;
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let stream = stream.get_mut();
    if let Answer::Body(status, body) = answer(method, path) {
        let length = body.len();
        write!(stream, "HTTP/1.1 {status} -\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")?;
        stream.conn.send_close_notify();
        stream.flush()?;
    }
    stream.sock.shutdown(Shutdown::Both)
}
