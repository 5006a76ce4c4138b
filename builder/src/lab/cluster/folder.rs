//! The folder of a lab, `lab` below the output folder: who owns it, and what is in it.

use std::fs::{DirBuilder, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::layout::Forwarded;
use crate::files;
use crate::lab::machine::CONSOLE_LOG;
use crate::lab::qmp::Qmp;
use crate::lab::state::Running;
use crate::lab::{Error, demo, left_running};

/// Name of the folder.
const LAB: &str = "lab";
/// Held by the process that owns the lab, for as long as it lives.
const LOCK: &str = "lock";
/// The record of the owner.
const RECORD: &str = "lab.json";
/// Folders of the machines.
const NODES: &str = "nodes";
/// How long somebody may hold the lock who only asks.
const ASKING: Duration = Duration::from_secs(1);
/// How long machines of an owner that was killed may take to end.
const ENDING: Duration = Duration::from_secs(5);
/// What the owner prints when it is in the background.
pub const LOG: &str = "lab.log";
/// The socket that commands come in through.
pub const CONTROL: &str = "control.sock";
/// The kubeconfig that leads to the forwarded port.
pub const KUBECONFIG: &str = "kubeconfig";

/// What the owner of a lab writes down about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Record {
    /// Its process number; to be told, not to be relied on.
    pub process_id: u32,
    /// Names of the nodes.
    pub nodes: Vec<String>,
    /// Ports of 127.0.0.1 that lead to nodes.
    pub forwards: Vec<Forwarded>,
}

/// A lab's folder, whether there is a lab or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    output: PathBuf,
    path: PathBuf,
}

/// What is in the folder.
#[derive(Debug)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A lab whose owner lives. It has no record while it starts.
    Running(Option<Record>),
    /// What an owner left that was killed.
    Stale(Option<Record>),
}

impl Folder {
    /// That of an output folder.
    pub fn of(output: &Path) -> Folder {
        Folder { output: output.to_owned(), path: output.join(LAB) }
    }

    /// The output folder.
    pub fn output(&self) -> &Path {
        &self.output
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the machine of a node has its files.
    pub fn node(&self, name: &str) -> PathBuf {
        self.path.join(NODES).join(name)
    }

    /// The kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.path.join(KUBECONFIG)
    }

    /// Makes the folder, readable by its owner only, and takes it: it is a lab's until the file is closed.
    ///
    /// # Errors
    /// There is a lab, or the rest of one, or the folder cannot be made.
    pub fn take(&self) -> Result<File, Error> {
        self.make()?;
        let path = self.path.join(LOCK);
        let lock = File::create(&path).map_err(Error::file("write", &path))?;
        let begin = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                // Somebody who asks whether there is a lab holds it for a moment.
                Err(TryLockError::WouldBlock) if begin.elapsed() < ASKING => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(TryLockError::WouldBlock) => {
                    let output = self.output.display();
                    return Err(Error::State(format!("another lab of {output} is just starting")));
                }
                Err(TryLockError::Error(source)) => return Err(Error::File { action: "lock", path, source }),
            }
        }
    }

    /// Makes the folder, for what is written before the lab is taken.
    ///
    /// # Errors
    /// There is a lab, or the rest of one, or the folder cannot be made.
    pub fn make(&self) -> Result<(), Error> {
        match self.find()? {
            Found::Nothing => {}
            Found::Running(_) => {
                let (output, down) = (self.output.display(), left_running::lab_command("down", &self.output));
                return Err(Error::State(format!("a lab of {output} is running; stop it with `{down}`")));
            }
            Found::Stale(record) => return Err(self.stale(record.as_ref())),
        }
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.path);
        made.map_err(Error::file("make", &self.path))
    }

    /// Writes the record.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn record(&self, record: &Record) -> Result<(), Error> {
        let path = self.path.join(RECORD);
        let text = serde_json::to_string(record).expect("names and numbers have a JSON form");
        files::replace(&path, text.as_bytes(), 0o600).map_err(Error::file("write", &path))
    }

    /// What is in the folder. That its owner lives is known by the lock, which the kernel gives up with it.
    ///
    /// # Errors
    /// The folder cannot be looked at.
    pub fn find(&self) -> Result<Found, Error> {
        let path = self.path.join(LOCK);
        let lock = match File::open(&path) {
            Ok(lock) => lock,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(source) => return Err(Error::File { action: "read", path, source }),
        };
        // A record that cannot be read is told as none: it is for people.
        let text = std::fs::read_to_string(self.path.join(RECORD)).ok();
        let record = text.and_then(|text| serde_json::from_str(&text).ok());
        match lock.try_lock_shared() {
            Ok(()) => Ok(Found::Stale(record)),
            Err(TryLockError::WouldBlock) => Ok(Found::Running(record)),
            Err(TryLockError::Error(source)) => Err(Error::File { action: "lock", path, source }),
        }
    }

    /// The record of a lab that runs.
    ///
    /// # Errors
    /// None does.
    pub fn running(&self) -> Result<Record, Error> {
        match self.find()? {
            Found::Running(Some(record)) => Ok(record),
            Found::Running(None) => {
                Err(Error::State(format!("the lab of {} is just starting; ask again", self.output.display())))
            }
            Found::Stale(record) => Err(self.stale(record.as_ref())),
            Found::Nothing => Err(Error::State(self.nothing())),
        }
    }

    /// The commands of a lab are not for a machine that `lab boot --keep` left, which somebody may mean.
    fn nothing(&self) -> String {
        let output = self.output.display();
        match Running::find(&demo::machine_folder(&self.output)) {
            Ok(Some((running, _))) => format!(
                "{output} has no lab of several machines but one machine, process {}, that `lab boot --keep` left \
                 running. Its console is {}; `{}` stops it",
                running.process_id,
                demo::machine_folder(&self.output).join(CONSOLE_LOG).display(),
                left_running::lab_command("down", &self.output)
            ),
            _ => format!("no lab of {output} is running; `lab up` starts one"),
        }
    }

    fn stale(&self, record: Option<&Record>) -> Error {
        let owner = record.map_or_else(String::new, |record| format!(" (process {})", record.process_id));
        Error::State(format!(
            "the lab of {} ended without cleaning up: its supervisor{owner} was killed; `{}` removes what it left",
            self.output.display(),
            left_running::lab_command("down", &self.output)
        ))
    }

    /// Removes what a killed owner left. The kernel ended its machines with it; one that answers on the socket in its
    /// folder all the same is told to end.
    ///
    /// # Errors
    /// The folder cannot be removed.
    pub fn clean(&self) -> Result<(), Error> {
        let nodes = std::fs::read_dir(self.path.join(NODES)).into_iter().flatten().flatten();
        for node in nodes {
            if let Ok(mut qmp) = Qmp::connect(&node.path(), crate::lab::machine::CONTROL, Duration::ZERO) {
                // It closes the socket instead of answering.
                let _ = qmp.execute("quit", serde_json::json!({}));
            }
        }
        let begin = Instant::now();
        loop {
            match std::fs::remove_dir_all(&self.path) {
                // A machine that is just ending may still make a file.
                Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty && begin.elapsed() < ENDING => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                result => return result.map_err(Error::file("remove", &self.path)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_lab_is_nothing_running_stale_and_nothing_again() {
        let output = tempfile::tempdir().unwrap();
        let folder = Folder::of(output.path());
        assert!(matches!(folder.find().unwrap(), Found::Nothing));
        assert!(folder.running().unwrap_err().to_string().contains("no lab"));
        let lock = folder.take().unwrap();
        assert_eq!(folder.path().metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert!(folder.running().unwrap_err().to_string().contains("just starting"));
        let record = Record { process_id: 4711, nodes: vec!["cp1".to_owned()], forwards: Vec::new() };
        folder.record(&record).unwrap();
        assert_eq!(folder.running().unwrap(), record);
        assert!(folder.take().unwrap_err().to_string().contains("lab down -o "));
        // The owner is gone.
        drop(lock);
        for error in [folder.running().unwrap_err(), folder.take().unwrap_err()] {
            let text = error.to_string();
            assert!(text.contains("process 4711") && text.contains("lab down -o "), "{text}");
        }
        folder.clean().unwrap();
        assert!(!folder.path().exists());
        drop(folder.take().unwrap());
    }
}
