//! The balancer in front of real TLS servers on loopback.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

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

use super::probe::Timing;
use super::*;

/// An authority, and who trusts it.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    roots: Arc<rustls::RootCertStore>,
}

impl Authority {
    fn new() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        Authority { issuer: Issuer::new(params, key), roots: Arc::new(roots) }
    }

    fn acceptor(&self, name: &str) -> TlsAcceptor {
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
struct Mood {
    /// What `/readyz` answers; 0 is 200.
    status: AtomicU16,
    /// Milliseconds before any answer.
    delay: AtomicU64,
    handshakes: AtomicUsize,
}

/// An API server as far as the balancer can see. Dropped, it is dead: its port refuses, its connections close.
struct Server {
    address: SocketAddr,
    mood: Arc<Mood>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start(acceptor: TlsAcceptor) -> Server {
        Server::start_at(acceptor, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await
    }

    async fn start_at(acceptor: TlsAcceptor, address: SocketAddr) -> Server {
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

    fn say(&self, status: u16) {
        self.mood.status.store(status, Ordering::Relaxed);
    }

    fn delay(&self, milliseconds: u64) {
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
struct Bench {
    balancer: Arc<Balancer>,
    entry: SocketAddr,
    tls: TlsConnector,
}

impl Bench {
    async fn new(authority: &Authority, servers: Vec<SocketAddr>) -> Bench {
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
    async fn of_two(authority: &Authority) -> ([Server; 2], Bench) {
        let acceptor = || authority.acceptor("127.0.0.1");
        let servers = [Server::start(acceptor()).await, Server::start(acceptor()).await];
        let bench = Bench::new(authority, servers.iter().map(|server| server.address).collect()).await;
        for server in &servers {
            bench.until(server.address, "healthy").await;
        }
        (servers, bench)
    }

    /// An open connection, on which it is known who answers.
    async fn connect(&self) -> io::Result<(TlsStream<TcpStream>, u16)> {
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

    async fn who(&self) -> io::Result<u16> {
        self.connect().await.map(|(_, port)| port)
    }

    /// Waits until the line of one control plane begins so.
    async fn until(&self, address: SocketAddr, state: &str) {
        let wanted = format!("{address} {state}");
        let found = tokio::time::timeout(Duration::from_secs(30), async {
            while !self.balancer.describe().iter().any(|line| line.starts_with(&wanted)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(found.await.is_ok(), "{state}: {:?}", self.balancer.describe());
    }
}

/// The connection ends soon, however it does.
async fn ends(mut stream: TlsStream<TcpStream>) {
    let ended = tokio::time::timeout(Duration::from_secs(30), stream.read(&mut [0; 1])).await;
    assert!(matches!(ended, Ok(Ok(0) | Err(_))), "still open");
}

#[tokio::test]
async fn connections_go_round_among_healthy_servers_and_probes_keep_their_connection() {
    let (servers, bench) = Bench::of_two(&Authority::new()).await;
    let mut counts = [0; 2];
    for _ in 0..10 {
        let port = bench.who().await.unwrap();
        counts[servers.iter().position(|s| s.address.port() == port).unwrap()] += 1;
    }
    assert_eq!(counts, [5, 5]);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(servers[0].mood.handshakes.load(Ordering::Relaxed), 5 + 1, "some five looks, one handshake");
}

#[tokio::test]
async fn a_dead_server_loses_its_connections_and_gets_none_until_it_is_back() {
    let authority = Authority::new();
    let (servers, bench) = Bench::of_two(&authority).await;
    let addresses = servers.each_ref().map(|server| server.address);
    let [first, second] = servers;
    drop(first);
    // Before any look: the connection that is refused is tried with the other.
    for _ in 0..4 {
        assert_eq!(bench.who().await.unwrap(), second.address.port());
    }
    bench.until(addresses[0], "unreachable").await;
    let _back = Server::start_at(authority.acceptor("127.0.0.1"), addresses[0]).await;
    bench.until(addresses[0], "healthy").await;
    let mut seen = [bench.who().await.unwrap(), bench.who().await.unwrap()];
    seen.sort_unstable();
    let mut all = addresses.map(|address| address.port());
    all.sort_unstable();
    assert_eq!(seen, all);
}

#[tokio::test]
async fn a_server_that_hangs_is_left_and_its_connections_are_cut() {
    let (servers, bench) = Bench::of_two(&Authority::new()).await;
    let (one, port) = bench.connect().await.unwrap();
    let (other, other_port) = bench.connect().await.unwrap();
    let hanging = servers.iter().find(|s| s.address.port() == port).unwrap();
    // It accepts and says nothing, as a machine that is out of memory does: no packet says that it is gone.
    hanging.delay(3_600_000);
    ends(one).await;
    for _ in 0..4 {
        assert_eq!(bench.who().await.unwrap(), other_port);
    }
    drop(other);
    hanging.delay(0);
    bench.until(hanging.address, "healthy").await;
}

#[tokio::test]
async fn a_server_that_is_not_ready_gets_nothing_as_long_as_another_is() {
    let (servers, bench) = Bench::of_two(&Authority::new()).await;
    let (one, port) = bench.connect().await.unwrap();
    let at = servers.iter().position(|s| s.address.port() == port).unwrap();
    let (unready, well) = (&servers[at], &servers[1 - at]);
    unready.say(500);
    ends(one).await;
    assert_eq!(bench.who().await.unwrap(), well.address.port());
    assert_eq!(bench.who().await.unwrap(), well.address.port());
    // All not ready: nobody is cut, and both are tried.
    let (two, _) = bench.connect().await.unwrap();
    well.say(500);
    bench.until(well.address, "not ready").await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(bench.who().await.is_ok());
    let (mut two, idle) = (two, &mut [0; 1]);
    assert!(tokio::time::timeout(Duration::from_millis(100), two.read(idle)).await.is_err(), "it was cut");
}

#[tokio::test]
async fn all_dead_is_a_closed_connection_until_one_is_back() {
    let authority = Authority::new();
    let acceptor = || authority.acceptor("127.0.0.1");
    let server = Server::start(acceptor()).await;
    let other = Server::start(acceptor()).await;
    let addresses = [server.address, other.address];
    drop((server, other));
    let bench = Bench::new(&authority, addresses.to_vec()).await;
    for address in addresses {
        bench.until(address, "unreachable").await;
    }
    let began = Instant::now();
    assert!(bench.who().await.is_err());
    assert!(began.elapsed() < Duration::from_secs(5), "at once, not after a timeout");
    let back = Server::start_at(acceptor(), addresses[1]).await;
    // Not healthy yet, as far as anybody knows: it is tried all the same.
    assert_eq!(bench.who().await.unwrap(), back.address.port());
    bench.until(addresses[1], "healthy").await;
}

#[tokio::test]
async fn a_stranger_is_not_healthy() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    let stranger = Server::start(foreign.acceptor("127.0.0.1")).await;
    let misnamed = Server::start(authority.acceptor("127.0.0.9")).await;
    let good = Server::start(authority.acceptor("127.0.0.1")).await;
    let bench = Bench::new(&authority, vec![stranger.address, misnamed.address, good.address]).await;
    bench.until(stranger.address, "unreachable: invalid peer certificate").await;
    bench.until(misnamed.address, "unreachable: invalid peer certificate").await;
    bench.until(good.address, "healthy").await;
    for _ in 0..5 {
        assert_eq!(bench.who().await.unwrap(), good.address.port());
    }
}

#[tokio::test]
async fn learned_servers_are_used_and_forgotten_again() {
    let authority = Authority::new();
    let acceptor = || authority.acceptor("127.0.0.1");
    let (baked, added) = (Server::start(acceptor()).await, Server::start(acceptor()).await);
    let bench = Bench::new(&authority, vec![baked.address]).await;
    bench.until(baked.address, "healthy").await;
    bench.balancer.learn(vec![baked.address, added.address]);
    bench.until(added.address, "healthy").await;
    let (one, first) = bench.connect().await.unwrap();
    let (two, second) = bench.connect().await.unwrap();
    assert_ne!(first, second);
    bench.balancer.learn(Vec::new());
    assert_eq!(bench.balancer.describe().len(), 2, "nothing known is not nothing there");
    bench.balancer.learn(vec![baked.address]);
    ends(if first == added.address.port() { one } else { two }).await;
    assert_eq!(bench.who().await.unwrap(), baked.address.port());
    assert_eq!(bench.balancer.describe().len(), 1);
}

#[tokio::test]
async fn half_of_a_connection_may_end_before_the_other() {
    let authority = Authority::new();
    // Says what it heard once it has heard all of it.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let bench = Bench::new(&authority, vec![listener.local_addr().unwrap()]).await;
    tokio::spawn(async move {
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut heard = Vec::new();
                tcp.read_to_end(&mut heard).await.unwrap();
                tcp.write_all(&heard).await.unwrap();
            });
        }
    });
    let mut client = TcpStream::connect(bench.entry).await.unwrap();
    let sent = vec![7; 1 << 20];
    client.write_all(&sent).await.unwrap();
    client.shutdown().await.unwrap();
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, sent);
}

#[tokio::test]
async fn connections_beyond_the_most_wait_and_are_served_then() {
    let authority = Authority::new();
    let server = Server::start(authority.acceptor("127.0.0.1")).await;
    let bench = Bench::new(&authority, vec![server.address]).await;
    bench.until(server.address, "healthy").await;
    let mut idle = Vec::new();
    for _ in 0..MOST_CONNECTIONS {
        idle.push(TcpStream::connect(bench.entry).await.unwrap());
    }
    bench.until(server.address, &format!("healthy, {MOST_CONNECTIONS} connections")).await;
    let waiting = bench.who();
    tokio::pin!(waiting);
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut waiting).await.is_err());
    idle.pop();
    assert_eq!(waiting.await.unwrap(), server.address.port());
}

#[tokio::test]
async fn it_listens_on_both_loopback_addresses() {
    let listeners = listen(0).await.unwrap();
    let port = listeners[0].local_addr().unwrap().port();
    for listener in &listeners {
        let address = listener.local_addr().unwrap();
        assert!(address.ip().is_loopback() && address.port() == port);
    }
    assert!(listen(port).await.is_err());
}
