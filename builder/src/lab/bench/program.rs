//! Programs that are run to be measured, or that measure.

use std::path::Path;
use std::process::Command;

use serde::de::DeserializeOwned;

use super::{Error, Options};

/// Runs one of the programs that measure, examples of other crates as nothing that only measures belongs into an image,
/// and returns what it prints for each run.
///
/// # Errors
/// It is not there, fails, or prints something else.
pub fn measure<T: DeserializeOwned>(
    options: &Options,
    name: &str,
    arguments: &[String],
) -> Result<Vec<T>, Error> {
    let program = &options.programs.join(name);
    let printed = run(Command::new(program).args(arguments), program)?;
    serde_json::from_slice(&printed)
        .map_err(|error| Error::State(format!("{}: no figures: {error}", program.display())))
}

/// Runs a command that starts `program`, and returns what it prints.
///
/// # Errors
/// It does not start, or fails; with what it says of that.
pub fn run(command: &mut Command, program: &Path) -> Result<Vec<u8>, Error> {
    let output = command.output().map_err(Error::file("start", program))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(Error::Command {
        command: format!("{command:?}"),
        status: output.status.to_string(),
        message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}
