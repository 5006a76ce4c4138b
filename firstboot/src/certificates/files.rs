//! Files of the certificates' folder: nothing half-written, keys private from the first byte.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use x509_parser::prelude::Pem;

use super::CertificatesError;

/// Ending of a file that is not complete yet.
const TEMPORARY: &str = "new";

/// Makes the folder and its parents; the folder itself is for its owner only.
pub(super) fn make_private_folder(path: &Path) -> Result<(), CertificatesError> {
    let failed = |source| CertificatesError::Write { path: path.to_owned(), source };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {
            fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(failed)
        }
        other => other.map_err(failed),
    }
}

/// A file's contents; nothing if there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, CertificatesError> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some).map_err(|source| CertificatesError::Read { path: path.to_owned(), source }),
    }
}

/// The first PEM block of a text.
pub(super) fn first_pem(text: &str) -> Option<Pem> {
    Pem::iter_from_buffer(text.as_bytes()).next()?.ok()
}

/// Files that become visible together: all are on the disk under temporary names before the first is
/// renamed. One flush for all of them, as one each took longer than issuing the certificates.
pub(super) struct Batch<'a> {
    folder: &'a Path,
    written: Vec<(PathBuf, PathBuf)>,
}

impl Batch<'_> {
    pub(super) fn new(folder: &Path) -> Batch<'_> {
        Batch { folder, written: Vec::new() }
    }

    /// Writes a file under its temporary name.
    pub(super) fn write(&mut self, name: &str, contents: &[u8], mode: u32) -> Result<(), CertificatesError> {
        let path = self.folder.join(name);
        let temporary = self.folder.join(format!("{name}.{TEMPORARY}"));
        let failed = |source| CertificatesError::Write { path: temporary.clone(), source };
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary).map_err(failed)?;
        file.write_all(contents).map_err(failed)?;
        self.written.push((temporary, path));
        Ok(())
    }

    /// The same unless the file has these contents and this mode already.
    pub(super) fn write_if_different(
        &mut self,
        name: &str,
        contents: &[u8],
        mode: u32,
    ) -> Result<(), CertificatesError> {
        let path = self.folder.join(name);
        let same_mode =
            fs::metadata(&path).is_ok_and(|metadata| metadata.permissions().mode() & 0o7777 == mode);
        if same_mode && read(&path)?.is_some_and(|present| present == contents) {
            return Ok(());
        }
        self.write(name, contents, mode)
    }

    /// Flushes, then gives every file its name.
    pub(super) fn commit(self) -> Result<(), CertificatesError> {
        if self.written.is_empty() {
            return Ok(());
        }
        let failed = |path: &Path, source| CertificatesError::Write { path: path.to_owned(), source };
        let folder = File::open(self.folder).map_err(|error| failed(self.folder, error))?;
        rustix::fs::syncfs(&folder).map_err(|error| failed(self.folder, error.into()))?;
        for (temporary, path) in &self.written {
            fs::rename(temporary, path).map_err(|error| failed(path, error))?;
        }
        folder.sync_all().map_err(|error| failed(self.folder, error))
    }
}
