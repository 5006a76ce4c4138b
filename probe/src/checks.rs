//! Carries out checks, many at once.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bootwright_model::probe::{CHECK_SECONDS, Check, Outcome};

use crate::{datagram, resolve};

/// How long one check may take.
const LIMIT: Duration = Duration::from_secs(CHECK_SECONDS);
/// Checks at one time: all of a request within a few times [`LIMIT`], and not a burst that loses its own packets.
const AT_ONCE: usize = 16;
/// Bytes of an answer that are kept.
const MOST_ANSWER: usize = 16 << 10;
/// After this much silence whoever was spoken to waits for us.
const SILENCE: Duration = Duration::from_millis(700);

/// The outcomes, in the order of the checks.
pub fn all(wanted: &[Check]) -> Vec<Outcome> {
    let outcomes = Mutex::new(vec![None; wanted.len()]);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..wanted.len().min(AT_ONCE) {
            scope.spawn(|| {
                while let Some((index, check)) = take(wanted, &next) {
                    let outcome = one(check).unwrap_or_else(|why| Outcome::Failed { why });
                    // A panic elsewhere leaves the list as whole as it was.
                    outcomes.lock().unwrap_or_else(|poison| poison.into_inner())[index] = Some(outcome);
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().unwrap_or_else(|poison| poison.into_inner());
    let lost = || Outcome::Failed { why: "the probe did not get to it".to_owned() };
    outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(lost)).collect()
}

fn take<'a>(wanted: &'a [Check], next: &AtomicUsize) -> Option<(usize, &'a Check)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    wanted.get(index).map(|check| (index, check))
}

fn one(check: &Check) -> Result<Outcome, String> {
    let deadline = Instant::now() + LIMIT;
    match check {
        Check::Http { to, path } => http(*to, path, deadline),
        Check::Datagram { to, bytes } => {
            datagram::there_and_back(*to, *bytes, deadline).map(|()| Outcome::Datagram)
        }
        Check::Resolve { name } => resolve::addresses(name, deadline),
        Check::Exchange { to, bytes } => exchange(*to, bytes, deadline),
    }
}

fn connect(to: SocketAddr, deadline: Instant) -> Result<TcpStream, String> {
    let limit = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    TcpStream::connect_timeout(&to, limit).map_err(|error| format!("cannot connect to {to}: {error}"))
}

fn http(to: SocketAddr, path: &str, deadline: Instant) -> Result<Outcome, String> {
    let mut stream = connect(to, deadline)?;
    let failed = |error: std::io::Error| format!("connected to {to}, then: {error}");
    let local = stream.local_addr().map_err(failed)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let answer = listen(&mut stream, deadline, None).map_err(failed)?;
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut fields);
    match (response.parse(&answer), response.code) {
        (Ok(httparse::Status::Complete(head)), Some(status)) => {
            let body = String::from_utf8_lossy(&answer[head..]).into_owned();
            Ok(Outcome::Http { local, status, body })
        }
        _ if answer.is_empty() => Err(format!("connected to {to}, and it said nothing")),
        _ => Err(format!("connected to {to}, and its answer is not HTTP")),
    }
}

fn exchange(to: SocketAddr, bytes: &[u8], deadline: Instant) -> Result<Outcome, String> {
    let mut stream = connect(to, deadline)?;
    let failed = |error: std::io::Error| format!("connected to {to}, then: {error}");
    stream.write_all(bytes).map_err(failed)?;
    let bytes = listen(&mut stream, deadline, Some(SILENCE)).map_err(failed)?;
    if bytes.is_empty() {
        Err(format!("connected to {to}, and it said nothing"))
    } else {
        Ok(Outcome::Exchanged { bytes })
    }
}

/// All that is said until the connection ends, the deadline, or a `silence` after something was said.
fn listen(stream: &mut TcpStream, deadline: Instant, silence: Option<Duration>) -> std::io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while answer.len() < MOST_ANSWER {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let limit = match silence {
            Some(silence) if !answer.is_empty() => left.min(silence),
            _ => left,
        };
        stream.set_read_timeout(Some(limit))?;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
            {
                break;
            }
            // What was said before a reset counts.
            Err(_) if !answer.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(answer)
}
