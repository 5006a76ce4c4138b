//! What the measurements share.

use std::error::Error;
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
