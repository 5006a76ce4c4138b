//! A test in a process of its own, which has the namespaces that it needs.

use std::process::Command;

/// Set in the process that has the namespace, to a file that it makes: asked for a test that does not exist, the
/// process would run none, and end well.
const INSIDE: &str = "BOOTWRIGHT_TEST_NAMESPACE";

/// Runs a test as root of a user namespace if this user is not root: in a process of its own, since one with
/// threads cannot enter a user namespace.
///
/// # Panics
/// It cannot be run, or fails.
pub fn isolated(name: &str, test: fn()) {
    if rustix::process::geteuid().is_root() {
        return test();
    }
    if inside(&["--exact", name, "--nocapture"]) {
        test();
    }
}

/// Runs the named test again, ignored or not, in a network namespace of its own, in which every port and address is free.
/// True in there; the caller has nothing left to do otherwise.
///
/// # Panics
/// It cannot be run, fails, or is no test.
pub fn inside_namespace(test: &str) -> bool {
    inside(&["--exact", test, "--include-ignored", "--nocapture"])
}

/// The same for any program, with these arguments.
///
/// # Panics
/// It cannot be run, fails, or does not come this far again.
pub fn inside(arguments: &[&str]) -> bool {
    if let Some(mark) = std::env::var_os(INSIDE) {
        std::fs::write(mark, "").unwrap();
        ip("link set lo up");
        return true;
    }
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("ran");
    let mut command = Command::new("unshare");
    // Only root may do without a user namespace.
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--net", "--kill-child"]).arg(std::env::current_exe().unwrap());
    command.args(arguments).env(INSIDE, &mark);
    let status = command.status().expect("unshare of util-linux runs");
    assert!(status.success(), "it failed in its namespace; see above");
    assert!(mark.exists(), "there is no such test: {arguments:?}");
    false
}

/// `ip` in the namespace of the calling thread; it must succeed. Words are separated by single spaces.
///
/// # Panics
/// It does not.
pub fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("ip of iproute2 runs");
    assert!(status.success(), "ip {arguments}");
}
