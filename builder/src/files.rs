//! Files that are written whole or not at all: under a temporary name beside their place, synced, renamed, and
//! the rename synced too, so that a power cut leaves the old file or the new one.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::progress::interrupt::Temporary;

/// A file that does not have its name yet; it is gone when dropped, and after a second Ctrl-C.
#[derive(Debug)]
pub struct Draft {
    file: NamedTempFile,
    _guard: Temporary,
}

impl Draft {
    /// Starts a file in the folder of `path`. It has `mode` from the first byte, less what the umask takes, so that
    /// there is no moment in which a secret is readable.
    pub fn beside(path: &Path, mode: u32) -> io::Result<Draft> {
        let file = tempfile::Builder::new()
            .prefix(".bootwright-")
            .permissions(Permissions::from_mode(mode))
            .tempfile_in(folder_of(path))?;
        let guard = Temporary::new(file.path());
        Ok(Draft { file, _guard: guard })
    }

    /// What is written to.
    pub fn file(&mut self) -> &mut File {
        self.file.as_file_mut()
    }

    /// Gives the file its name; replaces what was there.
    pub fn publish(self, path: &Path) -> io::Result<File> {
        self.file.as_file().sync_all()?;
        let file = self.file.persist(path).map_err(|error| error.error)?;
        sync_folder_of(path)?;
        Ok(file)
    }

    /// The same, but a file that is there already stays: [`io::ErrorKind::AlreadyExists`].
    pub fn publish_new(self, path: &Path) -> io::Result<File> {
        self.file.as_file().sync_all()?;
        let file = self.file.persist_noclobber(path).map_err(|error| error.error)?;
        sync_folder_of(path)?;
        Ok(file)
    }
}

/// Makes `path` a file of these bytes; replaces what was there.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut draft = Draft::beside(path, mode)?;
    draft.file().write_all(bytes)?;
    draft.publish(path).map(drop)
}

/// The same, but a file that is there already stays: [`io::ErrorKind::AlreadyExists`].
pub fn create(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut draft = Draft::beside(path, mode)?;
    draft.file().write_all(bytes)?;
    draft.publish_new(path).map(drop)
}

/// The folder that a file lies in, `.` for a bare name.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Waits until the names in the folder of `path` are on the disk.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_file_is_replaced_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        replace(&path, b"one", 0o644).unwrap();
        replace(&path, b"two", 0o600).unwrap();
        assert_eq!((std::fs::read(&path).unwrap().as_slice(), mode(&path)), (b"two".as_slice(), 0o600));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_there_stays_when_a_new_file_is_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        create(&path, b"one", 0o644).unwrap();
        assert_eq!(create(&path, b"two", 0o644).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_secret_is_nobody_else_s_before_anything_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let draft = Draft::beside(&folder.path().join("key"), 0o600).unwrap();
        let [entry] = std::fs::read_dir(folder.path()).unwrap().collect::<Vec<_>>().try_into().unwrap();
        let path = entry.unwrap().path();
        assert_eq!((mode(&path), path.metadata().unwrap().len()), (0o600, 0));
        drop(draft);
        assert!(!path.exists());
    }

    #[test]
    fn a_bare_name_lies_in_the_current_folder() {
        assert_eq!(folder_of(Path::new("file")), Path::new("."));
        assert_eq!(folder_of(Path::new("a/file")), Path::new("a"));
        assert_eq!(folder_of(Path::new("/file")), Path::new("/"));
    }
}
