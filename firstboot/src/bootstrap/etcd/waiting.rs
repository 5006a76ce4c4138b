//! Answers at etcd's peer port while there is no etcd: this machine has no data.
//!
//! Over TLS, and to holders of a certificate of etcd's authority only, so that nobody else can say so in its name.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bootwright_model::kubernetes::pki;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::certificates::Roots;

/// Header of the answer.
pub const STATE: &str = "X-Bootwright-Etcd";
/// Its value: nothing on this machine has been a member of etcd.
pub const NO_DATA: &str = "no-data";
/// Header of the answer, if somebody may begin a cluster by this machine's cluster file: who.
pub const BEGINNER: &str = "X-Bootwright-Etcd-Beginner";

/// Time for one caller from the connection to the answer's end, however it spends it: as long as who asks waits.
const PATIENCE: Duration = super::peers::TIMEOUT;
/// Callers at a time; those beyond are hung up on. There are a few members.
const CALLERS: usize = 16;
/// Between looks whether it is over, milliseconds.
const LOOK_MS: i64 = 100;
/// Most bytes of a request that are read.
const REQUEST: usize = 8 << 10;

/// Answers until it is dropped; the port is free then.
#[derive(Debug)]
pub struct Waiting {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Waiting {
    /// Begins to answer at `address` with the certificate that etcd shows its peers. `beginner` may begin a cluster.
    pub fn listen(roots: &Roots, address: SocketAddr, beginner: Option<&str>) -> io::Result<Waiting> {
        let say = Arc::new(Say { config: Arc::new(config(roots)?), answer: answer(beginner) });
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let thread =
            thread::Builder::new().name("waiting".to_owned()).spawn(move || serve(&listener, &say, &told))?;
        Ok(Waiting { over, thread: Some(thread) })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What callers are told, and how.
#[derive(Debug)]
struct Say {
    config: Arc<ServerConfig>,
    answer: String,
}

/// The same to every request: an etcd that asks takes it for a peer that is not up.
fn answer(beginner: Option<&str>) -> String {
    let body = "this machine has no data of etcd\n";
    let beginner = beginner.map(|name| format!("{BEGINNER}: {name}\r\n")).unwrap_or_default();
    format!(
        "HTTP/1.1 503 Service Unavailable\r\n{STATE}: {NO_DATA}\r\n{beginner}Content-Type: text/plain\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn serve(listener: &TcpListener, say: &Arc<Say>, over: &AtomicBool) {
    let callers = Arc::new(AtomicUsize::new(0));
    while !over.load(Ordering::SeqCst) {
        let mut readable = [PollFd::new(listener, PollFlags::IN)];
        let pause = Timespec { tv_sec: 0, tv_nsec: LOOK_MS * 1_000_000 };
        if !matches!(poll(&mut readable, Some(&pause)), Ok(1..)) {
            continue;
        }
        let Ok((stream, _)) = listener.accept() else { continue };
        if callers.fetch_add(1, Ordering::SeqCst) >= CALLERS {
            callers.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        let (say, of) = (Arc::clone(say), Arc::clone(&callers));
        let spawned = thread::Builder::new().name("caller".to_owned()).spawn(move || {
            // A caller that cannot be answered asks again.
            let _ = Timed::new(stream, PATIENCE).and_then(|stream| serve_one(stream, &say));
            of.fetch_sub(1, Ordering::SeqCst);
        });
        if spawned.is_err() {
            callers.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

fn serve_one(stream: Timed, say: &Say) -> io::Result<()> {
    let connection = ServerConnection::new(Arc::clone(&say.config)).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    let mut request = Vec::new();
    let mut part = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = stream.read(&mut part)?;
        if read == 0 || request.len() > REQUEST {
            return Ok(());
        }
        request.extend_from_slice(&part[..read]);
    }
    stream.write_all(say.answer.as_bytes())?;
    stream.conn.send_close_notify();
    stream.flush()
}

/// A connection that is good for a time: a caller who sends one byte after the other must not keep a place.
#[derive(Debug)]
struct Timed {
    stream: TcpStream,
    deadline: Instant,
}

impl Timed {
    fn new(stream: TcpStream, time: Duration) -> io::Result<Timed> {
        stream.set_nonblocking(false)?;
        Ok(Timed { stream, deadline: Instant::now() + time })
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn config(roots: &Roots) -> io::Result<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut authorities = RootCertStore::empty();
    for authority in certificates(&roots.cluster_pki.join(pki::certificate(pki::ETCD_CA)))? {
        authorities.add(authority).map_err(io::Error::other)?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), Arc::clone(&provider))
        .build()
        .map_err(io::Error::other)?;
    let key = roots.node_pki.join(pki::key(pki::ETCD_PEER));
    let key = PrivateKeyDer::from_pem_file(&key).map_err(|error| of(&key, &error))?;
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(&roots.node_pki.join(pki::certificate(pki::ETCD_PEER)))?, key)
        .map_err(io::Error::other)
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    read.map_err(|error: rustls::pki_types::pem::Error| of(path, &error))
}

fn of(path: &Path, error: &dyn std::error::Error) -> io::Error {
    io::Error::other(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_that_dawdles_is_hung_up_on() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut caller = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut timed = Timed::new(listener.accept().unwrap().0, Duration::from_millis(500)).unwrap();
        let dawdles = thread::spawn(move || {
            while caller.write_all(b"x").is_ok() {
                thread::sleep(Duration::from_millis(50));
            }
        });
        let began = Instant::now();
        let mut read = 0;
        let mut byte = [0];
        let error = loop {
            match timed.read(&mut byte) {
                Ok(count) => read += count,
                Err(error) => break error,
            }
        };
        assert!(matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock), "{error}");
        assert!(read > 0 && began.elapsed() < Duration::from_secs(20));
        assert!(timed.write(b"x").is_err());
        drop(timed);
        dawdles.join().unwrap();
    }

    #[test]
    fn the_answer_names_who_may_begin() {
        assert!(
            answer(Some("cp1"))
                .contains("\r\nX-Bootwright-Etcd: no-data\r\nX-Bootwright-Etcd-Beginner: cp1\r\n")
        );
        assert!(!answer(None).contains(BEGINNER));
    }
}
