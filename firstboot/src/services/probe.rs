//! Readiness probes: a thread for each service that is not ready yet, none afterwards.
//!
//! What is not listening yet costs one refused connect(2) per look. HTTPS keeps its connection open between
//! looks, because a TLS handshake every few milliseconds would slow down the start that it waits for.
//! Once ready a service is not probed again: that it ends is seen anyway, and a look at every service every few
//! seconds for ever is not free on a small machine.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bootwright_model::profile::Readiness;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::mailbox::{Message, Post};

/// First and largest pause between looks at a port or socket that nobody listens on, and between requests.
const CONNECT_INTERVAL: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];
const REQUEST_INTERVAL: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];
/// In between the pause is this part of the time since the first look: readiness is seen at most 2 % late, and a
/// program that takes minutes to start is not kept from it by looks that come twenty times a second.
const PART: u32 = 50;
/// For one request, the handshake included, which takes long on an emulated processor.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// To connect on loopback.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Stack of a probe's thread, bytes: TLS verification is the deepest that runs on it.
const STACK: usize = 512 << 10;
/// Most of an HTTP answer that is read.
const BODY_BYTES: u64 = 16 << 10;

/// A probe of one run of a service.
#[derive(Debug, Clone)]
pub struct Probe {
    /// Index of the service.
    pub service: usize,
    /// Number of the run that is probed.
    pub run: u32,
    /// What to look at.
    pub readiness: Readiness,
    /// CA certificates that HTTPS trusts, PEM.
    pub ca: PathBuf,
    /// Number of the run that is wanted; the probe ends when it is another.
    pub current: Arc<AtomicU32>,
}

impl Probe {
    /// Probes in a thread of its own until ready, and tells the supervisor.
    pub fn start(self, post: Post) -> std::io::Result<()> {
        let name = format!("probe-{}", self.service);
        thread::Builder::new().name(name).stack_size(STACK).spawn(move || self.run(&post)).map(drop)
    }

    fn run(&self, post: &Post) {
        let started = Instant::now();
        let mut looker = Looker::new(&self.readiness, &self.ca);
        let mut last = String::new();
        while self.current.load(Ordering::SeqCst) == self.run {
            let look = looker.look();
            let interval = match &look {
                Look::Ready => return post.send(Message::Ready(self.service, self.run)),
                Look::NotListening(_) => CONNECT_INTERVAL,
                Look::NotReady(_) => REQUEST_INTERVAL,
            };
            if let Look::NotListening(reason) | Look::NotReady(reason) = look
                && reason != last
            {
                post.send(Message::NotReady(self.service, self.run, reason.clone()));
                last = reason;
            }
            thread::sleep(pause(interval, started.elapsed()));
        }
    }
}

/// How long to wait before the next look.
fn pause([first, largest]: [Duration; 2], elapsed: Duration) -> Duration {
    (elapsed / PART).clamp(first, largest)
}

/// What one look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// Ready.
    Ready,
    /// Nobody accepts a connection, and why.
    NotListening(String),
    /// It answers, but not that it is ready.
    NotReady(String),
}

/// Looks at one target again and again, keeping a connection.
#[derive(Debug)]
pub struct Looker {
    readiness: Readiness,
    ca: PathBuf,
    agent: Option<ureq::Agent>,
}

impl Looker {
    /// Looks at nothing yet.
    pub fn new(readiness: &Readiness, ca: &std::path::Path) -> Looker {
        Looker { readiness: readiness.clone(), ca: ca.to_owned(), agent: None }
    }

    /// Looks once.
    pub fn look(&mut self) -> Look {
        match self.readiness.clone() {
            Readiness::Tcp(address) => tcp(&address),
            Readiness::Unix(path) => unix(&path),
            Readiness::Http(target) => self.request(&target, false),
            Readiness::Https(target) => self.request(&target, true),
        }
    }

    fn request(&mut self, target: &str, tls: bool) -> Look {
        let authority = target.split('/').next().unwrap_or_default();
        // Only until it listens: from then on the agent's own connection is used.
        if self.agent.is_none() {
            let listening = tcp(authority);
            if listening != Look::Ready {
                return listening;
            }
        }
        let agent = match &self.agent {
            Some(agent) => agent.clone(),
            None => match agent(tls, &self.ca) {
                Ok(agent) => self.agent.insert(agent).clone(),
                Err(reason) => return Look::NotReady(reason),
            },
        };
        let scheme = if tls { "https" } else { "http" };
        let mut response = match agent.get(format!("{scheme}://{target}")).call() {
            Ok(response) => response,
            Err(error) => {
                // It may have been restarted, with another certificate: begin again with a plain connect.
                self.agent = None;
                return Look::NotReady(format!("{scheme}://{target}: {error}"));
            }
        };
        let status = response.status();
        // Read to its end, or the connection cannot be used again.
        let body = response.body_mut().with_config().limit(BODY_BYTES).lossy_utf8(true).read_to_string();
        if status.as_u16() == 200 {
            return Look::Ready;
        }
        let detail = body.ok().and_then(|body| detail(&body)).map(|d| format!(": {d}")).unwrap_or_default();
        Look::NotReady(format!("{scheme}://{target} answers {}{detail}", status.as_u16()))
    }
}

/// The first failed check of a Kubernetes health answer (`[-]etcd failed: …`), else the first line.
fn detail(body: &str) -> Option<String> {
    let mut lines = body.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.clone().next()?;
    let line = lines.find(|line| line.starts_with("[-]")).unwrap_or(first);
    Some(line.chars().filter(|c| !c.is_control()).take(160).collect())
}

fn agent(tls: bool, ca: &std::path::Path) -> Result<ureq::Agent, String> {
    let mut config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(REQUEST_TIMEOUT))
        .max_redirects(0)
        .proxy(None);
    if tls {
        let pem = std::fs::read(ca).map_err(|error| format!("CA certificate {}: {error}", ca.display()))?;
        let certificate = Certificate::from_pem(&pem)
            .map_err(|error| format!("CA certificate {}: {error}", ca.display()))?;
        let roots = RootCerts::new_with_certs(&[certificate]);
        config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
    }
    Ok(config.build().new_agent())
}

fn tcp(address: &str) -> Look {
    let Ok(parsed) = address.parse::<SocketAddr>() else {
        return Look::NotListening(format!("{address:?} is not an address with a port"));
    };
    match TcpStream::connect_timeout(&parsed, CONNECT_TIMEOUT) {
        Ok(_) => Look::Ready,
        Err(error) => Look::NotListening(format!("{address}: {error}")),
    }
}

fn unix(path: &str) -> Look {
    let try_type = |kind| {
        let socket =
            socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
        connect(&socket, &SocketAddrUnix::new(path)?)
    };
    // EPROTOTYPE: it is a datagram socket, to which a connect succeeds when somebody has bound it.
    let connected = try_type(SocketType::STREAM).or_else(|error| match error {
        Errno::PROTOTYPE => try_type(SocketType::DGRAM),
        other => Err(other),
    });
    match connected {
        // EAGAIN: its queue of connections is full, so it listens.
        Ok(()) | Err(Errno::AGAIN) => Look::Ready,
        Err(error) => Look::NotListening(format!("{path}: {error}")),
    }
}

#[cfg(test)]
mod tests;
