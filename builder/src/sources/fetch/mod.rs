//! Fetches files over HTTP(S), or from a local path, into the cache.
//!
//! Whatever goes into the cache has a digest that is known before (from a signed index, the lock or a
//! checksum beside the file), is verified while it streams, and is resumed where an earlier attempt or
//! an earlier run stopped. What has no digest (the signed index itself) is a small [`Fetcher::document`].

mod answer;
mod http;
mod local;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use self::answer::Stop;
use super::Artifact;
use super::cache::{Cache, CacheError, require_space};
use crate::progress::{Progress, Unit};

/// Why something could not be fetched. URLs in it carry no password.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The server refused.
    #[error("{url}: the server answered {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// The connection failed, again and again.
    #[error(
        "{url}: {reason} (tried {attempts} times); check the network, the mirror and the proxy variables"
    )]
    Transport {
        /// What was asked for.
        url: String,
        /// What the last attempt ended with.
        reason: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// One server sent us to another, too often.
    #[error("{url}: more than {limit} redirects; name the final server in the cluster file")]
    Redirects {
        /// What was asked for.
        url: String,
        /// Redirects followed.
        limit: u32,
    },
    /// An address that cannot be fetched.
    #[error("{url}: not an address that can be fetched: {reason}; http, https, file and plain paths can")]
    Address {
        /// The address.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The bytes are not what was announced.
    #[error(
        "{url}: SHA-256 is {found}, announced was {expected}; the mirror or a proxy serves another file: try again, or another mirror"
    )]
    Digest {
        /// What was asked for.
        url: String,
        /// What was announced.
        expected: String,
        /// What came.
        found: String,
    },
    /// More or fewer bytes than announced.
    #[error("{url}: {found}, announced were {expected} bytes; the mirror or a proxy serves another file")]
    Size {
        /// What was asked for.
        url: String,
        /// Bytes announced.
        expected: u64,
        /// What came: `1234 bytes`, `more`.
        found: String,
    },
    /// A local file.
    #[error("could not read {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another download failed first, or the person asked to stop.
    #[error("stopped because another download failed, or on request")]
    Cancelled,
    /// The cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

impl FetchError {
    /// Whether the server (or folder) has no such file, so that another mirror may be asked.
    pub fn is_absent(&self) -> bool {
        match self {
            FetchError::Status { status, .. } => matches!(status, 404 | 410),
            FetchError::File { source, .. } => source.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    }
}

/// One file that is wanted in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    /// What it is, for people and the [`Artifact`].
    pub name: String,
    /// Version, for the [`Artifact`].
    pub version: String,
    /// Where it can be had, in order of preference: the next is asked if one does not have the file.
    pub urls: Vec<String>,
    /// Its digest.
    pub sha256: String,
    /// Bytes, if known.
    pub size: Option<u64>,
}

/// How hard to try.
#[derive(Debug, Clone)]
pub struct Options {
    /// Files at a time.
    pub threads: usize,
    /// Attempts in a row that bring no byte.
    pub attempts: u32,
    /// Pause after the first failed attempt; doubles up to sixteen times itself.
    pub pause: Duration,
    /// A connection that is silent for so long has failed.
    pub silence: Duration,
    /// Redirects that are followed.
    pub redirects: u32,
    /// Proxy, from the machine's apt configuration; the environment's variables come first.
    pub proxy: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            threads: 6,
            attempts: 5,
            pause: Duration::from_millis(500),
            silence: Duration::from_secs(30),
            redirects: 5,
            proxy: None,
        }
    }
}

/// Largest file without an announced size: a Kubernetes binary is about 120 MB.
const LARGEST_UNANNOUNCED: u64 = 2 << 30;

/// Fetches into one cache.
pub struct Fetcher<'a> {
    cache: &'a Cache,
    progress: &'a dyn Progress,
    options: Options,
    http: http::Client,
    stop: AtomicBool,
}

impl<'a> Fetcher<'a> {
    /// Opens no connection yet.
    pub fn new(cache: &'a Cache, progress: &'a dyn Progress, options: Options) -> Self {
        let http = http::Client::new(&options);
        Fetcher { cache, progress, options, http, stop: AtomicBool::new(false) }
    }

    /// The cache that is fetched into.
    pub fn cache(&self) -> &'a Cache {
        self.cache
    }

    /// Who is told about the progress.
    pub fn progress(&self) -> &'a dyn Progress {
        self.progress
    }

    /// A small document that has no digest of its own, at most `limit` bytes.
    pub fn document(&self, url: &str, limit: u64) -> Result<Vec<u8>, FetchError> {
        match Location::parse(url)? {
            Location::Local(path) => local::document(&path, limit),
            Location::Http(url) => self.http.document(url, limit, self.progress),
        }
    }

    /// Fetches what the cache lacks, the largest first, several at a time, and calls `then` for each file
    /// from the thread that fetched it. Returns the artifacts in the order of `downloads`. After the
    /// first error no new file is begun.
    pub fn fetch_all<E: From<FetchError> + Send>(
        &self,
        step: &str,
        downloads: &[Download],
        then: impl Fn(usize, &Artifact) -> Result<(), E> + Sync,
    ) -> Result<Vec<Artifact>, E> {
        let missing: u64 = downloads
            .iter()
            .filter(|download| self.present(download).is_none())
            .map(|download| download.size.unwrap_or(0))
            .sum();
        require_space(self.cache.root(), missing).map_err(FetchError::from)?;
        self.progress.begin(step, Some(missing), Unit::Bytes);
        let mut order: Vec<usize> = (0..downloads.len()).collect();
        order.sort_by_key(|&index| std::cmp::Reverse(downloads[index].size));
        let next = AtomicUsize::new(0);
        let results: Vec<Mutex<Option<Result<Artifact, E>>>> =
            downloads.iter().map(|_| Mutex::new(None)).collect();
        self.stop.store(false, Ordering::Relaxed);
        std::thread::scope(|scope| {
            for _ in 0..self.options.threads.clamp(1, downloads.len().max(1)) {
                scope.spawn(|| {
                    while !self.stop.load(Ordering::Relaxed) && !self.progress.interrupted() {
                        let Some(&index) = order.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
                        let result = match self.object(step, &downloads[index]) {
                            // Another thread has the reason.
                            Err(FetchError::Cancelled) => break,
                            Err(error) => Err(E::from(error)),
                            Ok(artifact) => then(index, &artifact).map(|()| artifact),
                        };
                        if result.is_err() {
                            self.stop.store(true, Ordering::Relaxed);
                        }
                        *results[index].lock().expect("no thread panics while it stores a result") =
                            Some(result);
                    }
                });
            }
        });
        self.collect(results)
    }

    /// The first real error in the order of the request, else all artifacts.
    fn collect<E: From<FetchError>>(
        &self,
        results: Vec<Mutex<Option<Result<Artifact, E>>>>,
    ) -> Result<Vec<Artifact>, E> {
        let mut artifacts = Vec::with_capacity(results.len());
        let mut unfinished = false;
        for result in results {
            match result.into_inner().expect("no thread panics while it stores a result") {
                Some(Ok(artifact)) => artifacts.push(artifact),
                Some(Err(error)) => return Err(error),
                None => unfinished = true,
            }
        }
        if unfinished { Err(E::from(FetchError::Cancelled)) } else { Ok(artifacts) }
    }

    fn present(&self, download: &Download) -> Option<Artifact> {
        let object = self.cache.find(&download.sha256)?;
        if download.size.is_some_and(|size| size != object.size) {
            return None;
        }
        Some(download.artifact(object.size, object.path))
    }

    /// One file, from the cache or from the first of its addresses that has it.
    fn object(&self, step: &str, download: &Download) -> Result<Artifact, FetchError> {
        if let Some(artifact) = self.present(download) {
            return Ok(artifact);
        }
        let mut absent = None;
        for url in &download.urls {
            let result = match Location::parse(url)? {
                Location::Local(path) => {
                    local::object(&path, download, self.cache, &|bytes| self.progress.advance(step, bytes))
                }
                Location::Http(url) => self.over_http(url, step, download),
            };
            match result {
                Err(error) if error.is_absent() => absent = Some(error),
                result => return result,
            }
        }
        let nowhere = || FetchError::Address { url: download.name.clone(), reason: "it has none".to_owned() };
        Err(absent.unwrap_or_else(nowhere))
    }

    fn over_http(&self, url: &str, step: &str, download: &Download) -> Result<Artifact, FetchError> {
        let mut partial = self.cache.partial(&download.sha256)?;
        if let Some(artifact) = self.present(download) {
            partial.discard()?;
            return Ok(artifact);
        }
        let transfer = http::Transfer {
            url,
            sha256: &download.sha256,
            size: download.size,
            limit: download.size.unwrap_or(LARGEST_UNANNOUNCED),
            stop: Stop { flag: &self.stop, progress: self.progress },
            step,
        };
        let size = match self.http.fill(&transfer, &mut partial) {
            Ok(size) => size,
            Err(error) => {
                partial.keep_if_worthwhile()?;
                return Err(error);
            }
        };
        let object = partial.commit(download.sha256.clone(), size)?;
        Ok(download.artifact(object.size, object.path))
    }
}

impl Download {
    fn artifact(&self, size: u64, path: PathBuf) -> Artifact {
        Artifact {
            name: self.name.clone(),
            version: self.version.clone(),
            sha256: self.sha256.clone(),
            size,
            path,
        }
    }
}

enum Location<'u> {
    Local(PathBuf),
    Http(&'u str),
}

impl<'u> Location<'u> {
    fn parse(url: &'u str) -> Result<Location<'u>, FetchError> {
        match url.split_once("://") {
            Some(("http" | "https", _)) => Ok(Location::Http(url)),
            Some(("file", path)) if path.starts_with('/') => Ok(Location::Local(PathBuf::from(path))),
            Some(("file", _)) => {
                let reason = "a file URL has three slashes and then the path".to_owned();
                Err(FetchError::Address { url: shown(url), reason })
            }
            Some((scheme, _)) => Err(FetchError::Address {
                url: shown(url),
                reason: format!("scheme {scheme:?} is not known"),
            }),
            None => match url.strip_prefix("file:") {
                Some(path) => Ok(Location::Local(PathBuf::from(path))),
                None => Ok(Location::Local(PathBuf::from(url))),
            },
        }
    }
}

/// Turns what a person wrote as a mirror into something [`Fetcher`] takes: a URL as it is, a path relative
/// to `base`.
pub fn resolve(location: &str, base: &Path) -> String {
    if location.contains("://") || location.starts_with("file:") {
        location.to_owned()
    } else {
        base.join(location).to_string_lossy().into_owned()
    }
}

/// `url` without a user name and password, for messages.
pub fn shown(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    match authority.rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests;
