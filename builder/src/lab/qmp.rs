//! A client for QEMU's machine protocol (QEMU, docs/interop/qmp-spec): one JSON value per line over a
//! unix socket.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Error;

/// How long QEMU may take to answer a command; it answers within a millisecond unless the host is starved.
const ANSWER: Duration = Duration::from_secs(20);

/// A connection to one machine's control socket.
pub struct Qmp {
    reader: BufReader<UnixStream>,
    /// A line that has not come to its end yet.
    partial: Vec<u8>,
    events: Vec<Value>,
    path: PathBuf,
}

impl Qmp {
    /// Connects to the socket `name` in `folder` and negotiates. Tries for `patience`; once at least.
    ///
    /// # Errors
    /// No connection in that time, or another protocol.
    pub fn connect(folder: &Path, name: &str, patience: Duration) -> Result<Qmp, Error> {
        let path = folder.join(name);
        let deadline = Instant::now() + patience;
        let stream = loop {
            match connect_below(folder, name) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() >= deadline => {
                    return Err(Error::Control { path, reason: error.to_string() });
                }
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        let mut qmp = Qmp { reader: BufReader::new(stream), partial: Vec::new(), events: Vec::new(), path };
        let greeting = qmp.line(Instant::now() + ANSWER)?.ok_or_else(|| qmp.error("no greeting"))?;
        if greeting.get("QMP").is_none() {
            return Err(qmp.error("the greeting is not QEMU's"));
        }
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs a command and returns what it returns.
    ///
    /// # Errors
    /// The command is refused, or no answer came.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, Error> {
        let line = format!("{}\n", json!({ "execute": command, "arguments": arguments }));
        self.reader.get_mut().write_all(line.as_bytes()).map_err(|error| self.error(&error.to_string()))?;
        let deadline = Instant::now() + ANSWER;
        loop {
            let answer =
                self.line(deadline)?.ok_or_else(|| self.error(&format!("no answer to {command}")))?;
            if let Some(value) = answer.get("return") {
                return Ok(value.clone());
            }
            if let Some(error) = answer.get("error") {
                return Err(
                    self.error(&format!("{command}: {}", error["desc"].as_str().unwrap_or("refused")))
                );
            }
            self.events.push(answer);
        }
    }

    /// Presses the power button.
    pub fn power_button(&mut self) -> Result<(), Error> {
        self.execute("system_powerdown", json!({})).map(drop)
    }

    /// Presses the reset button.
    pub fn reset(&mut self) -> Result<(), Error> {
        self.execute("system_reset", json!({})).map(drop)
    }

    /// Waits for an event; events that came earlier count. `None` if none came before `deadline`, or QEMU ended.
    pub fn event(&mut self, name: &str, deadline: Instant) -> Result<Option<Value>, Error> {
        loop {
            if let Some(index) = self.events.iter().position(|event| event["event"] == name) {
                return Ok(Some(self.events.remove(index)));
            }
            match self.line(deadline)? {
                Some(value) => self.events.push(value),
                None => return Ok(None),
            }
        }
    }

    /// The next line; `None` at the deadline or when QEMU closed the socket.
    fn line(&mut self, deadline: Instant) -> Result<Option<Value>, Error> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let timeout = self.reader.get_ref().set_read_timeout(Some(left));
            timeout.map_err(|error| self.error(&error.to_string()))?;
            match self.reader.read_until(b'\n', &mut self.partial) {
                Ok(0) => return Ok(None),
                Ok(_) if self.partial.ends_with(b"\n") => {
                    let line = std::mem::take(&mut self.partial);
                    return serde_json::from_slice(&line)
                        .map(Some)
                        .map_err(|error| self.error(&format!("not a JSON line: {error}")));
                }
                Ok(_) => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Ok(None);
                }
                // What a killed QEMU leaves behind; to the caller it is the end of the stream.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(self.error(&error.to_string())),
            }
        }
    }

    fn error(&self, reason: &str) -> Error {
        Error::Control { path: self.path.clone(), reason: reason.to_owned() }
    }
}

/// A socket address holds 108 bytes; the folder of a clone may be deeper, the path of a descriptor is not.
fn connect_below(folder: &Path, name: &str) -> std::io::Result<UnixStream> {
    let folder = std::fs::File::open(folder)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    /// Answers each line that it reads with the next of `answers`, after the greeting.
    fn serve(listener: UnixListener, answers: Vec<&'static str>) -> std::thread::JoinHandle<Vec<String>> {
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"{\"QMP\": {\"version\": {}}}\r\n").unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let mut seen = Vec::new();
            for answer in answers {
                seen.push(lines.next().unwrap().unwrap());
                stream.write_all(answer.as_bytes()).unwrap();
            }
            seen
        })
    }

    #[test]
    fn events_between_command_and_answer_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let server = serve(
            UnixListener::bind(folder.path().join("s")).unwrap(),
            vec![
                "{\"return\": {}}\r\n",
                "{\"event\": \"POWERDOWN\"}\r\n{\"return\": {}}\r\n{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true}}\r\n",
            ],
        );
        let soon = Instant::now() + Duration::from_secs(20);
        let mut qmp = Qmp::connect(folder.path(), "s", Duration::ZERO).unwrap();
        qmp.power_button().unwrap();
        let event = qmp.event("SHUTDOWN", soon).unwrap().unwrap();
        assert_eq!(event["data"]["guest"], true);
        assert!(qmp.event("POWERDOWN", soon).unwrap().is_some());
        assert!(qmp.event("RESET", soon).unwrap().is_none());
        let seen = server.join().unwrap();
        let commands: Vec<Value> = seen.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let expected = ["qmp_capabilities", "system_powerdown"];
        assert_eq!(commands, expected.map(|name| json!({"execute": name, "arguments": {}})));
    }

    #[test]
    fn a_refused_command_is_an_error_with_qemus_words() {
        let folder = tempfile::tempdir().unwrap();
        let server = serve(
            UnixListener::bind(folder.path().join("s")).unwrap(),
            vec![
                "{\"return\": {}}\n",
                "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"no such command\"}}\n",
            ],
        );
        let mut qmp = Qmp::connect(folder.path(), "s", Duration::ZERO).unwrap();
        let error = qmp.execute("nonsense", json!({})).unwrap_err().to_string();
        assert!(error.ends_with("nonsense: no such command"), "{error}");
        server.join().unwrap();
    }
}
