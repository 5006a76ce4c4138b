//! `firstboot bird`: BIRD that is started again takes up its routes.
//!
//! It is the service `bird`, and becomes BIRD itself at the end. After a crash the neighbours have kept this node's
//! routes (RFC 4724), and the kernel those to them: started with [`RECOVER`] BIRD leaves both alone until it has heard
//! from everybody. On the first start after the machine's there is nothing to take up, and it would only wait for nodes
//! that are not there.

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use bootwright_model::kubernetes::bird::{CONTROL_SOCKET, RECOVER};

use crate::report::under;

/// Why BIRD does not start.
#[derive(Debug, thiserror::Error)]
pub enum BirdError {
    /// Not called as the profile's service calls it.
    #[error(
        "firstboot bird needs BIRD's program and flags; give them in the profile's `command` and `component`"
    )]
    NoProgram,
    /// BIRD itself.
    #[error("cannot run {program:?}")]
    Run {
        /// The program.
        program: OsString,
        /// Why.
        source: std::io::Error,
    },
}

/// Runs as a program below `root` (`/` on a node) with BIRD's program and flags as arguments. Returns only if it cannot
/// be run.
pub fn main(root: &Path, arguments: &[OsString]) -> ExitCode {
    let Err(error) = run(root, arguments);
    crate::bootstrap::tell("bird", Err(error))
}

fn run(root: &Path, arguments: &[OsString]) -> Result<Infallible, BirdError> {
    let mut command = command(root, arguments)?;
    let source = command.exec();
    Err(BirdError::Run { program: command.get_program().to_owned(), source })
}

/// What it becomes: BIRD's program and flags, and whether to recover.
pub fn command(root: &Path, arguments: &[OsString]) -> Result<Command, BirdError> {
    let (program, flags) = arguments.split_first().ok_or(BirdError::NoProgram)?;
    let recover = has_run(root).then_some(RECOVER);
    let mut command = Command::new(program);
    command.args(flags).args(recover);
    Ok(command)
}

/// Whether BIRD has run since the machine started: its control socket is left, in a folder that it may not change.
fn has_run(root: &Path) -> bool {
    under(root, CONTROL_SOCKET).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_was_left_behind_says_that_it_has_run() {
        let root = tempfile::tempdir().unwrap();
        assert!(!has_run(root.path()));
        let socket = under(root.path(), CONTROL_SOCKET);
        std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
        std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(has_run(root.path()));
    }

    #[test]
    fn what_cannot_be_run_is_said() {
        let root = tempfile::tempdir().unwrap();
        assert!(matches!(run(root.path(), &[]), Err(BirdError::NoProgram)));
        let error = run(root.path(), &["/nowhere/bird".into()]).unwrap_err();
        assert!(error.to_string().contains("/nowhere/bird"), "{error}");
    }
}
