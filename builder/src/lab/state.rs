//! A machine that was left running: what it takes to find it again and to stop it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::machine::{CONSOLE_LOG, CONTROL};
use super::ports::Forward;
use super::qmp::Qmp;
use super::{Error, Machine};
use crate::files;

/// Name of the state in a machine's folder.
pub const STATE: &str = "machine.json";

/// A machine that runs without us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Running {
    /// QEMU's process number.
    pub process_id: u32,
    /// Ports of 127.0.0.1 that lead into it.
    pub forwards: Vec<Forward>,
}

impl Running {
    /// Records a machine that was started.
    ///
    /// # Errors
    /// It is not running, or the file cannot be written.
    pub fn record(machine: &Machine) -> Result<(), Error> {
        let process_id =
            machine.process_id().ok_or_else(|| Error::State("the machine is not running".to_owned()))?;
        let running = Running { process_id, forwards: machine.forwards().to_vec() };
        let path = machine.folder().join(STATE);
        let text = serde_json::to_string(&running).expect("numbers and lists have a JSON form");
        files::replace(&path, text.as_bytes(), 0o600).map_err(Error::file("write", &path))
    }

    /// The machine of this folder, if one runs. A process number alone may belong to another process by
    /// now, so QEMU has to answer on the folder's socket.
    ///
    /// # Errors
    /// The record cannot be read, or is not one: a machine may run that nobody can find.
    pub fn find(folder: &Path) -> Result<Option<(Running, Qmp)>, Error> {
        let path = folder.join(STATE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::File { action: "read", path, source }),
        };
        let running = serde_json::from_str(&text).map_err(|error| {
            let path = path.display();
            Error::State(format!(
                "{path} is damaged ({error}): end its QEMU if it runs, then delete the file"
            ))
        })?;
        Ok(Qmp::connect(folder, CONTROL, Duration::ZERO).ok().map(|qmp| (running, qmp)))
    }

    /// Ends QEMU, as pulling the plug would.
    ///
    /// # Errors
    /// QEMU does not answer.
    pub fn kill(&self, qmp: &mut Qmp, folder: &Path) -> Result<(), Error> {
        qmp.execute("quit", serde_json::json!({}))?;
        forget(folder)
    }

    /// Presses the power button and waits until the guest has switched itself off.
    ///
    /// # Errors
    /// It did not within `limit`; it is left running, to be looked at.
    pub fn stop(&self, qmp: &mut Qmp, folder: &Path, limit: Duration) -> Result<(), Error> {
        let log: PathBuf = folder.join(CONSOLE_LOG);
        qmp.power_button()?;
        match qmp.event("SHUTDOWN", Instant::now() + limit)? {
            Some(event) if event["data"]["guest"] == true => {}
            _ => {
                let reason = format!(
                    "it did not switch itself off within {} s; process {} still runs, and --force ends it",
                    limit.as_secs(),
                    self.process_id
                );
                return Err(Error::UncleanStop { reason, log });
            }
        }
        forget(folder)
    }
}

fn forget(folder: &Path) -> Result<(), Error> {
    let path = folder.join(STATE);
    std::fs::remove_file(&path).map_err(Error::file("remove", &path))
}
