//! What the measurements share: network namespaces without names, that go with whoever holds them.

use std::error::Error;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Starts this program again as root of a user namespace, unless it runs as root: who may make user namespaces may
/// make all the others in one.
pub fn become_root() -> Result<()> {
    // SAFETY: has no conditions.
    if unsafe { libc::geteuid() } == 0 {
        return Ok(());
    }
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--"]).arg(std::env::current_exe()?);
    Err(command.args(std::env::args_os().skip(1)).exec().into())
}

/// A network namespace.
pub struct Namespace(File);

impl Namespace {
    /// A new one, with loopback up.
    pub fn new() -> Result<Namespace> {
        let namespace = on_a_thread(|| {
            // SAFETY: a new network namespace takes nothing away from the other threads.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                return Err(format!("no network namespace: {}", io::Error::last_os_error()).into());
            }
            Ok(Namespace(File::open("/proc/thread-self/ns/net")?))
        })?;
        namespace.enter(|| run("ip link set lo up"))?;
        Ok(namespace)
    }

    /// Does something in it, on a thread of its own.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let descriptor = self.0.as_raw_fd();
        on_a_thread(move || {
            // SAFETY: only this thread changes its namespace.
            if unsafe { libc::setns(descriptor, libc::CLONE_NEWNET) } != 0 {
                return Err(format!("no way into a namespace: {}", io::Error::last_os_error()).into());
            }
            work()
        })
    }

    /// What `ip` takes for its name, from another namespace.
    #[allow(dead_code, reason = "not every measurement has two")]
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}

fn on_a_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let joined = std::thread::scope(|scope| scope.spawn(work).join());
    joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Runs a command, words separated by single spaces, in this thread's namespace; it must succeed.
pub fn run(command: &str) -> Result<()> {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap_or_default()).args(words).output();
    let output = output.map_err(|error| format!("cannot start {command}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command}: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}
