//! What the tests pin from.

use std::fs;
use std::time::Duration;

use super::*;
use crate::progress::Silent;

/// An archive on loopback, a cluster file's folder, an empty cache.
pub(super) struct Bench {
    pub(super) repository: Repository,
    pub(super) server: Server,
    pub(super) folder: tempfile::TempDir,
    pub(super) cache: Cache,
    pub(super) base: Base,
    pub(super) kubernetes: Kubernetes,
    pub(super) sets: Vec<PackageSet>,
    pub(super) binaries: Vec<String>,
    pub(super) files: Vec<String>,
}

pub(super) fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

pub(super) fn set(name: &str, install: &[&str], dependencies: bool) -> PackageSet {
    let (name, install) = (name.to_owned(), strings(install));
    PackageSet { name, install, exclude: Vec::new(), dependencies, optional: None }
}

/// An archive with `app` and `lib`, of which the updates have a newer one.
pub(super) fn bench() -> Bench {
    let mut repository = Repository::new();
    repository.add("bookworm", Deb::new("app", "1.0-1").field("Depends", "lib (>= 1)"), Packing::Xz);
    repository.add("bookworm", Deb::new("lib", "1.9-1").field("Pre-Depends", "base"), Packing::Zstd);
    repository.add("bookworm", Deb::new("base", "1:1"), Packing::Gzip);
    repository.add("bookworm", Deb::new("loader", "2").field("Depends", "app"), Packing::Plain);
    repository.add("bookworm-updates", Deb::new("lib", "1.10-1"), Packing::Xz);
    repository.publish();
    let server = Server::new(repository.root());
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(&folder.path().join("cache")).unwrap();
    let base = repository.base(&server.url());
    let kubernetes =
        Kubernetes { version: "1.20.2".to_owned(), directory: None, mirror: None, flags: Default::default() };
    let sets = vec![set("os", &["app"], true), set("uefi", &["loader"], false)];
    let (binaries, files) = (Vec::new(), Vec::new());
    Bench { repository, server, folder, cache, base, kubernetes, sets, binaries, files }
}

impl Bench {
    pub(super) fn pin(&self, lock: Option<&Lock>, update: bool) -> Result<Pinned, SourcesError> {
        let request = Request {
            base: &self.base,
            kubernetes: &self.kubernetes,
            base_dir: self.folder.path(),
            sets: self.sets.clone(),
            binaries: self.binaries.clone(),
            files: self.files.clone(),
        };
        let options = Options { pause: Duration::from_millis(1), attempts: 3, ..Options::default() };
        let machine = Machine { root: self.folder.path().join("machine"), options };
        pin_on(machine, &request, lock, update, &self.cache, &Silent)
    }

    pub(super) fn inputs(&self, lock: Option<&Lock>, update: bool) -> Result<(Lock, Inputs), SourcesError> {
        let pinned = self.pin(lock, update)?;
        let inputs = pinned.fetch(&self.cache, &Silent)?;
        Ok((pinned.lock, inputs))
    }

    /// The error of a build, with what changes from run to run replaced.
    pub(super) fn error(&self, lock: Option<&Lock>) -> String {
        let error = self.inputs(lock, false).unwrap_err().to_string();
        let error = error.replace(&self.server.url(), "http://mirror");
        error.replace(&self.folder.path().display().to_string(), "/cluster")
    }

    /// Replaces an index, under both of its names.
    pub(super) fn damage_index(&self, change: impl Fn(Vec<u8>) -> Vec<u8>) {
        let folder = self.repository.path("dists/bookworm/main/binary-amd64");
        for path in [folder.join("by-hash/SHA256"), folder] {
            for entry in fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()) {
                if entry.is_file() {
                    fs::write(&entry, change(fs::read(&entry).unwrap())).unwrap();
                }
            }
        }
    }

    pub(super) fn program(&self, path: &str, contents: &str) {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 62, 0];
        bytes.resize(64, 0);
        bytes.extend(contents.as_bytes());
        fs::write(path, bytes).unwrap();
    }
}

pub(super) fn brief(packages: &[FetchedPackage]) -> Vec<String> {
    packages.iter().map(|package| format!("{} {}", package.name, package.version)).collect()
}
