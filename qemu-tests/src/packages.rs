//! Programs of Debian packages that a build has fetched: the machine need not have them installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use bootwright::sources::cache::Cache;
use bootwright::sources::lock::{LOCK_FILE, Lock};

use crate::repository;

/// A package with the libraries beside it, unpacked.
#[derive(Debug, Clone)]
pub struct Unpacked {
    folder: PathBuf,
}

impl Unpacked {
    /// Unpacks `package`, and every library, of the lock of an example into `folder`.
    ///
    /// # Panics
    /// The example was not built on this machine.
    pub fn new(example: &str, package: &str, folder: PathBuf) -> Unpacked {
        let advice = format!("build examples/{example}.toml first");
        let lock_path = repository().join("examples").join(format!("{example}.{LOCK_FILE}"));
        let lock = Lock::read(&lock_path).expect("the lock is readable");
        let lock = lock.unwrap_or_else(|| panic!("{} is missing: {advice}", lock_path.display()));
        let cache = Cache::open_default().expect("there is a cache");
        // The C library is the machine's own: it belongs to its loader.
        let wanted = |name: &str| {
            name == package || (name.starts_with("lib") && !["libc6", "libgcc-s1"].contains(&name))
        };
        assert!(
            lock.packages.iter().any(|locked| locked.name == package),
            "no {package} in the lock: {advice}"
        );
        for locked in lock.packages.iter().filter(|locked| wanted(&locked.name)) {
            let deb = cache.object(&locked.sha256, locked.size);
            let deb = deb.unwrap_or_else(|| panic!("{} is not in the cache: {advice}", locked.name));
            let status = Command::new("dpkg-deb").arg("--extract").args([&deb, &folder]).status();
            assert!(status.expect("dpkg-deb runs").success(), "dpkg-deb cannot unpack {}", deb.display());
        }
        Unpacked { folder }
    }

    /// A file of it.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.folder.join(path)
    }

    /// Folders of its libraries, as `LD_LIBRARY_PATH` wants them.
    pub fn libraries(&self) -> String {
        let places = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];
        places.map(|place| self.path(place).display().to_string()).join(":")
    }
}
