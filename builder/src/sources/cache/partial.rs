//! Downloads that have not ended.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::Object;
use super::error::{CacheError, full_or_io, io_error};

/// A partial download, locked against other processes. What is in it stays for a later run unless it is
/// committed or cleared.
pub struct Partial {
    /// Open for reading from the start and for appending.
    pub file: File,
    path: PathBuf,
    destination: PathBuf,
}

impl Partial {
    pub(super) fn new(file: File, path: PathBuf, destination: PathBuf) -> Partial {
        Partial { file, path, destination }
    }

    /// Where the partial file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Drops what an earlier attempt left.
    pub fn clear(&mut self) -> Result<(), CacheError> {
        self.file.set_len(0).map_err(|source| io_error("empty", &self.path, source))
    }

    /// Turns the file into the object; the caller has compared its digest.
    pub fn commit(self, sha256: String, size: u64) -> Result<Object, CacheError> {
        self.file
            .set_permissions(fs::Permissions::from_mode(0o444))
            .and_then(|()| self.file.sync_all())
            .map_err(|source| full_or_io("write", &self.path, 0, source))?;
        fs::rename(&self.path, &self.destination)
            .map_err(|source| io_error("rename into place", &self.path, source))?;
        Ok(Object { sha256, size, path: self.destination })
    }

    /// Leaves the file for a later run, unless there is nothing in it.
    pub fn keep_if_worthwhile(self) -> Result<(), CacheError> {
        match self.file.metadata() {
            Ok(metadata) if metadata.len() == 0 => self.discard(),
            _ => Ok(()),
        }
    }

    /// Removes the file: another process has made the object meanwhile.
    pub fn discard(self) -> Result<(), CacheError> {
        fs::remove_file(&self.path).map_err(|source| io_error("remove", &self.path, source))
    }
}
