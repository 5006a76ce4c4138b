//! Ctrl-C: the first one asks the build to stop at its next checkpoint, the second ends it at once.
//!
//! Whoever writes a file does so under a temporary name that its owner removes when it is dropped, so
//! that returning [`Interrupted`] is all the cleaning up there is. The second Ctrl-C runs no
//! destructors; [`Temporary`] is the guard that it knows of.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// The exit code that shells give to a program ended by SIGINT.
pub const EXIT_CODE: u8 = 130;

/// The person asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted; nothing half-written is left, and running the command again resumes from the cache")]
pub struct Interrupted;

static REQUESTED: AtomicBool = AtomicBool::new(false);
static TEMPORARIES: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Whether a stop was asked for.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// Takes over SIGINT, SIGTERM and SIGHUP. Once per process.
pub fn install() -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(|| {
        if REQUESTED.swap(true, Ordering::Relaxed) {
            remove_temporaries();
            std::process::exit(i32::from(EXIT_CODE));
        }
        eprintln!("\nStopping after the piece of work at hand; Ctrl-C again stops at once.");
    })
}

/// A path that is removed when this is dropped, and by a second Ctrl-C, unless it has another name by then.
#[derive(Debug)]
pub struct Temporary {
    path: PathBuf,
}

impl Temporary {
    /// Guards `path`, a file or a folder, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        temporaries().insert(path.clone());
        Temporary { path }
    }

    /// The guarded path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        remove(&self.path);
        temporaries().remove(&self.path);
    }
}

fn temporaries() -> std::sync::MutexGuard<'static, BTreeSet<PathBuf>> {
    // A set of paths has no invariant that a panic in another thread could have broken.
    TEMPORARIES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn remove_temporaries() {
    for path in temporaries().iter() {
        remove(path);
    }
}

/// Best effort: what cannot be removed carries a temporary name and is nobody's input.
fn remove(path: &Path) {
    if path.is_dir() {
        let _ = std::fs::remove_dir_all(path);
    } else {
        let _ = std::fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_goes_with_its_guard() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".image.partial");
        let guard = Temporary::new(&path);
        std::fs::write(guard.path(), b"half").unwrap();
        assert!(temporaries().contains(&path));
        drop(guard);
        assert!(!path.exists());
        assert!(!temporaries().contains(&path));
    }

    #[test]
    fn a_folder_goes_with_all_that_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let guard = Temporary::new(folder.path().join("partial"));
        std::fs::create_dir_all(guard.path().join("deep/deeper")).unwrap();
        let path = guard.path().to_owned();
        drop(guard);
        assert!(!path.exists());
    }
}
