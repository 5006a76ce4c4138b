//! The secrets folder: who may read it, who may make it, and when it is complete.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use rustix::fs::FlockOperation;

use super::PkiError;
use super::keys::Pair;
use crate::files;
use crate::progress::interrupt::Temporary;

/// Mark of a completed folder; holds the cluster's name.
const MARK: &str = "cluster";

/// What is at the folder's place.
pub(super) enum State {
    /// Nothing.
    Absent,
    /// A folder that somebody made to put files into.
    Supplied,
    /// A folder that a build completed.
    Complete,
}

/// Looks at the folder, and refuses one that others may read or that belongs to another cluster.
pub(super) fn state(folder: &Path, cluster_name: &str) -> Result<State, PkiError> {
    let metadata = match fs::metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::Absent),
        other => other.map_err(|error| unreadable(folder, error))?,
    };
    if !metadata.is_dir() {
        return Err(PkiError::NotAFolder { path: folder.to_owned() });
    }
    refuse_open(folder, metadata.permissions().mode(), 0o700)?;
    let mark = folder.join(MARK);
    if !exists(&mark)? {
        return Ok(State::Supplied);
    }
    let found = read(&mark)?.trim().to_owned();
    if found != cluster_name {
        let path = folder.to_owned();
        return Err(PkiError::OtherCluster { path, found, wanted: cluster_name.to_owned() });
    }
    Ok(State::Complete)
}

/// Fails if no file could be made in a folder, or the folder could not be made if it is not there yet.
pub(super) fn check_writable(folder: &Path) -> Result<(), PkiError> {
    // The parent of a relative path's first folder is written as nothing.
    let existing = folder.ancestors().map(|path| match path.as_os_str().is_empty() {
        true => Path::new("."),
        false => path,
    });
    let mut existing = existing.filter(|path| path.exists());
    let Some(existing) = existing.next() else { return Ok(()) };
    // Tried with a file that has no name: permission bits do not tell of a read-only or a remote filesystem.
    let made = tempfile::tempfile_in(existing);
    made.map(drop).map_err(|source| PkiError::Write { path: existing.to_owned(), source })
}

/// Writes the mark: from now on a missing file is an error.
pub(super) fn mark_complete(folder: &Path, cluster_name: &str) -> Result<(), PkiError> {
    write(&folder.join(MARK), format!("{cluster_name}\n").as_bytes(), 0o644)
}

/// Keeps a second build out of all clusters' secrets beside this one until it is dropped.
pub(super) fn lock_parent(folder: &Path) -> Result<File, PkiError> {
    let parent = files::folder_of(folder);
    let failed = |source| PkiError::Write { path: parent.to_owned(), source };
    if !parent.is_dir() {
        DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed)?;
        // Secrets are easily committed by mistake.
        write(&parent.join(".gitignore"), b"*\n", 0o644)?;
    }
    let opened = File::open(parent).map_err(failed)?;
    rustix::fs::flock(&opened, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
    Ok(opened)
}

/// A folder that takes its name only when all is in it; gone with this, or by a second Ctrl-C, until then.
pub(super) struct Staging(Temporary);

impl Staging {
    pub(super) fn beside(folder: &Path) -> Result<Staging, PkiError> {
        let parent = files::folder_of(folder);
        tempfile::Builder::new()
            .prefix(".new-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(parent)
            .map(|folder| Staging(Temporary::new(folder.keep())))
            .map_err(|source| PkiError::Write { path: parent.to_owned(), source })
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn publish(self, folder: &Path) -> Result<(), PkiError> {
        let failed = |source| PkiError::Write { path: folder.to_owned(), source };
        File::open(self.path()).and_then(|opened| opened.sync_all()).map_err(failed)?;
        // Renamed away: there is nothing left to remove.
        fs::rename(self.path(), folder).map_err(failed)?;
        files::sync_folder_of(folder).map_err(failed)
    }
}

/// Whether neither of two files is there; one alone is an error.
pub(super) fn pair_is_missing(folder: &Path, [public, key]: [&str; 2]) -> Result<bool, PkiError> {
    let (public, key) = (folder.join(public), folder.join(key));
    match (exists(&public)?, exists(&key)?) {
        (true, true) => Ok(false),
        (false, false) => Ok(true),
        (true, false) => Err(PkiError::HalfPair { present: public, absent: key }),
        (false, true) => Err(PkiError::HalfPair { present: key, absent: public }),
    }
}

/// Writes both files of a pair.
pub(super) fn write_pair(folder: &Path, [public, key]: [&str; 2], pair: &Pair) -> Result<(), PkiError> {
    write(&folder.join(key), pair.key.as_bytes(), 0o600)?;
    write(&folder.join(public), pair.public.as_bytes(), 0o644)
}

/// Writes a file, whole or not at all.
pub(super) fn write(path: &Path, contents: &[u8], mode: u32) -> Result<(), PkiError> {
    files::replace(path, contents, mode).map_err(|source| PkiError::Write { path: path.to_owned(), source })
}

/// Whether there is such a file.
pub(super) fn exists(path: &Path) -> Result<bool, PkiError> {
    path.try_exists().map_err(|error| unreadable(path, error))
}

/// A file that has to be there.
pub(super) fn read(path: &Path) -> Result<String, PkiError> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(PkiError::Missing { path: path.to_owned() });
        }
        other => other.map_err(|error| unreadable(path, error))?,
    };
    String::from_utf8(bytes).map_err(|_| PkiError::Damaged {
        path: path.to_owned(),
        what: "text file",
        reason: "it has bytes that are no UTF-8; take the right file from a backup".to_owned(),
    })
}

/// The same for a secret: others must not be able to read it.
pub(super) fn read_secret(path: &Path) -> Result<String, PkiError> {
    let text = read(path)?;
    let metadata = fs::metadata(path).map_err(|error| unreadable(path, error))?;
    refuse_open(path, metadata.permissions().mode(), 0o600)?;
    Ok(text)
}

fn refuse_open(path: &Path, mode: u32, wanted: u32) -> Result<(), PkiError> {
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(PkiError::TooOpen { path: path.to_owned(), mode: mode & 0o7777, wanted })
}

fn unreadable(path: &Path, source: io::Error) -> PkiError {
    PkiError::Read { path: path.to_owned(), source }
}
