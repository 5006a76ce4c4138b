//! API servers as far as the balancer can see, and a balancer before them.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::super::probe::Timing;
use super::super::*;

/// An authority, and who trusts it.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) roots: Arc<rustls::RootCertStore>,
}

impl Authority {
    pub(super) fn new() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        Authority { issuer: Issuer::new(params, key), roots: Arc::new(roots) }
    }

    pub(super) fn acceptor(&self, name: &str) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let config =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(
                    vec![certificate.der().clone()],
                    PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
                )
                .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// How a server behaves, to be changed while it runs.
#[derive(Default)]
pub(super) struct Mood {
    /// What `/readyz` answers; 0 is 200.
    status: AtomicU16,
    /// Milliseconds before any answer.
    delay: AtomicU64,
    pub(super) handshakes: AtomicUsize,
}

/// An API server as far as the balancer can see. Dropped, it is dead: its port refuses, its connections close.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) mood: Arc<Mood>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(super) async fn start(acceptor: TlsAcceptor) -> Server {
        Server::start_at(acceptor, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await
    }

    pub(super) async fn start_at(acceptor: TlsAcceptor, address: SocketAddr) -> Server {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mood = Arc::new(Mood::default());
        let of_task = Arc::clone(&mood);
        let task = tokio::spawn(async move {
            // Ends its connections when it is aborted.
            let mut connections = JoinSet::new();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (acceptor, mood) = (acceptor.clone(), Arc::clone(&of_task));
                connections.spawn(async move {
                    let Ok(tls) = acceptor.accept(tcp).await else { return };
                    mood.handshakes.fetch_add(1, Ordering::Relaxed);
                    let answer = |request: Request<Incoming>| answer(request, Arc::clone(&mood), address);
                    let service = hyper::service::service_fn(answer);
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(tls), service)
                        .await;
                });
            }
        });
        Server { address, mood, task }
    }

    pub(super) fn say(&self, status: u16) {
        self.mood.status.store(status, Ordering::Relaxed);
    }

    pub(super) fn delay(&self, milliseconds: u64) {
        self.mood.delay.store(milliseconds, Ordering::Relaxed);
    }
}

async fn answer(
    request: Request<Incoming>,
    mood: Arc<Mood>,
    address: SocketAddr,
) -> Result<Response<Full<Bytes>>, Infallible> {
    tokio::time::sleep(Duration::from_millis(mood.delay.load(Ordering::Relaxed))).await;
    let status = mood.status.load(Ordering::Relaxed);
    let mut response = Response::new(Full::from(address.port().to_string()));
    if request.uri().path() == "/readyz" && status != 0 {
        *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
    }
    Ok(response)
}

/// A balancer in front of servers, and a client of it.
pub(super) struct Bench {
    pub(super) balancer: Arc<Balancer>,
    pub(super) entry: SocketAddr,
    tls: TlsConnector,
}

impl Bench {
    pub(super) async fn new(authority: &Authority, servers: Vec<SocketAddr>) -> Bench {
        let timing = Timing {
            healthy: Duration::from_millis(100),
            first: Duration::from_millis(20),
            largest: Duration::from_millis(200),
            patience: Duration::from_millis(500),
        };
        let prober = Prober::new(Arc::clone(&authority.roots), timing);
        let balancer = Balancer::start(servers, 0, prober);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let entry = listener.local_addr().unwrap();
        tokio::spawn(Arc::clone(&balancer).serve(vec![listener]));
        let config = crate::api::tls_builder()
            .with_root_certificates(Arc::clone(&authority.roots))
            .with_no_client_auth();
        Bench { balancer, entry, tls: TlsConnector::from(Arc::new(config)) }
    }

    /// One in front of two servers that it knows to be healthy.
    pub(super) async fn of_two(authority: &Authority) -> ([Server; 2], Bench) {
        let acceptor = || authority.acceptor("127.0.0.1");
        let servers = [Server::start(acceptor()).await, Server::start(acceptor()).await];
        let bench = Bench::new(authority, servers.iter().map(|server| server.address).collect()).await;
        for server in &servers {
            bench.until(server.address, "healthy").await;
        }
        (servers, bench)
    }

    /// An open connection, on which it is known who answers.
    pub(super) async fn connect(&self) -> io::Result<(TlsStream<TcpStream>, u16)> {
        let tcp = TcpStream::connect(self.entry).await?;
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut stream = self.tls.connect(name, tcp).await?;
        stream.write_all(b"GET /who HTTP/1.1\r\nHost: x\r\n\r\n").await?;
        let mut text = Vec::new();
        // The body is the server's port and has no line end; headers end with an empty line.
        while !text.windows(4).any(|end| end == b"\r\n\r\n") || text.ends_with(b"\r\n\r\n") {
            let mut bytes = [0; 512];
            let count = stream.read(&mut bytes).await?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            text.extend(&bytes[..count]);
        }
        let text = String::from_utf8(text).unwrap();
        Ok((stream, text.rsplit('\n').next().unwrap().parse().unwrap()))
    }

    pub(super) async fn who(&self) -> io::Result<u16> {
        self.connect().await.map(|(_, port)| port)
    }

    /// Waits until the line of one control plane begins so.
    pub(super) async fn until(&self, address: SocketAddr, state: &str) {
        let wanted = format!("{address} {state}");
        let found = tokio::time::timeout(Duration::from_secs(30), async {
            while !self.balancer.describe().iter().any(|line| line.starts_with(&wanted)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(found.await.is_ok(), "{state}: {:?}", self.balancer.describe());
    }
}
