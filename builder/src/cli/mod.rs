//! The command line.

/// Parses the arguments, runs the command, prints the error.
pub fn run() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
