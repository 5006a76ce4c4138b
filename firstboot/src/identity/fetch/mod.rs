//! Requests to servers that know the machine, before it has an address of its own: short, bounded, and believed no more than
//! anything from the network. [`way`] borrows an address for them.

mod privileged;
#[cfg(test)]
pub mod testing;
pub mod way;

use std::fmt;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use backon::{BlockingRetryable, ExponentialBuilder};
use serde::de::DeserializeOwned;
use ureq::http::StatusCode;
use ureq::unversioned::resolver::DefaultResolver;

use self::privileged::FromPrivileged;
use super::document::MOST_BYTES;
use super::source::SourceError;

/// A service is one or two hops away and answers in milliseconds.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);
/// For a whole answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// Services that are starting, or asked by many at once, answer 5xx or 429 for a moment.
const TRIES: usize = 4;
/// Pause before the second try; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Bytes that an answer may have: user data in base64, twice, in JSON.
const MOST_ANSWER_BYTES: u64 = 4 * MOST_BYTES;

/// The port that a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// Whichever is free.
    Any,
    /// One that only root may have, below 1024.
    Privileged,
}

/// A service that is asked by HTTP.
#[derive(Debug)]
pub struct Service {
    agent: ureq::Agent,
    base: String,
    end: Instant,
}

/// A request that came to nothing.
#[derive(Debug, thiserror::Error)]
#[error("{url}: {why}")]
pub struct FetchError {
    /// What was asked for.
    pub url: String,
    /// Why it did not work.
    pub why: Why,
}

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Why {
    /// No answer, or no whole one.
    #[error("no answer: {0}")]
    NoAnswer(Box<ureq::Error>),
    /// An answer that is not the thing asked for.
    #[error("the answer is {0}")]
    Status(StatusCode),
    /// Something every machine of the cloud has.
    #[error("there is no such thing, and every machine of this cloud has it")]
    Missing,
    /// More than anybody means.
    #[error("the answer has more than {MOST_ANSWER_BYTES} bytes")]
    Large,
    /// Not what the cloud's documentation says.
    #[error("the answer cannot be read: {0}")]
    Unreadable(String),
}

impl FetchError {
    /// Whether nobody listens, which another link may change.
    pub fn is_silence(&self) -> bool {
        matches!(self.why, Why::NoAnswer(_))
    }

    /// Whether the same request may work a little later.
    fn may_pass(&self) -> bool {
        match &self.why {
            Why::NoAnswer(_) => true,
            Why::Status(status) => status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS,
            Why::Missing | Why::Large | Why::Unreadable(_) => false,
        }
    }
}

/// Why a service that was reached said nothing of use.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The request.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A person's mistake in what the cloud keeps for them.
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// Headers of a request.
pub type Headers<'a> = [(&'a str, &'a str)];

impl Service {
    /// That which listens at `address`, to be asked until `end`.
    pub fn new(address: SocketAddrV4, port: Port, end: Instant) -> Service {
        // A redirect would lead a request with a token somewhere else: no cloud sends one.
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_connect(Some(CONNECT_PATIENCE))
            .user_agent("bootwright")
            .build();
        let agent = match port {
            Port::Any => config.new_agent(),
            Port::Privileged => ureq::Agent::with_parts(config, FromPrivileged, DefaultResolver::default()),
        };
        Service { agent, base: format!("http://{address}"), end }
    }

    /// Where a path is, for messages.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// What is at a path; none if there is nothing (404).
    pub fn get(&self, path: &str, headers: &Headers) -> Result<Option<Vec<u8>>, FetchError> {
        self.retried(path, |patience| {
            let request = with_headers(self.agent.get(self.url(path)), headers);
            request.config().timeout_global(Some(patience)).build().call()
        })
    }

    /// The answer to an empty PUT, by which some services hand out a token.
    pub fn put(&self, path: &str, headers: &Headers) -> Result<Option<Vec<u8>>, FetchError> {
        self.retried(path, |patience| {
            let request = with_headers(self.agent.put(self.url(path)), headers);
            request.config().timeout_global(Some(patience)).build().send_empty()
        })
    }

    /// Tells it something.
    pub fn post(&self, path: &str, headers: &Headers, body: &str) -> Result<Option<Vec<u8>>, FetchError> {
        self.retried(path, |patience| {
            let request = with_headers(self.agent.post(self.url(path)), headers);
            request.config().timeout_global(Some(patience)).build().send(body)
        })
    }

    /// User data at a path, with its address.
    pub fn user_data(&self, path: &str, headers: &Headers) -> Result<Option<(Vec<u8>, String)>, FetchError> {
        let bytes = self.get(path, headers)?.filter(|bytes| !bytes.is_empty());
        Ok(bytes.map(|bytes| (bytes, self.url(path))))
    }

    /// A line of text; none if it is absent or empty.
    pub fn line(&self, path: &str, headers: &Headers) -> Result<Option<String>, FetchError> {
        let Some(bytes) = self.get(path, headers)? else { return Ok(None) };
        let text = String::from_utf8(bytes)
            .map_err(|_| self.error(path, Why::Unreadable("it is no UTF-8 text".to_owned())))?;
        let line = text.trim();
        // A page of HTML, say, in the place of a name.
        if line.contains(char::is_control) {
            return Err(self.error(path, Why::Unreadable("it is more than a line".to_owned())));
        }
        Ok((!line.is_empty()).then(|| line.to_owned()))
    }

    /// What a document says.
    pub fn json<T: DeserializeOwned>(&self, path: &str, headers: &Headers) -> Result<T, FetchError> {
        let bytes = self.needed(path, self.get(path, headers)?)?;
        serde_json::from_slice(&bytes).map_err(|error| self.error(path, Why::Unreadable(error.to_string())))
    }

    /// What every machine of the cloud has.
    pub fn needed<T>(&self, path: &str, value: Option<T>) -> Result<T, FetchError> {
        value.ok_or_else(|| self.error(path, Why::Missing))
    }

    /// Why the answer at a path is of no use.
    pub fn error(&self, path: &str, why: Why) -> FetchError {
        FetchError { url: self.url(path), why }
    }

    fn retried(
        &self,
        path: &str,
        send: impl Fn(Duration) -> Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<Option<Vec<u8>>, FetchError> {
        let pauses = ExponentialBuilder::new().with_min_delay(FIRST_PAUSE).with_max_times(TRIES - 1);
        let once = || match send(self.patience()) {
            Ok(response) => read(response).map_err(|why| self.error(path, why)),
            Err(error) => Err(self.error(path, Why::NoAnswer(Box::new(error)))),
        };
        let again = |error: &FetchError| error.may_pass() && Instant::now() < self.end;
        once.retry(pauses).when(again).call()
    }

    /// What one answer may take: the least that there is if the time is over, so that the error says so.
    fn patience(&self) -> Duration {
        let left = self.end.saturating_duration_since(Instant::now());
        left.clamp(Duration::from_millis(1), ANSWER_PATIENCE)
    }
}

fn with_headers<B>(request: ureq::RequestBuilder<B>, headers: &Headers) -> ureq::RequestBuilder<B> {
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
}

fn read(mut response: ureq::http::Response<ureq::Body>) -> Result<Option<Vec<u8>>, Why> {
    let status = response.status();
    let body = response.body_mut().with_config().limit(MOST_ANSWER_BYTES).read_to_vec();
    match (status, body) {
        (StatusCode::NOT_FOUND, _) => Ok(None),
        (StatusCode::OK, Ok(body)) => Ok(Some(body)),
        (StatusCode::OK, Err(ureq::Error::BodyExceedsLimit(_))) => Err(Why::Large),
        (StatusCode::OK, Err(error)) => Err(Why::NoAnswer(Box::new(error))),
        (status, _) => Err(Why::Status(status)),
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base)
    }
}

#[cfg(test)]
mod tests;
