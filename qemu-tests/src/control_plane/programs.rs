//! The programs, and the namespace that they run in.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bootwright::sources::cache::Cache;
use bootwright::sources::lock::{LOCK_FILE, Lock};
use bootwright_model::agent;
use network_namespaces::process;
pub use network_namespaces::process::ip;

use crate::repository;

/// Ports of the balancer and of its health, if nothing else is said.
pub const PORTS_OF_THE_AGENT: [u16; 2] = [agent::BALANCER_PORT, agent::HEALTH_PORT];

/// Runs the named test again in a network namespace of its own, in which the node's address can be given
/// out and every port is free. True in there; the caller has nothing left to do otherwise.
///
/// # Panics
/// It cannot be run, fails, or is no test.
pub fn inside_namespace(test: &str) -> bool {
    process::inside_namespace(test) && has_address()
}

/// The same for this program, with other arguments.
///
/// # Panics
/// It cannot be run, fails, or does not come this far again.
pub fn enter_namespace(arguments: &[&str]) -> bool {
    process::inside(arguments) && has_address()
}

fn has_address() -> bool {
    ip("address add 10.20.0.10/24 dev lo");
    true
}

/// A Kubernetes program.
pub fn kubernetes(name: &str) -> PathBuf {
    let folder = std::env::var_os("BOOTWRIGHT_KUBERNETES")
        .map_or_else(|| repository().join(".cache/kubernetes-1.20.2"), PathBuf::from);
    let path = folder.join(name);
    assert!(
        path.exists(),
        "{} is missing: run ./run kubernetes, or set BOOTWRIGHT_KUBERNETES",
        path.display()
    );
    path
}

/// The agent, as it goes into images.
pub fn agent() -> PathBuf {
    let folder = std::env::var_os("BOOTWRIGHT_RUNTIME")
        .map_or_else(|| repository().join("out/runtime"), PathBuf::from);
    let path = folder.join("agent");
    assert!(path.exists(), "{} is missing: run ./run test, or set BOOTWRIGHT_RUNTIME", path.display());
    path
}

/// etcd: the machine need not have it installed, as a build has fetched its package.
pub fn etcd(scratch: &Path) -> PathBuf {
    if let Some(path) = std::env::var_os("BOOTWRIGHT_ETCD") {
        return path.into();
    }
    let lock_path = repository().join("examples").join(format!("all-in-one.{LOCK_FILE}"));
    let lock = Lock::read(&lock_path).unwrap().unwrap_or_else(|| {
        panic!(
            "{} is missing: build examples/all-in-one.toml first, or set BOOTWRIGHT_ETCD",
            lock_path.display()
        )
    });
    let package = lock.packages.iter().find(|package| package.name == "etcd-server");
    let package = package.expect("the example's image has etcd-server");
    let cache = Cache::open_default().unwrap();
    let deb = cache.object(&package.sha256, package.size).unwrap_or_else(|| {
        panic!(
            "etcd-server is not in the cache: build examples/all-in-one.toml first, or set BOOTWRIGHT_ETCD"
        )
    });
    let status = Command::new("dpkg-deb").arg("--extract").args([&deb, &scratch.join("etcd")]).status();
    assert!(status.expect("dpkg-deb runs").success(), "dpkg-deb cannot unpack {}", deb.display());
    scratch.join("etcd/usr/bin/etcd")
}

/// Waits until `check` holds; a failure says what did not come true.
pub fn eventually(what: &str, patience: Duration, mut check: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !check() {
        assert!(Instant::now() < deadline, "not within {patience:?}: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
