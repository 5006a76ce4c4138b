//! An archive that is open: InRelease verified, indexes in the cache and reduced.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read};
use std::time::{SystemTime, UNIX_EPOCH};

use super::index::{self, Universe};
use super::release::{Listed, Release, ReleaseError};
use super::signature::{self, SignatureError};
use super::source::Source;
use super::{ARCHITECTURE, deb::DebError, index::IndexError, resolve::ResolveError};
use crate::sources::cache::{CacheError, full_or_io};
use crate::sources::fetch::{Download, FetchError, Fetcher, shown};
use crate::sources::readers::Limited;

/// Why the archive cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// An InRelease is not trusted.
    #[error("{url} (from {origin}): {reason}")]
    Signature {
        /// The document.
        url: String,
        /// Who named the source.
        origin: String,
        /// Why.
        reason: Box<SignatureError>,
    },
    /// An InRelease is trusted, and of no use.
    #[error("{url} (from {origin}): {reason}")]
    Release {
        /// The document.
        url: String,
        /// Who named the source.
        origin: String,
        /// Why.
        reason: Box<ReleaseError>,
    },
    /// Nothing could be fetched from there.
    #[error("suite {suite} (from {origin}): {reason}{}", hint(reason))]
    Fetch {
        /// The suite.
        suite: String,
        /// Who named the source.
        origin: String,
        /// Why.
        reason: Box<FetchError>,
    },
    /// The suite is there, and its index is not.
    #[error(
        "the package index: {reason}; the mirror is not whole, or is being updated: try again later, \
         or set another mirror in [base] of the cluster file"
    )]
    Listed {
        /// Why.
        reason: Box<FetchError>,
    },
    /// A component that the suite does not have.
    #[error(
        "{url} (from {origin}) lists no index of component {component:?} for amd64; check the components"
    )]
    Component {
        /// The suite's folder.
        url: String,
        /// Who named the source.
        origin: String,
        /// The component.
        component: String,
    },
    /// None of the machine's sources for the suite is Debian's.
    #[error(
        "none of this machine's sources for suite {suite:?} is Debian's; \
         set mirror and keyring in [base] of the cluster file"
    )]
    NotDebian {
        /// The suite.
        suite: String,
    },
    /// An index cannot be unpacked.
    #[error("{url}: the index cannot be unpacked: {reason}; use another mirror")]
    Unpack {
        /// The index.
        url: String,
        /// Why.
        reason: String,
    },
    /// An index is damaged.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The wanted packages cannot be had.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// A package cannot be unpacked.
    #[error(transparent)]
    Deb(#[from] DebError),
    /// The cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

impl From<FetchError> for ArchiveError {
    fn from(reason: FetchError) -> Self {
        match reason {
            FetchError::Cache(reason) => reason.into(),
            reason => ArchiveError::Listed { reason: Box::new(reason) },
        }
    }
}

/// What to do about a suite that is not there; other reasons say it themselves.
fn hint(reason: &FetchError) -> &'static str {
    if reason.is_absent() {
        "; check the suite and the address of the mirror, which ends before /dists"
    } else {
        ""
    }
}

/// Largest InRelease: that of unstable with all architectures has 250 KB.
const LARGEST_RELEASE: u64 = 16 << 20;
/// Largest unpacked index: main of unstable has 55 MB.
const LARGEST_INDEX: u64 = 1 << 30;

/// The suites of an archive with their packages.
pub struct Archive {
    indexes: Vec<(String, String)>,
    date: u64,
}

/// One index of one suite.
struct Wanted {
    suite: String,
    download: Download,
    /// `.xz`, `.gz` or nothing.
    compression: &'static str,
}

impl Archive {
    /// Fetches and verifies the InRelease of every source, then their indexes. `suite` is the one that
    /// must be among them.
    pub fn open(sources: &[Source], suite: &str, fetcher: &Fetcher) -> Result<Archive, ArchiveError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |duration| duration.as_secs());
        let mut wanted = Vec::new();
        let mut date = 0;
        let mut found = false;
        for source in sources {
            let Some(release) = trusted_release(source, now, fetcher)? else { continue };
            date = date.max(release.date);
            found |= source.suite == suite;
            for component in &source.components {
                wanted.push(choose_index(source, &release, component)?);
            }
        }
        if !found {
            return Err(ArchiveError::NotDebian { suite: suite.to_owned() });
        }
        let indexes = fetch_indexes(&wanted, fetcher)?;
        Ok(Archive { indexes, date })
    }

    /// The newest `Date` of the suites, seconds since the Unix epoch.
    pub fn date(&self) -> u64 {
        self.date
    }

    /// All packages, for [`super::resolve`].
    pub fn universe(&self) -> Result<Universe<'_>, IndexError> {
        Universe::new(self.indexes.iter().map(|(suite, text)| (suite.as_str(), text.as_str())))
    }
}

fn dists(source: &Source) -> String {
    format!("{}/dists/{}", source.url, source.suite)
}

/// The verified Release of a source; `None` if it is to be left out.
fn trusted_release(source: &Source, now: u64, fetcher: &Fetcher) -> Result<Option<Release>, ArchiveError> {
    let url = format!("{}/InRelease", dists(source));
    let origin = source.origin.clone();
    let document = match fetcher.document(&url, LARGEST_RELEASE) {
        Ok(document) => document,
        Err(error) if source.optional && error.is_absent() => {
            let mirror = shown(&source.url);
            fetcher.progress().warn(&format!("{mirror} has no suite {}; going on without", source.suite));
            return Ok(None);
        }
        Err(reason) => {
            let suite = source.suite.clone();
            return Err(ArchiveError::Fetch { suite, origin, reason: Box::new(reason) });
        }
    };
    let url = shown(&url);
    let distrusted = |reason| {
        let reason = Box::new(reason);
        ArchiveError::Signature { url: url.clone(), origin: origin.clone(), reason }
    };
    let text = signature::verify(&document, &source.trust, source.check_date).map_err(distrusted)?;
    let useless = |reason| {
        let reason = Box::new(reason);
        ArchiveError::Release { url: url.clone(), origin: origin.clone(), reason }
    };
    let release = Release::parse(&text).map_err(useless)?;
    if source.from_machine && release.origin != "Debian" {
        return Ok(None);
    }
    let (valid_until, date) = (source.check_valid_until, source.check_date);
    release.check(&source.suite, now, valid_until, date).map_err(useless)?;
    Ok(Some(release))
}

/// The smallest form of an index that we can unpack.
fn choose_index(source: &Source, release: &Release, component: &str) -> Result<Wanted, ArchiveError> {
    let plain = format!("{component}/binary-{ARCHITECTURE}/Packages");
    let listed =
        |ending: &'static str| release.files.get(&format!("{plain}{ending}")).map(|listed| (ending, listed));
    // gz unpacks five times as fast as xz, but Debian itself offers xz alone in most suites.
    let chosen = listed(".xz").or_else(|| listed(".gz")).or_else(|| listed(""));
    let Some((compression, Listed { sha256, size })) = chosen else {
        return Err(ArchiveError::Component {
            url: shown(&dists(source)),
            origin: source.origin.clone(),
            component: component.to_owned(),
        });
    };
    let named = format!("{}/{plain}{compression}", dists(source));
    let mut urls = vec![named];
    if release.by_hash {
        let folder = format!("{}/{component}/binary-{ARCHITECTURE}", dists(source));
        urls.insert(0, format!("{folder}/by-hash/SHA256/{sha256}"));
    }
    let name = format!("Packages of {} {component}", source.suite);
    let download = Download { name, version: String::new(), urls, sha256: sha256.clone(), size: Some(*size) };
    Ok(Wanted { suite: source.suite.clone(), download, compression })
}

/// Reduced indexes by suite, in the order of `wanted`. Of one that was reduced before, nothing is fetched.
fn fetch_indexes(wanted: &[Wanted], fetcher: &Fetcher) -> Result<Vec<(String, String)>, ArchiveError> {
    let cache = fetcher.cache();
    let reduced = |wanted: &Wanted| cache.derived(index::REDUCED, &wanted.download.sha256);
    let missing: Vec<&Wanted> = wanted.iter().filter(|wanted| reduced(wanted).is_none()).collect();
    if !missing.is_empty() {
        let downloads: Vec<Download> = missing.iter().map(|wanted| wanted.download.clone()).collect();
        fetcher.fetch_all::<ArchiveError>("package index", &downloads, |number, artifact| {
            let wanted = missing[number];
            cache.derive::<ArchiveError>(index::REDUCED, &artifact.sha256, |file| {
                reduce(wanted, &artifact.path, file)
            })?;
            Ok(())
        })?;
        fetcher.progress().end("package index", &format!("{} indexes", wanted.len()));
    }
    let mut indexes = Vec::new();
    for wanted in wanted {
        let path = reduced(wanted).ok_or_else(|| ArchiveError::Unpack {
            url: wanted.download.name.clone(),
            reason: "it vanished from the cache".to_owned(),
        })?;
        let text =
            fs::read_to_string(&path).map_err(|source| CacheError::Input { path: path.clone(), source })?;
        indexes.push((wanted.suite.clone(), text));
    }
    Ok(indexes)
}

fn reduce(wanted: &Wanted, path: &std::path::Path, file: &mut File) -> Result<(), ArchiveError> {
    let input = |source| CacheError::Input { path: path.to_owned(), source };
    let packed = BufReader::new(File::open(path).map_err(input)?);
    let plain: Box<dyn Read> = match wanted.compression {
        ".xz" => Box::new(lzma_rust2::XzReader::new(packed, true)),
        ".gz" => Box::new(flate2::read::MultiGzDecoder::new(packed)),
        _ => Box::new(packed),
    };
    let plain = BufReader::with_capacity(256 << 10, Limited::new(plain, LARGEST_INDEX));
    let mut text = Vec::new();
    index::reduce(plain, &mut text).map_err(|error| ArchiveError::Unpack {
        url: wanted.download.name.clone(),
        reason: error.to_string(),
    })?;
    if std::str::from_utf8(&text).is_err() {
        let reason = "it is not UTF-8".to_owned();
        return Err(ArchiveError::Unpack { url: wanted.download.name.clone(), reason });
    }
    let mut writer = BufWriter::new(file);
    std::io::Write::write_all(&mut writer, &text)
        .and_then(|()| std::io::Write::flush(&mut writer))
        .map_err(|error| full_or_io("write", path, text.len() as u64, error))?;
    Ok(())
}
