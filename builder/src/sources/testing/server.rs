//! An HTTP server for a folder, on loopback, that can misbehave on request.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};

/// What happens to one request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Answers this status.
    Status(u16),
    /// Announces everything and closes the connection after so many bytes.
    CutAfter(usize),
    /// Sends so many bytes at a time, with a pause after each.
    Trickle(usize, Duration),
    /// Sends the whole file although a range was asked for.
    IgnoreRange,
    /// Sends another file's bytes.
    Body(Vec<u8>),
    /// Redirects there.
    Redirect(String),
}

#[derive(Default)]
struct State {
    /// By path: faults of the next requests, in order.
    once: Mutex<HashMap<String, Vec<Fault>>>,
    /// By path: what always happens.
    always: Mutex<HashMap<String, Fault>>,
    requests: Mutex<Vec<String>>,
    stop: AtomicBool,
}

/// Serves a folder until dropped.
pub struct Server {
    address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn new(root: &Path) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let (root, shared) = (root.to_owned(), Arc::clone(&state));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stop.load(Ordering::SeqCst) {
                    break;
                }
                let (root, shared) = (root.clone(), Arc::clone(&shared));
                // Not joined: a connection ends with its client, or after its silence.
                std::thread::spawn(move || serve(&stream.unwrap(), &root, &shared));
            }
        });
        Server { address, state, thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next request for `path` (`/dists/…`) meets `fault`; several calls: one after another.
    pub fn once(&self, path: &str, fault: Fault) {
        self.state.once.lock().unwrap().entry(path.to_owned()).or_default().push(fault);
    }

    /// Every request for `path` meets `fault`.
    pub fn always(&self, path: &str, fault: Fault) {
        self.state.always.lock().unwrap().insert(path.to_owned(), fault);
    }

    /// Requests for `path` are answered as they should be again.
    pub fn heal(&self, path: &str) {
        self.state.always.lock().unwrap().remove(path);
    }

    /// Requests so far: path, a space and the range if one was asked for.
    pub fn requests(&self) -> Vec<String> {
        self.state.requests.lock().unwrap().clone()
    }

    /// How many requests there were for `path`.
    pub fn count(&self, path: &str) -> usize {
        self.requests().iter().filter(|request| request.split(' ').next() == Some(path)).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// A port of loopback that refuses connections for as long as the socket lives: it is bound and does not
/// listen. The port of a listener that is gone could be given to a test beside this one.
pub fn refusing_port() -> (OwnedFd, u16) {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let port = SocketAddr::try_from(getsockname(&socket).unwrap()).unwrap().port();
    (socket, port)
}

fn serve(stream: &TcpStream, root: &Path, state: &State) {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut reader = BufReader::new(stream);
    // A test asks a few hundred times at most over one connection.
    for _ in 0..10_000 {
        let Some((path, range)) = request(&mut reader) else { return };
        let label = match &range {
            Some(offset) => format!("{path} {offset}-"),
            None => path.clone(),
        };
        state.requests.lock().unwrap().push(label);
        let next = state
            .once
            .lock()
            .unwrap()
            .get_mut(&path)
            .and_then(|faults| if faults.is_empty() { None } else { Some(faults.remove(0)) });
        let fault = next.or_else(|| state.always.lock().unwrap().get(&path).cloned());
        if !answer(stream, &root.join(path.trim_start_matches('/')), range, fault) {
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
    }
}

/// Path and start of the range; `None` when the client is gone.
fn request(reader: &mut BufReader<&TcpStream>) -> Option<(String, Option<usize>)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut range = None;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok().filter(|length| *length > 0)?;
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            return Some((path, range));
        }
        if let Some(start) = header.strip_prefix("range: bytes=") {
            range = start.trim_end_matches('-').parse().ok();
        }
    }
}

/// Whether the connection may be used again.
fn answer(mut stream: &TcpStream, path: &PathBuf, range: Option<usize>, fault: Option<Fault>) -> bool {
    let (step, pause) = match fault {
        Some(Fault::Trickle(step, pause)) => (step, pause),
        _ => (usize::MAX, Duration::ZERO),
    };
    let mut send = |status: u16, headers: &str, body: &[u8], announced: usize| {
        let head = format!("HTTP/1.1 {status} Test\r\nContent-Length: {announced}\r\n{headers}\r\n");
        let mut sent = stream.write_all(head.as_bytes()).is_ok();
        for piece in body.chunks(step) {
            sent = sent && stream.write_all(piece).is_ok();
            if sent {
                std::thread::sleep(pause);
            }
        }
        sent && body.len() == announced
    };
    let mut body = match (&fault, fs::read(path)) {
        (Some(Fault::Body(bytes)), _) => bytes.clone(),
        (Some(Fault::Status(status)), _) => return send(*status, "", b"", 0),
        (Some(Fault::Redirect(to)), _) => return send(302, &format!("Location: {to}\r\n"), b"", 0),
        (_, Ok(bytes)) => bytes,
        (_, Err(_)) => return send(404, "", b"not here", 8),
    };
    let whole = body.len();
    let mut headers = String::new();
    let mut status = 200;
    if let Some(start) = range.filter(|_| !matches!(fault, Some(Fault::IgnoreRange))) {
        if start >= whole {
            return send(416, "", b"", 0);
        }
        body.drain(..start);
        headers = format!("Content-Range: bytes {start}-{}/{whole}\r\n", whole - 1);
        status = 206;
    }
    let announced = body.len();
    if let Some(Fault::CutAfter(length)) = fault {
        body.truncate(length);
    }
    send(status, &headers, &body, announced)
}
