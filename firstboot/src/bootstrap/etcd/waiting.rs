//! Answers at etcd's peer port while there is no etcd: this control plane has no data.
//!
//! Over TLS, and to holders of a certificate of etcd's authority only, so that nobody else can say so in its name.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

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

/// Longest wait for a caller to say something.
const PATIENCE: Duration = Duration::from_secs(5);
/// Callers at a time; those beyond are hung up on. There are a few control planes.
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
    /// Begins to answer at `address` with the certificate that etcd shows its peers.
    pub fn listen(roots: &Roots, address: SocketAddr) -> io::Result<Waiting> {
        let config = Arc::new(config(roots)?);
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let thread = thread::Builder::new()
            .name("waiting".to_owned())
            .spawn(move || serve(&listener, &config, &told))?;
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

fn serve(listener: &TcpListener, config: &Arc<ServerConfig>, over: &AtomicBool) {
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
        let (config, of) = (Arc::clone(config), Arc::clone(&callers));
        let spawned = thread::Builder::new().name("caller".to_owned()).spawn(move || {
            // A caller that cannot be answered asks again.
            let _ = answer(stream, config);
            of.fetch_sub(1, Ordering::SeqCst);
        });
        if spawned.is_err() {
            callers.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Says the same to every request: an etcd that asks takes it for a peer that is not up.
fn answer(stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
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
    let body = "this control plane has no data of etcd\n";
    write!(
        stream,
        "HTTP/1.1 503 Service Unavailable\r\n{STATE}: {NO_DATA}\r\nContent-Type: text/plain\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    stream.conn.send_close_notify();
    stream.flush()
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
