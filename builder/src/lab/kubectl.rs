//! kubectl as a person runs it, with a bound on its time.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Error;
use crate::progress::interrupt;

/// kubectl with a kubeconfig.
#[derive(Debug, Clone)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    cache: PathBuf,
}

impl Kubectl {
    /// Takes `program` with the rights of `kubeconfig`; what it learns of the API it keeps in `cache`,
    /// not in the person's home.
    pub fn new(program: &Path, kubeconfig: &Path, cache: &Path) -> Kubectl {
        Kubectl { program: program.to_owned(), kubeconfig: kubeconfig.to_owned(), cache: cache.to_owned() }
    }

    /// Runs it and returns what it wrote.
    ///
    /// # Errors
    /// It failed, or was stopped after `limit`.
    pub fn run(&self, arguments: &[&str], limit: Duration) -> Result<String, Error> {
        let failed = |status: String, message: String| Error::Kubectl {
            arguments: arguments.join(" "),
            status,
            message: message.trim().to_owned(),
        };
        let mut command = Command::new(&self.program);
        command
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .arg("--cache-dir")
            .arg(&self.cache)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // Loopback is not reached through a proxy, whatever the environment says.
        for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
            command.env_remove(name);
        }
        let mut process = command.spawn().map_err(Error::file("start", &self.program))?;
        let output = read_in_background(process.stdout.take());
        let message = read_in_background(process.stderr.take());
        let deadline = Instant::now() + limit;
        let status = loop {
            if let Some(status) = process.try_wait().map_err(Error::file("wait for", &self.program))? {
                break status;
            }
            if interrupt::requested() {
                process.kill().and_then(|()| process.wait()).map_err(Error::file("stop", &self.program))?;
                return Err(interrupt::Interrupted.into());
            }
            if Instant::now() >= deadline {
                process.kill().and_then(|()| process.wait()).map_err(Error::file("stop", &self.program))?;
                let status = format!("stopped after {} s", limit.as_secs());
                return Err(failed(status, message.join().unwrap_or_default()));
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let message = message.join().unwrap_or_default();
        if !status.success() {
            return Err(failed(status.to_string(), message));
        }
        Ok(output.join().unwrap_or_default())
    }

    /// Runs it again every half second until it succeeds.
    ///
    /// # Errors
    /// The last failure, at the deadline.
    pub fn retry(&self, arguments: &[&str], limit: Duration) -> Result<String, Error> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
            match self.run(arguments, left) {
                Ok(output) => return Ok(output),
                Err(error @ Error::Interrupted(_)) => return Err(error),
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(500)),
            }
        }
    }
}

/// A pipe that nobody reads fills up, and the program stops.
fn read_in_background(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // What was read before an error is all there is to show.
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn program(folder: &Path, script: &str) -> Kubectl {
        let path = folder.join("kubectl");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        Kubectl::new(&path, Path::new("/k"), Path::new("/c"))
    }

    #[test]
    fn output_is_returned_and_an_error_told() {
        let folder = tempfile::tempdir().unwrap();
        let limit = Duration::from_secs(20);
        let output = program(folder.path(), "echo \"$@\"").run(&["get", "nodes"], limit).unwrap();
        assert_eq!(output, "--kubeconfig /k --cache-dir /c get nodes\n");
        let error =
            program(folder.path(), "echo no >&2; exit 3").run(&["get"], limit).unwrap_err().to_string();
        assert_eq!(error, "kubectl get failed (exit status: 3): no");
    }

    #[test]
    fn one_that_hangs_is_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let error =
            program(folder.path(), "exec sleep 1000").run(&["logs"], Duration::ZERO).unwrap_err().to_string();
        assert_eq!(error, "kubectl logs failed (stopped after 0 s): ");
    }
}
