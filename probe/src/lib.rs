//! A probe: an HTTP server that tells who calls, tries on demand what it can reach, and sends back datagrams.
//!
//! `GET /` is answered with a [`Greeting`], `POST /checks/<token>` with the outcomes of the checks in its body. It has no TLS:
//! its caller is the API server's proxy, and a TLS handshake with others is the caller's, byte by byte
//! ([`Check::Exchange`]).
//!
//! [`Check::Exchange`]: bootwright_model::probe::Check::Exchange

mod checks;
mod datagram;
mod http;
mod resolve;

use std::collections::BTreeMap;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bootwright_model::probe::{CHECKS_PATH, Greeting, MOST_CHECKS};

use self::http::{Request, Response};

/// Connections at one time; more are closed unanswered. A probe answers one validation, not the world.
const MOST_CONNECTIONS: usize = 256;
/// How long a caller may take over its request.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a refused request that are read past.
const MOST_UNREAD: u64 = 1 << 20;

/// A probe whose sockets are there.
pub struct Server {
    token: Arc<str>,
    listener: TcpListener,
    datagrams: UdpSocket,
}

/// Takes the port, of TCP and of UDP. Checks are done for who knows `token`, for nobody if it is empty.
///
/// # Errors
/// It is taken, or the address is not ours.
pub fn bind(address: SocketAddr, token: String) -> std::io::Result<Server> {
    let listener = TcpListener::bind(address).or_else(|error| match address {
        // Where IPv6 is switched off, all addresses are those of IPv4.
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => TcpListener::bind(("0.0.0.0", v6.port())),
        _ => Err(error),
    })?;
    // The same port for both, also if any was asked for.
    let datagrams = UdpSocket::bind(listener.local_addr()?)?;
    datagram::keep_whole(&datagrams)?;
    Ok(Server { token: token.into(), listener, datagrams })
}

impl Server {
    /// Where it listens.
    ///
    /// # Errors
    /// The system does not say.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until the process ends.
    pub fn run(self) -> ! {
        let Server { token, listener, datagrams } = self;
        std::thread::spawn(move || datagram::send_back(&datagrams));
        let open = Arc::new(AtomicUsize::new(0));
        loop {
            match listener.accept() {
                Ok((stream, caller)) => answer_on_a_thread(stream, caller, &token, &open),
                // Out of descriptors, for one: those that are open end soon.
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }
}

/// One more open connection, until it is dropped.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn answer_on_a_thread(stream: TcpStream, caller: SocketAddr, token: &Arc<str>, open: &Arc<AtomicUsize>) {
    let before = open.fetch_add(1, Ordering::Relaxed);
    let one = Open(Arc::clone(open));
    if before >= MOST_CONNECTIONS {
        return;
    }
    let token = Arc::clone(token);
    // Without a thread it is closed, as above.
    let _ = std::thread::Builder::new().spawn(move || {
        let _one = one;
        // A caller that goes away misses its answer.
        let _ = answer(stream, caller, &token);
    });
}

fn answer(mut stream: TcpStream, caller: SocketAddr, token: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let response = match http::read(&mut stream)? {
        Ok(request) => respond(&request, caller, token),
        Err(why) => Response::words(400, why),
    };
    response.write(&mut stream)?;
    // Closed with something unread, a connection is reset, and the answer may be lost with it.
    stream.shutdown(std::net::Shutdown::Write)?;
    std::io::copy(&mut stream.take(MOST_UNREAD), &mut std::io::sink()).map(|_| ())
}

fn respond(request: &Request, caller: SocketAddr, token: &str) -> Response {
    let path = request.path.split('?').next().unwrap_or_default();
    let shown = path.strip_prefix(CHECKS_PATH);
    match (request.method.as_str(), shown) {
        ("GET", None) if path == "/" => Response::json(&greeting(caller)),
        ("POST", Some(shown)) if token.is_empty() || shown != token => {
            Response::words(403, "checks are done for who started this probe".to_owned())
        }
        ("POST", Some(_)) => match serde_json::from_slice::<Vec<_>>(&request.body) {
            Ok(wanted) if wanted.len() > MOST_CHECKS => Response::words(
                400,
                format!("more than {MOST_CHECKS} checks; ask for them in several requests"),
            ),
            Ok(wanted) => Response::json(&checks::all(&wanted)),
            Err(error) => Response::words(400, format!("not a list of checks: {error}")),
        },
        _ => Response::words(404, format!("there is GET / and POST {CHECKS_PATH}<token>")),
    }
}

fn greeting(caller: SocketAddr) -> Greeting {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    // A socket of both families shows IPv4 as a part of IPv6.
    Greeting { host, caller: SocketAddr::new(caller.ip().to_canonical(), caller.port()), links: links() }
}

/// From sysfs, which shows the links of the network namespace that it was mounted in: a container's own.
fn links() -> BTreeMap<String, u32> {
    let mut links = BTreeMap::new();
    for entry in std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let mtu = std::fs::read_to_string(entry.path().join("mtu")).ok();
        if let Some(mtu) = mtu.and_then(|text| text.trim().parse().ok()).filter(|_| name != "lo") {
            links.insert(name, mtu);
        }
    }
    links
}
