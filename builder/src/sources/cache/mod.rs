//! The content-addressed cache: objects by SHA-256, and files derived from them.
//!
//! ```text
//! objects/ab/abcd…          files by digest, read-only
//! partial/abcd….part        downloads that have not ended, resumed by a later run
//! derived/<kind>/<key>      files made from inputs that the key stands for
//! local/<digest of a path>  digests of local files, with what tells that they did not change
//! tmp/                      files being written
//! ```
//!
//! Everything gets its final name by a rename of a complete, synced file of the same filesystem, so
//! that two builds at the same time, Ctrl-C or a power cut never leave half an object. Nothing needs a
//! lock but a partial download, which two processes must not append to at the same time.

mod error;
mod partial;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::FlockOperation;
use tempfile::NamedTempFile;

use super::readers::Hashing;
use crate::digests::{is_sha256, sha256};
use crate::progress::interrupt::Temporary;
use error::io_error;
pub use error::{CacheError, free_bytes, full_or_io, is_full, require_space};
pub use partial::Partial;

/// A complete file in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// SHA-256, 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
    /// Where it lies.
    pub path: PathBuf,
}

/// The cache of one user. Cheap to clone, usable from several threads and processes at once.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
    /// Whether digests of local files are written down.
    remembers: bool,
}

/// Temporary files older than this belong to a build that is no more.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

impl Cache {
    /// Opens the cache at `root` and makes its folders.
    pub fn open(root: &Path) -> Result<Cache, CacheError> {
        for folder in ["objects", "partial", "derived", "local", "tmp"] {
            let path = root.join(folder);
            fs::create_dir_all(&path).map_err(|source| full_or_io("make the folder", &path, 0, source))?;
        }
        // Partial files and derived ones are given as absolute paths to host tools.
        let root = fs::canonicalize(root).map_err(|source| io_error("find", root, source))?;
        let cache = Cache { root, remembers: true };
        cache.sweep();
        Ok(cache)
    }

    /// The cache at `root` for somebody who asks what is in it: nothing is made, swept or written down,
    /// and it need not exist.
    pub fn look(root: &Path) -> Cache {
        Cache { root: root.to_owned(), remembers: false }
    }

    /// Opens `$XDG_CACHE_HOME/bootwright`, or `~/.cache/bootwright` (XDG Base Directory Specification).
    pub fn open_default() -> Result<Cache, CacheError> {
        Cache::open(&Cache::default_root()?)
    }

    /// Where [`Cache::open_default`] looks.
    pub fn default_root() -> Result<PathBuf, CacheError> {
        let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        match (variable("XDG_CACHE_HOME"), variable("HOME")) {
            (Some(cache), _) => Ok(cache.join("bootwright")),
            (None, Some(home)) => Ok(home.join(".cache/bootwright")),
            (None, None) => Err(CacheError::NoHome),
        }
    }

    /// The folder of the cache.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The object with this digest, if it is here. Its bytes were hashed when it was inserted; now only
    /// its size is compared, and an object of another size (a filesystem repaired after a crash) counts
    /// as absent and is replaced by the next insertion.
    pub fn object(&self, sha256: &str, size: u64) -> Option<PathBuf> {
        let path = self.object_path(sha256)?;
        let metadata = fs::symlink_metadata(&path).ok()?;
        (metadata.is_file() && metadata.len() == size).then_some(path)
    }

    /// The object with this digest, whatever its size, if it is here.
    pub fn find(&self, sha256: &str) -> Option<Object> {
        let path = self.object_path(sha256)?;
        let metadata = fs::symlink_metadata(&path).ok()?;
        let object = Object { sha256: sha256.to_owned(), size: metadata.len(), path };
        metadata.is_file().then_some(object)
    }

    /// Inserts everything that `reader` gives. `origin` names it in errors.
    pub fn insert(&self, mut reader: impl Read, origin: &Path) -> Result<Object, CacheError> {
        let mut file = self.temporary()?;
        let _guard = Temporary::new(file.path());
        let mut writer = Hashing::new(file.as_file_mut());
        copy(&mut reader, &mut writer, origin, &self.root)?;
        let (_, sha256, size) = writer.finish();
        self.adopt(file, sha256, size)
    }

    /// Inserts what `reader` gives if it has the digest `expected`; nothing is kept otherwise.
    pub fn insert_checked(
        &self,
        mut reader: impl Read,
        expected: &str,
        origin: &Path,
    ) -> Result<Object, CacheError> {
        let mut file = self.temporary()?;
        let _guard = Temporary::new(file.path());
        let mut writer = Hashing::new(file.as_file_mut());
        copy(&mut reader, &mut writer, origin, &self.root)?;
        let (_, found, size) = writer.finish();
        if found != expected {
            return Err(CacheError::Digest { path: origin.to_owned(), expected: expected.to_owned(), found });
        }
        self.adopt(file, found, size)
    }

    fn adopt(&self, file: NamedTempFile, sha256: String, size: u64) -> Result<Object, CacheError> {
        let path = self.place_for(&sha256)?;
        file.as_file()
            .set_permissions(fs::Permissions::from_mode(0o444))
            .map_err(|source| io_error("set the mode of", file.path(), source))?;
        persist(file, &path)?;
        Ok(Object { sha256, size, path })
    }

    /// Opens the partial download of the object `sha256` for one process at a time: a second process
    /// that wants the same object waits here, and finds it complete when it comes in.
    pub fn partial(&self, sha256: &str) -> Result<Partial, CacheError> {
        let destination = self.place_for(sha256)?;
        let path = self.root.join("partial").join(format!("{sha256}.part"));
        // The first process may have renamed the file away while the second waited for its lock, so the
        // name is compared with the open file once the lock is held. Each round means that another
        // process finished or dropped the file, so a few are plenty.
        for _ in 0..100 {
            let file = fs::OpenOptions::new()
                .read(true)
                .append(true)
                .create(true)
                .open(&path)
                .map_err(|source| full_or_io("open", &path, 0, source))?;
            rustix::fs::flock(&file, FlockOperation::LockExclusive)
                .map_err(|errno| io_error("lock", &path, errno.into()))?;
            let held = file.metadata().map_err(|source| io_error("look at", &path, source))?;
            match fs::symlink_metadata(&path) {
                Ok(named) if named.ino() == held.ino() && named.dev() == held.dev() => {
                    return Ok(Partial::new(file, path, destination));
                }
                _ => continue,
            }
        }
        let source = io::Error::other("other processes keep replacing it");
        Err(io_error("lock", &path, source))
    }

    /// The file of this kind that was made for `key`, if it is here.
    pub fn derived(&self, kind: &str, key: &str) -> Option<PathBuf> {
        let path = self.derived_path(kind, key).ok()?;
        path.is_file().then_some(path)
    }

    /// The file of this kind for `key`; if absent, `make` writes it. `key` has to stand for everything
    /// that `make` depends on, the version of its own code included.
    pub fn derive<E: From<CacheError>>(
        &self,
        kind: &str,
        key: &str,
        make: impl FnOnce(&mut File) -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        let path = self.derived_path(kind, key)?;
        if path.is_file() {
            return Ok(path);
        }
        let mut file = self.temporary()?;
        let _guard = Temporary::new(file.path());
        make(file.as_file_mut())?;
        self.finish_derived(file, &path)?;
        Ok(path)
    }

    /// As [`Cache::derive`] for what writes to a path, such as a host tool: the path does not exist yet,
    /// and `make` has to create a regular file there.
    pub fn derive_at<E: From<CacheError>>(
        &self,
        kind: &str,
        key: &str,
        make: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        let path = self.derived_path(kind, key)?;
        if path.is_file() {
            return Ok(path);
        }
        let folder = tempfile::Builder::new()
            .prefix("derive-")
            .tempdir_in(self.root.join("tmp"))
            .map_err(|source| full_or_io("make a folder in", &self.root.join("tmp"), 0, source))?;
        let _guard = Temporary::new(folder.path());
        let made = folder.path().join("file");
        make(&made)?;
        let file = File::open(&made).map_err(|source| io_error("open", &made, source))?;
        let file = NamedTempFile::from_parts(
            file,
            tempfile::TempPath::try_from_path(&made).map_err(|source| io_error("keep", &made, source))?,
        );
        self.finish_derived(file, &path)?;
        Ok(path)
    }

    fn finish_derived(&self, file: NamedTempFile, path: &Path) -> Result<(), CacheError> {
        let folder = path.parent().expect("a derived file lies in the folder of its kind");
        fs::create_dir_all(folder).map_err(|source| full_or_io("make the folder", folder, 0, source))?;
        file.as_file()
            .set_permissions(fs::Permissions::from_mode(0o444))
            .map_err(|source| io_error("set the mode of", file.path(), source))?;
        persist(file, path)
    }

    /// A file in the cache's temporary folder; it is gone when dropped.
    pub fn temporary(&self) -> Result<NamedTempFile, CacheError> {
        let folder = self.root.join("tmp");
        NamedTempFile::new_in(&folder).map_err(|source| full_or_io("make a file in", &folder, 0, source))
    }

    /// SHA-256 and size of a local file. Remembered by path, size, inode and both times, as version
    /// control does: hashing the Kubernetes binaries again would take most of a warm build.
    pub fn digest_file(&self, path: &Path) -> Result<(String, u64), CacheError> {
        let input = |source| CacheError::Input { path: path.to_owned(), source };
        let path = fs::canonicalize(path).map_err(input)?;
        let mut file = File::open(&path).map_err(input)?;
        let metadata = file.metadata().map_err(input)?;
        if !metadata.is_file() {
            return Err(input(io::Error::other("not a regular file")));
        }
        let stamp = stamp(&metadata);
        let name = sha256(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()));
        let memory = self.root.join("local").join(name);
        if let Ok(text) = fs::read_to_string(&memory)
            && let Some((digest, known)) = text.trim_end().split_once(' ')
            && known == stamp
            && is_sha256(digest)
        {
            return Ok((digest.to_owned(), metadata.len()));
        }
        let mut reader = Hashing::new(&mut file);
        io::copy(&mut reader, &mut io::sink()).map_err(input)?;
        let (_, digest, size) = reader.finish();
        // A file written to within the clock's granularity could change again with the same times.
        let settled = metadata
            .modified()
            .is_ok_and(|time| SystemTime::now().duration_since(time).is_ok_and(|age| age.as_secs() >= 2));
        if self.remembers && settled && size == metadata.len() {
            let mut file = self.temporary()?;
            file.write_all(format!("{digest} {stamp}\n").as_bytes())
                .map_err(|source| full_or_io("write", &memory, 0, source))?;
            persist(file, &memory)?;
        }
        Ok((digest, size))
    }

    fn object_path(&self, sha256: &str) -> Option<PathBuf> {
        is_sha256(sha256).then(|| self.root.join("objects").join(&sha256[..2]).join(sha256))
    }

    fn place_for(&self, sha256: &str) -> Result<PathBuf, CacheError> {
        let path = self.object_path(sha256).ok_or_else(|| CacheError::Key { key: sha256.to_owned() })?;
        let folder = path.parent().expect("an object lies in the folder of its first digits");
        fs::create_dir_all(folder).map_err(|source| full_or_io("make the folder", folder, 0, source))?;
        Ok(path)
    }

    fn derived_path(&self, kind: &str, key: &str) -> Result<PathBuf, CacheError> {
        for part in [kind, key] {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_+".contains(&byte);
            if part.is_empty() || part.starts_with('.') || part.len() > 200 || !part.bytes().all(plain) {
                return Err(CacheError::Key { key: part.to_owned() });
            }
        }
        Ok(self.root.join("derived").join(kind).join(key))
    }

    /// Removes what interrupted builds left in the temporary folder. Failure is no harm.
    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(self.root.join("tmp")) else { return };
        for entry in entries.flatten() {
            let age = entry.metadata().and_then(|metadata| metadata.modified()).map(|time| time.elapsed());
            if matches!(age, Ok(Ok(age)) if age > STALE) {
                let path = entry.path();
                let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            }
        }
    }
}

fn persist(file: NamedTempFile, path: &Path) -> Result<(), CacheError> {
    file.as_file().sync_all().map_err(|source| full_or_io("write", path, 0, source))?;
    file.persist(path).map_err(|error| io_error("rename into place", path, error.error))?;
    Ok(())
}

fn copy(
    reader: &mut impl Read,
    writer: &mut impl Write,
    origin: &Path,
    place: &Path,
) -> Result<(), CacheError> {
    let mut buffer = vec![0; 128 * 1024];
    loop {
        let length = match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(CacheError::Input { path: origin.to_owned(), source }),
        };
        writer
            .write_all(&buffer[..length])
            .map_err(|source| full_or_io("write into", place, length as u64, source))?;
    }
}

fn stamp(metadata: &fs::Metadata) -> String {
    format!(
        "{} {} {} {}.{:09} {}.{:09}",
        metadata.dev(),
        metadata.ino(),
        metadata.len(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.ctime(),
        metadata.ctime_nsec()
    )
}

#[cfg(test)]
mod tests;
