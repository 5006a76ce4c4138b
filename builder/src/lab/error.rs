//! What can go wrong in the lab.

use std::path::PathBuf;
use std::time::Duration;

/// An error of the lab. The text says what to do next where a person can do something.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// A file or folder could not be read, written or made.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// `read`, `write`, `copy`, …
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A program that the lab runs is not installed.
    #[error("{program} is not installed; it is in Debian's package {package}: run ./run setup")]
    MissingProgram {
        /// Name of the program.
        program: &'static str,
        /// Debian package.
        package: &'static str,
    },
    /// A firmware file is not installed.
    #[error("no {what} at {}; it is in Debian's package {package}: run ./run setup", path.display())]
    MissingFirmware {
        /// `OVMF firmware`
        what: &'static str,
        /// Where it was looked for.
        path: PathBuf,
        /// Debian package.
        package: &'static str,
    },
    /// QEMU ended before it was asked to.
    #[error("QEMU ended early ({status}): {message}")]
    QemuEnded {
        /// Exit status.
        status: String,
        /// What it wrote to its error output.
        message: String,
    },
    /// QEMU's control socket does not answer as its protocol says.
    #[error("QEMU's control socket {}: {reason}", path.display())]
    Control {
        /// The socket.
        path: PathBuf,
        /// What was wrong.
        reason: String,
    },
    /// The image has no kernel where one is expected.
    #[error("no kernel in {}: {reason}; build the image again", path.display())]
    NoKernel {
        /// The image.
        path: PathBuf,
        /// What was wrong.
        reason: String,
    },
    /// A kubeconfig lacks a key that the lab needs.
    #[error("{} has no usable `{key}`: {reason}; build the image again to write it anew", path.display())]
    Kubeconfig {
        /// The kubeconfig.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What was wrong.
        reason: String,
    },
    /// The API server answered with an error, or not at all.
    #[error("{address}: {reason}")]
    Api {
        /// Address that was asked.
        address: String,
        /// What was wrong.
        reason: String,
    },
    /// kubectl ended with an error.
    #[error("kubectl {arguments} failed ({status}): {message}")]
    Kubectl {
        /// Arguments, without secrets.
        arguments: String,
        /// Exit status, or that it was stopped for taking too long.
        status: String,
        /// Its error output.
        message: String,
    },
    /// Something did not happen in time.
    #[error("waited {} s for {what}, in vain: {seen}; console log: {}", waited.as_secs(), log.display())]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        waited: Duration,
        /// What was seen last that stands in the way.
        seen: String,
        /// Console log to look at.
        log: PathBuf,
    },
    /// The boot stopped at a stage.
    #[error("the boot failed in stage {stage}: {reason}; console log: {}", log.display())]
    BootFailed {
        /// Name of the stage.
        stage: String,
        /// The chain of causes and what first boot does next.
        reason: String,
        /// Console log to look at.
        log: PathBuf,
    },
    /// The machine did not stop cleanly.
    #[error("the machine did not stop cleanly: {reason}; console log: {}", log.display())]
    UncleanStop {
        /// What was seen.
        reason: String,
        /// Console log to look at.
        log: PathBuf,
    },
    /// A boot failed, and its machine goes on, as it was asked to.
    #[error("{error}")]
    LeftRunning {
        /// Why the boot failed.
        error: Box<Error>,
        /// How to look at the machine and how to stop it: whole lines, to be printed last and as they are.
        advice: String,
    },
    /// There is no machine to work on, or already one.
    #[error("{0}")]
    State(String),
    /// The person pressed Ctrl-C.
    #[error(transparent)]
    Interrupted(#[from] crate::progress::interrupt::Interrupted),
    /// A command of a measurement failed.
    #[error("{command} failed ({status}): {message}")]
    Command {
        /// The command line.
        command: String,
        /// Exit status.
        status: String,
        /// Last lines of its output.
        message: String,
    },
}

impl Error {
    /// An error maker for `map_err`.
    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.into();
        move |source| Error::File { action, path, source }
    }
}
