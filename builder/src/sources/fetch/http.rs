//! HTTP: attempts with a growing pause, and downloads that continue where the last one stopped
//! (RFC 9110, section 14: range requests).

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ureq::http::{StatusCode, header};
use ureq::{Agent, Proxy};

use super::answer::{Answer, NoAnswer, Stop, Stopped};
use super::{FetchError, Options, shown};
use crate::progress::Progress;
use crate::sources::cache::{Partial, full_or_io};
use crate::sources::readers::{Hashing, Limited, TooLong};

/// Attempts for one file, those that brought something included.
const MOST_ATTEMPTS: u32 = 50;

/// Two agents, because what was asked for over TLS must not be redirected to plain HTTP.
pub struct Client {
    plain: Agent,
    secure: Agent,
    options: Options,
}

/// One download into a partial file.
pub struct Transfer<'t> {
    pub url: &'t str,
    pub sha256: &'t str,
    pub size: Option<u64>,
    pub limit: u64,
    pub stop: Stop<'t>,
    pub step: &'t str,
}

/// How an attempt failed.
enum Failure {
    /// The next attempt may go better.
    Passing(String),
    /// Another attempt would end the same.
    Lasting(FetchError),
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        Failure::Lasting(error)
    }
}

impl Client {
    pub fn new(options: &Options) -> Client {
        let agent = |https_only| {
            // ureq reads the environment's proxy variables; apt's proxy is for machines without them.
            let proxy = Proxy::try_from_env()
                .or_else(|| options.proxy.as_deref().and_then(|proxy| Proxy::new(proxy).ok()));
            Agent::config_builder()
                .user_agent(concat!("bootwright/", env!("CARGO_PKG_VERSION")))
                .http_status_as_error(false)
                .https_only(https_only)
                .max_redirects(options.redirects)
                .max_redirects_will_error(true)
                .timeout_resolve(Some(options.silence))
                .timeout_connect(Some(options.silence))
                .timeout_recv_response(Some(options.silence))
                .timeout_per_read(Some(options.silence))
                .max_idle_connections_per_host(options.threads)
                .proxy(proxy)
                .build()
                .new_agent()
        };
        Client { plain: agent(false), secure: agent(true), options: options.clone() }
    }

    /// See [`super::Fetcher::document`].
    pub fn document(&self, url: &str, limit: u64, progress: &dyn Progress) -> Result<Vec<u8>, FetchError> {
        let stop = Stop { flag: &AtomicBool::new(false), progress };
        self.attempts(url, stop, |_| {
            let answer = self.get(url, 0, stop)?;
            if answer.status != StatusCode::OK {
                return Err(refused(url, answer.status));
            }
            let announced = answer.length;
            let mut bytes = Vec::new();
            Limited::new(answer.into_body(), limit)
                .read_to_end(&mut bytes)
                .map_err(|error| read_failure(url, limit, error))?;
            match announced {
                Some(length) if length != bytes.len() as u64 => Err(Failure::Passing(format!(
                    "the connection ended after {} of {length} bytes",
                    bytes.len()
                ))),
                _ => Ok(bytes),
            }
        })
    }

    /// Fills `partial` up to the whole file, verified; returns its size.
    pub fn fill(&self, transfer: &Transfer, partial: &mut Partial) -> Result<u64, FetchError> {
        let mut meter = Meter { transfer, reported: 0 };
        self.attempts(transfer.url, transfer.stop, |brought| {
            self.attempt(transfer, partial, &mut meter, brought)
        })
    }

    /// Calls `attempt` until it succeeds, fails for good, or failed too often. It sets its argument if
    /// it brought something: only attempts in a row that brought nothing count.
    fn attempts<T>(
        &self,
        url: &str,
        stop: Stop<'_>,
        mut attempt: impl FnMut(&mut bool) -> Result<T, Failure>,
    ) -> Result<T, FetchError> {
        let mut futile = 0;
        for number in 1..=MOST_ATTEMPTS {
            let mut brought = false;
            let reason = match attempt(&mut brought) {
                Ok(value) => return Ok(value),
                Err(Failure::Lasting(error)) => return Err(error),
                Err(Failure::Passing(reason)) => reason,
            };
            futile = if brought { 1 } else { futile + 1 };
            if stop.requested() {
                return Err(FetchError::Cancelled);
            }
            if futile >= self.options.attempts || number == MOST_ATTEMPTS {
                return Err(FetchError::Transport { url: shown(url), reason, attempts: number });
            }
            let pause = self.options.pause.saturating_mul(1 << (futile - 1).min(4));
            stop.progress.warn(&format!("{}: {reason}; trying again in {}", shown(url), seconds(pause)));
            stop.sleep(pause);
        }
        Err(FetchError::Transport { url: shown(url), reason: "no attempt".to_owned(), attempts: 0 })
    }

    fn get<'s>(&self, url: &str, offset: u64, stop: Stop<'s>) -> Result<Answer<'s>, Failure> {
        let agent = if url.starts_with("https:") { &self.secure } else { &self.plain };
        let mut request = agent.get(url);
        if offset > 0 {
            request = request.header(header::RANGE, format!("bytes={offset}-"));
        }
        Answer::of(request, stop).map_err(|error| match error {
            NoAnswer::Stopped => FetchError::Cancelled.into(),
            NoAnswer::Failed(error) => self.classify(url, error),
        })
    }

    fn classify(&self, url: &str, error: ureq::Error) -> Failure {
        use ureq::Error;
        let address = |reason: String| FetchError::Address { url: shown(url), reason };
        match error {
            Error::TooManyRedirects | Error::RedirectFailed => {
                FetchError::Redirects { url: shown(url), limit: self.options.redirects }.into()
            }
            Error::RequireHttpsOnly(_) => {
                address("an https address was redirected to one without TLS".to_owned()).into()
            }
            Error::BadUri(reason) => address(reason).into(),
            Error::Http(reason) => address(reason.to_string()).into(),
            // ureq would put "io: " before it.
            Error::Io(error) => Failure::Passing(error.to_string()),
            Error::HostNotFound => Failure::Passing("the host name cannot be resolved".to_owned()),
            other => Failure::Passing(other.to_string()),
        }
    }

    fn attempt(
        &self,
        transfer: &Transfer,
        partial: &mut Partial,
        meter: &mut Meter,
        brought: &mut bool,
    ) -> Result<u64, Failure> {
        let mut hash = hash_existing(partial, transfer.limit)?;
        let resumed = hash.size();
        meter.at(resumed);
        if transfer.size != Some(resumed) {
            let answer = self.get(transfer.url, resumed, transfer.stop)?;
            match answer.status {
                StatusCode::OK if resumed == 0 => {}
                StatusCode::PARTIAL_CONTENT if continues(&answer, resumed) => {}
                // The server does not do ranges, and sends everything.
                StatusCode::OK => {
                    partial.clear().map_err(FetchError::from)?;
                    hash = Hashing::new(io::sink());
                }
                StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                    partial.clear().map_err(FetchError::from)?;
                    return Err(Failure::Passing("the rest of the file cannot be had alone".to_owned()));
                }
                status => return Err(refused(transfer.url, status)),
            }
            receive(transfer, answer, partial, &mut hash, meter, brought)?;
        }
        finish(transfer, partial, hash, resumed)
    }
}

/// Streams the body behind what is in the file.
fn receive(
    transfer: &Transfer,
    answer: Answer<'_>,
    partial: &mut Partial,
    hash: &mut Hashing<io::Sink>,
    meter: &mut Meter,
    brought: &mut bool,
) -> Result<(), Failure> {
    let announced = answer.length.map(|length| hash.size().saturating_add(length));
    let whole = announced.or(transfer.size);
    let mut reader = Limited::new(answer.into_body(), transfer.limit.saturating_sub(hash.size()));
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = reader.read(&mut buffer).map_err(|error| {
            match read_failure(transfer.url, transfer.limit, error) {
                Failure::Passing(reason) => Failure::Passing(broken_off(&reason, hash.size(), whole)),
                lasting => lasting,
            }
        })?;
        if length == 0 {
            break;
        }
        let left = transfer.size.map_or(length as u64, |size| size.saturating_sub(hash.size()));
        partial
            .file
            .write_all(&buffer[..length])
            .map_err(|error| FetchError::Cache(full_or_io("write", partial.path(), left, error)))?;
        hash.update(&buffer[..length]);
        meter.at(hash.size());
        *brought = true;
    }
    match whole {
        Some(length) if hash.size() < length => {
            Err(Failure::Passing(broken_off("the connection ended", hash.size(), whole)))
        }
        _ => Ok(()),
    }
}

/// What went wrong, and how far the file had come: the next attempt goes on from there.
fn broken_off(reason: &str, size: u64, whole: Option<u64>) -> String {
    match whole {
        Some(whole) => format!("{reason} after {size} of {whole} bytes"),
        None => format!("{reason} after {size} bytes"),
    }
}

/// Compares size and digest of the complete file.
fn finish(
    transfer: &Transfer,
    partial: &mut Partial,
    hash: Hashing<io::Sink>,
    resumed: u64,
) -> Result<u64, Failure> {
    let (_, found, size) = hash.finish();
    if found == transfer.sha256 {
        return Ok(size);
    }
    partial.clear().map_err(FetchError::from)?;
    if resumed > 0 {
        // The beginning may be another file's, left by a mirror that has changed since.
        return Err(Failure::Passing("the resumed file has the wrong digest".to_owned()));
    }
    let url = shown(transfer.url);
    Err(Failure::Lasting(match transfer.size {
        Some(expected) if expected != size => {
            FetchError::Size { url, expected, found: format!("{size} bytes came") }
        }
        _ => FetchError::Digest { url, expected: transfer.sha256.to_owned(), found },
    }))
}

/// Whether the response is the rest of the file from `offset` on.
fn continues(answer: &Answer<'_>, offset: u64) -> bool {
    let range = answer.range.as_ref();
    answer.status == StatusCode::PARTIAL_CONTENT
        && range.is_some_and(|range| range.starts_with(&format!("bytes {offset}-")))
}

/// Hashes what an earlier attempt left; drops it if it is longer than the file can be.
fn hash_existing(partial: &mut Partial, limit: u64) -> Result<Hashing<io::Sink>, FetchError> {
    let io = |path: &std::path::Path, source| FetchError::File { path: path.to_owned(), source };
    let path = partial.path().to_owned();
    if partial.file.metadata().map_err(|source| io(&path, source))?.len() > limit {
        partial.clear()?;
    }
    partial.file.seek(SeekFrom::Start(0)).map_err(|source| io(&path, source))?;
    let mut hash = Hashing::new(io::sink());
    io::copy(&mut &partial.file, &mut hash).map_err(|source| io(&path, source))?;
    Ok(hash)
}

fn refused(url: &str, status: StatusCode) -> Failure {
    match status.as_u16() {
        408 | 425 | 429 | 500..=599 => Failure::Passing(format!("the server answered {}", status.as_u16())),
        status => Failure::Lasting(FetchError::Status { url: shown(url), status }),
    }
}

fn read_failure(url: &str, limit: u64, error: io::Error) -> Failure {
    let too_long = error.get_ref().is_some_and(|inner| inner.is::<TooLong>());
    if too_long {
        let found = "more came".to_owned();
        return FetchError::Size { url: shown(url), expected: limit, found }.into();
    }
    if error.get_ref().is_some_and(|inner| inner.is::<Stopped>()) {
        return FetchError::Cancelled.into();
    }
    Failure::Passing(error.to_string())
}

fn seconds(pause: Duration) -> String {
    format!("{:.1} s", pause.as_secs_f64())
}

/// Reports each byte once, however often a download begins anew.
struct Meter<'m> {
    transfer: &'m Transfer<'m>,
    reported: u64,
}

impl Meter<'_> {
    fn at(&mut self, position: u64) {
        if position > self.reported {
            self.transfer.stop.progress.advance(self.transfer.step, position - self.reported);
            self.reported = position;
        }
    }
}
