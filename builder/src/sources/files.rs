//! Local files that the cluster file names: OCI archives, files for workload images.

use std::path::Path;

use super::Artifact;
use super::cache::{Cache, CacheError};

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// It cannot be read.
    #[error("{reason}; the cluster file names it as {written:?}, relative to its own folder")]
    Unreadable {
        /// As written in the cluster file.
        written: String,
        /// What the system said, with the path.
        reason: CacheError,
    },
}

/// The file that the cluster file in `base_dir` names `written`, with its digest. It stays where it is.
pub fn artifact(base_dir: &Path, written: &str, cache: &Cache) -> Result<Artifact, FilesError> {
    let path = base_dir.join(written);
    let (sha256, size) = cache
        .digest_file(&path)
        .map_err(|reason| FilesError::Unreadable { written: written.to_owned(), reason })?;
    Ok(Artifact { name: written.to_owned(), version: String::new(), sha256, size, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_named_with_its_path_and_as_written() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(&folder.path().join("cache")).unwrap();
        let error = artifact(folder.path(), "web/index.html", &cache).unwrap_err().to_string();
        let path = folder.path().join("web/index.html");
        assert_eq!(
            error,
            format!(
                "could not read {}: No such file or directory (os error 2); \
                 the cluster file names it as \"web/index.html\", relative to its own folder",
                path.display()
            )
        );
        std::fs::create_dir(folder.path().join("web")).unwrap();
        std::fs::write(&path, b"abc").unwrap();
        let artifact = artifact(folder.path(), "web/index.html", &cache).unwrap();
        assert_eq!((artifact.size, artifact.path), (3, path));
    }
}
