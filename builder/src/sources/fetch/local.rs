//! Mirrors that are a folder: `file:///srv/archive`, `../archive`.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::{Download, FetchError};
use crate::sources::Artifact;
use crate::sources::cache::{Cache, CacheError};
use crate::sources::readers::{Limited, Watched};

fn open(path: &Path) -> Result<File, FetchError> {
    let file = File::open(path).and_then(|file| {
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a regular file")) }
    });
    file.map_err(|source| FetchError::File { path: path.to_owned(), source })
}

/// The whole of a small file.
pub fn document(path: &Path, limit: u64) -> Result<Vec<u8>, FetchError> {
    let mut bytes = Vec::new();
    Limited::new(open(path)?, limit)
        .read_to_end(&mut bytes)
        .map_err(|source| FetchError::File { path: path.to_owned(), source })?;
    Ok(bytes)
}

/// Copies a file into the cache and verifies it on the way.
pub fn object(
    path: &Path,
    download: &Download,
    cache: &Cache,
    advance: &dyn Fn(u64),
) -> Result<Artifact, FetchError> {
    let file = open(path)?;
    let watched = Watched::new(file, |bytes| {
        advance(bytes);
        Ok(())
    });
    let reader = Limited::new(watched, download.size.unwrap_or(u64::MAX - 1));
    let object = cache.insert_checked(reader, &download.sha256, path).map_err(|error| match error {
        CacheError::Digest { expected, found, .. } => {
            FetchError::Digest { url: path.display().to_string(), expected, found }
        }
        CacheError::Input { path, source } => FetchError::File { path, source },
        other => FetchError::Cache(other),
    })?;
    Ok(download.artifact(object.size, object.path))
}
