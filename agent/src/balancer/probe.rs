//! Looks at one API server again and again: `GET /readyz` over TLS, verified against the cluster's CA, with the
//! address as the name that the certificate must carry. RBAC's default role `system:public-info-viewer` lets
//! anybody ask.
//!
//! The connection is kept between looks. That costs an API server no handshake, and when the server's process
//! ends the closed connection tells at once, as keep-alive does a few seconds after its machine is gone.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::pool::{Health, Pool};
use super::relay;

/// Pauses and patience; a test has shorter ones.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Between looks at a healthy one.
    pub healthy: Duration,
    /// After a first failure that may be a hiccup, and the first pause of an unhealthy one; doubles from there.
    pub first: Duration,
    /// Largest pause of an unhealthy one.
    pub largest: Duration,
    /// For a connection, and again for the handshake and the answer.
    pub patience: Duration,
}

impl Timing {
    /// For a cluster of so many nodes: every one of them looks at every API server, which shall see no more than
    /// about a hundred looks a second. A look is a read of etcd, and one that ends is noticed without.
    pub fn of_cluster(nodes: usize) -> Timing {
        let seconds = u64::try_from(nodes / 100).unwrap_or(u64::MAX).clamp(5, 20);
        Timing {
            healthy: Duration::from_secs(seconds),
            first: Duration::from_millis(250),
            largest: Duration::from_secs(8),
            patience: Duration::from_secs(4),
        }
    }
}

/// What every probe has in common.
#[derive(Clone)]
pub struct Prober {
    tls: TlsConnector,
    timing: Timing,
}

/// A kept connection to an API server.
struct Connection {
    requests: SendRequest<Empty<Bytes>>,
    /// Ends when the connection does.
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// What one look showed.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    Ready,
    NotReady(String),
    /// Nobody is there: said by the kernel of this machine or that one.
    Refused(String),
    /// Its kernel takes connections, and it does not answer in time.
    Silent(String),
    /// Cut off in between, or not whom it should be.
    Failed(String),
}

impl Look {
    /// How many looks like this at a healthy server are taken for a hiccup. More of those that a busy one gives, for its
    /// clients would all connect to it again, or to another that is as busy.
    fn tolerated(&self) -> u32 {
        match self {
            Look::Ready | Look::Refused(_) => 0,
            Look::NotReady(_) | Look::Failed(_) => 1,
            Look::Silent(_) => 2,
        }
    }
}

impl Prober {
    /// Trusts these authorities.
    pub fn new(roots: Arc<rustls::RootCertStore>, timing: Timing) -> Prober {
        let config = crate::api::tls_builder().with_root_certificates(roots).with_no_client_auth();
        Prober { tls: TlsConnector::from(Arc::new(config)), timing }
    }

    /// Looks for ever, and tells the pool.
    pub async fn run(self, address: SocketAddr, pool: Arc<Pool>) {
        let early = pool.look(address);
        let mut connection = None;
        let mut failures: u32 = 0;
        let mut was_healthy = false;
        let mut woken_by_close = false;
        loop {
            let look = self.look(address, &mut connection).await;
            let pause = match look {
                Look::Ready => {
                    failures = 0;
                    was_healthy = true;
                    pool.report(address, Health::Healthy);
                    self.timing.healthy
                }
                look if was_healthy && failures < look.tolerated() => {
                    failures += 1;
                    self.timing.first
                }
                Look::NotReady(why) => {
                    was_healthy = false;
                    pool.report(address, Health::NotReady(why));
                    self.unhealthy(&mut failures)
                }
                Look::Silent(why) => {
                    was_healthy = false;
                    pool.report(address, Health::Silent(why));
                    self.unhealthy(&mut failures)
                }
                Look::Refused(why) | Look::Failed(why) => {
                    was_healthy = false;
                    pool.report(address, Health::Unreachable(why));
                    self.unhealthy(&mut failures)
                }
            };
            // Not twice in a row, for a server that closes after each answer is not looked at without a pause.
            let heed_close = !woken_by_close;
            woken_by_close = tokio::select! {
                () = sleep(pause) => false,
                () = early.notified() => false,
                // As soon as the server closes it, or the kernel gives it up.
                () = closed(&mut connection), if heed_close => true,
            };
        }
    }

    /// Doubles with each failure, and differs by a quarter so that nodes do not come in step.
    fn unhealthy(&self, failures: &mut u32) -> Duration {
        let doubled = self.timing.first.saturating_mul(1 << (*failures).min(10));
        *failures = failures.saturating_add(1);
        let pause = doubled.min(self.timing.largest);
        pause - pause.mul_f64(0.25 * fraction())
    }

    async fn look(&self, address: SocketAddr, connection: &mut Option<Connection>) -> Look {
        if let Some(mut kept) = connection.take_if(|kept| !kept.driver.is_finished()) {
            match timeout(self.timing.patience, ask(&mut kept.requests, address)).await {
                Ok(Ok(look)) => {
                    *connection = Some(kept);
                    return look;
                }
                // A server may close a kept connection at any time: only a fresh one tells.
                Ok(Err(_)) => {}
                // Busy, or its machine is gone: the next look, over a fresh one, tells which.
                Err(_) => return self.silent(),
            }
        }
        *connection = None;
        let tcp = match timeout(self.timing.patience, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => tcp,
            Ok(Err(error)) if is_refusal(&error) => return Look::Refused(error.to_string()),
            Ok(Err(error)) => return Look::Failed(error.to_string()),
            Err(_) => return Look::Failed(format!("no connection within {:?}", self.timing.patience)),
        };
        let fresh = async {
            let mut fresh = self.open(address, tcp).await.map_err(|error| error.to_string())?;
            let look = ask(&mut fresh.requests, address).await.map_err(|error| crate::chain(&error))?;
            Ok((look, fresh))
        };
        match timeout(self.timing.patience, fresh).await {
            Ok(Ok((look, fresh))) => {
                *connection = Some(fresh);
                look
            }
            Ok(Err(why)) => Look::Failed(why),
            Err(_) => self.silent(),
        }
    }

    fn silent(&self) -> Look {
        Look::Silent(format!("no answer within {:?}", self.timing.patience))
    }

    async fn open(&self, address: SocketAddr, tcp: TcpStream) -> io::Result<Connection> {
        relay::keep_alive(&tcp, relay::Alive::PROBE);
        let tls = self.tls.connect(ServerName::IpAddress(address.ip().into()), tcp).await?;
        let (requests, connection) = handshake(TokioIo::new(tls)).await.map_err(io::Error::other)?;
        // Its error, if any, is seen as a failed request.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Connection { requests, driver })
    }
}

/// Refused by a machine that is there, or by a router that knows no way: no use in asking again to be sure.
fn is_refusal(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable)
}

/// Bytes of an answer that are read; `/readyz` says `ok`, or a line for each check.
const ANSWER_BYTES: usize = 16 << 10;

async fn ask(requests: &mut SendRequest<Empty<Bytes>>, address: SocketAddr) -> Result<Look, hyper::Error> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = http::Uri::from_static("/readyz");
    if let Ok(host) = http::HeaderValue::from_str(&address.to_string()) {
        request.headers_mut().insert(http::header::HOST, host);
    }
    requests.ready().await?;
    let response = requests.send_request(request).await?;
    let status = response.status();
    // Read to its end, or the connection cannot be used again.
    let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
    if status == http::StatusCode::OK {
        return Ok(Look::Ready);
    }
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    Ok(Look::NotReady(format!("/readyz answers {}{}", status.as_u16(), failed_check(&body))))
}

/// The first failed check of the answer (`[-]etcd failed: …`).
fn failed_check(body: &[u8]) -> String {
    let body = String::from_utf8_lossy(body);
    let line = body.lines().find(|line| line.starts_with("[-]")).unwrap_or_default();
    let line: String = line.chars().filter(|c| !c.is_control()).take(120).collect();
    if line.is_empty() { line } else { format!(" {line}") }
}

async fn closed(connection: &mut Option<Connection>) {
    match connection {
        Some(connection) => drop((&mut connection.driver).await),
        None => std::future::pending().await,
    }
}

/// From 0 to 1, good enough to spread pauses.
fn fraction() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one(0);
    f64::from(u32::try_from(random >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_the_largest_and_differ_a_little() {
        let roots = Arc::new(rustls::RootCertStore::empty());
        let prober = Prober::new(roots, Timing::of_cluster(3));
        let mut failures = 0;
        let pauses: Vec<Duration> = (0..40).map(|_| prober.unhealthy(&mut failures)).collect();
        for (pause, full) in pauses.iter().zip([250, 500, 1000, 2000, 4000, 8000, 8000]) {
            let full = Duration::from_millis(full);
            assert!(*pause <= full && *pause >= full * 3 / 4, "{pause:?} of {full:?}");
        }
        assert!(pauses[39] <= Duration::from_secs(8));
    }

    #[test]
    fn large_clusters_look_less_often() {
        assert_eq!(Timing::of_cluster(0).healthy, Duration::from_secs(5));
        assert_eq!(Timing::of_cluster(1000).healthy, Duration::from_secs(10));
        assert_eq!(Timing::of_cluster(usize::MAX).healthy, Duration::from_secs(20));
    }

    #[test]
    fn the_failed_check_is_shown() {
        let body = b"[+]ping ok\n[-]etcd failed: reason withheld\n[+]log ok\nreadyz check failed\n";
        assert_eq!(failed_check(body), " [-]etcd failed: reason withheld");
        assert_eq!(failed_check(b"\xff\n"), "");
    }
}
