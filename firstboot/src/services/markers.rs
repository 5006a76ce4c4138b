//! One-shots that run once for each value of a key: a marker file for each, with the key in it.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;

use rustix::fs::syncfs;

use super::Host;
use crate::files;

/// The marker of one service.
#[derive(Debug, Clone)]
pub struct Marker {
    path: PathBuf,
}

impl Marker {
    /// The marker of a service by name.
    pub fn of(host: &Host, service: &str) -> Marker {
        Marker { path: host.markers.join(service) }
    }

    /// Whether the work was finished with any key.
    pub fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Whether the work was finished with this key.
    pub fn has(&self, key: &str) -> bool {
        fs::read(&self.path).is_ok_and(|found| found == key.as_bytes())
    }

    /// Forgets an earlier success before the work is done again, so that a run that is cut off is seen.
    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        }
        match self.path.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }

    /// Records success. All that the work wrote to the state partition is on the disk before the marker is:
    /// a program may say that it has ended well while its files are still only in memory, and after a power
    /// cut a marker for files of zero length would be believed. May take long on a slow disk.
    pub fn write(&self, key: &str) -> io::Result<()> {
        let folder = self.path.parent().ok_or_else(|| io::Error::other("a marker needs a folder"))?;
        fs::create_dir_all(folder)?;
        syncfs(File::open(folder)?)?;
        files::replace(&self.path, key.as_bytes(), 0o644)
    }
}
