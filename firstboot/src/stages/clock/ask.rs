//! Asking NTP servers for the time, each by a chronyd of its own that sets nothing (`-Q`).
//!
//! One for each, so that it is known which of them answered, and so that a lone wrong one among several is outvoted.
//! One that is given all servers either takes the first answer for the truth (`maxsamples 1`), or compares them and
//! needs four seconds for it.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Servers at most that are asked: more say nothing new, and each costs a process.
const MOST_SERVERS: usize = 8;
/// How long the others are waited for once one has answered.
const OTHERS: Duration = Duration::from_secs(1);
/// How long a chronyd may take to end after its time is over, before it is ended.
const SLACK: Duration = Duration::from_secs(2);
/// Pause between two looks at the programs.
const PAUSE: Duration = Duration::from_millis(10);
/// What chronyd prints before the difference, seconds; positive if our clock is behind (chrony 1.19 to 4.6,
/// `reference.c`).
const DIFFERENCE: &str = "System clock wrong by ";
/// In the folder of the logs: a line for each packet that came, of use or not.
const PACKETS: &str = "measurements.log";

/// Who is asked, and how.
pub struct Question<'a> {
    /// chronyd, and arguments that it gets before ours.
    pub chronyd: &'a [String],
    /// NTP servers, names or addresses.
    pub servers: &'a [String],
    /// How long a server may take; whole seconds.
    pub patience: Duration,
    /// Folder for what the programs log; it is removed in the end.
    pub scratch: &'a Path,
}

/// What came of asking one server.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Name or address.
    pub server: String,
    /// What it said.
    pub reply: Reply,
}

/// What a server said.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// By how much our clock is behind, seconds.
    Behind(f64),
    /// Nothing that is of use: it does not know the time itself.
    Unsynchronised,
    /// Nothing, in the time that there was.
    Silent,
    /// It could not be asked.
    Unasked(String),
}

/// Asks all at once. Takes as long as `patience` if none answers, and little longer than the first answer otherwise.
pub fn ask(question: &Question<'_>) -> Vec<Answer> {
    let servers = question.servers.iter().take(MOST_SERVERS).enumerate();
    let mut asked: Vec<Asked> =
        servers.map(|(number, server)| Asked::begin(question, number, server)).collect();
    let mut deadline = Instant::now() + question.patience + SLACK;
    let mut answered = false;
    while asked.iter_mut().map(Asked::has_ended).filter(|ended| !ended).count() > 0 {
        if !answered && asked.iter().any(Asked::knows) {
            answered = true;
            deadline = deadline.min(Instant::now() + OTHERS);
        }
        if Instant::now() >= deadline {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    let answers = asked.into_iter().map(Asked::end).collect();
    // Nothing of use is left in it, and nobody waits for it.
    let _ = fs::remove_dir_all(question.scratch);
    answers
}

/// A chronyd that asks one server.
struct Asked {
    server: String,
    logs: PathBuf,
    running: Option<Child>,
    reply: Reply,
}

impl Asked {
    fn begin(question: &Question<'_>, number: usize, server: &str) -> Asked {
        let logs = question.scratch.join(number.to_string());
        let Some((program, first)) = question.chronyd.split_first() else {
            return Asked {
                server: server.to_owned(),
                logs,
                running: None,
                reply: Reply::Unasked("no program".into()),
            };
        };
        let begun = Command::new(program)
            .args(first)
            .args(["-Q", "-t", &question.patience.as_secs().max(1).to_string()])
            .arg(format!("server {server} iburst maxsamples 1"))
            .arg("cmdport 0")
            .arg(format!("logdir {}", logs.display()))
            .arg("log rawmeasurements")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let (running, reply) = match begun {
            Ok(child) => (Some(child), Reply::Silent),
            Err(error) => (None, Reply::Unasked(format!("{program}: {error}"))),
        };
        Asked { server: server.to_owned(), logs, running, reply }
    }

    fn has_ended(&mut self) -> bool {
        let Some(child) = &mut self.running else { return true };
        match child.try_wait() {
            Ok(None) => return false,
            Ok(Some(_)) => {
                let mut said = Vec::new();
                if let Some(errors) = &mut child.stderr {
                    // What cannot be read was not said.
                    let _ = errors.read_to_end(&mut said);
                }
                self.reply = reply(&String::from_utf8_lossy(&said));
            }
            Err(error) => self.reply = Reply::Unasked(error.to_string()),
        }
        self.running = None;
        true
    }

    fn knows(&self) -> bool {
        matches!(self.reply, Reply::Behind(_))
    }

    fn end(mut self) -> Answer {
        if let Some(mut child) = self.running.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if self.reply == Reply::Silent && has_packets(&self.logs.join(PACKETS)) {
            self.reply = Reply::Unsynchronised;
        }
        Answer { server: self.server, reply: self.reply }
    }
}

/// What chronyd has to say when it has ended.
fn reply(said: &str) -> Reply {
    if let Some(behind) = difference(said) {
        return Reply::Behind(behind);
    }
    match said.lines().find_map(|line| line.split_once("Fatal error : ")) {
        Some((_, why)) => Reply::Unasked(why.to_owned()),
        None => Reply::Silent,
    }
}

fn difference(said: &str) -> Option<f64> {
    let (_, rest) = said.split_once(DIFFERENCE)?;
    rest.split_once(' ')?.0.parse().ok().filter(|seconds: &f64| seconds.is_finite())
}

/// A line of a packet begins with its date; the others are headings.
fn has_packets(log: &Path) -> bool {
    fs::read_to_string(log).is_ok_and(|text| text.lines().any(|line| line.starts_with('2')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_chronyd_says_is_read() {
        let said = |words: &str| format!("2026-01-01T00:00:00Z chronyd version 4.3 starting\n{words}\n");
        let wrong = said("2026-01-01T00:00:00Z System clock wrong by -100.000002 seconds (ignored)");
        assert_eq!(reply(&wrong), Reply::Behind(-100.000_002));
        assert_eq!(reply(&said("2026-01-01T00:00:08Z Timeout reached")), Reply::Silent);
        let fatal = said("2026-01-01T00:00:00Z Fatal error : Could not get user/group ID of _chrony");
        assert_eq!(reply(&fatal), Reply::Unasked("Could not get user/group ID of _chrony".into()));
        assert_eq!(reply("System clock wrong by NaN seconds"), Reply::Silent);
        assert_eq!(reply("System clock wrong by"), Reply::Silent);
    }

    #[test]
    fn a_program_that_is_not_there_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (chronyd, servers) = (["/nowhere/chronyd".to_owned()], ["10.0.0.1".to_owned()]);
        let patience = Duration::from_secs(1);
        let answers =
            ask(&Question { chronyd: &chronyd, servers: &servers, patience, scratch: folder.path() });
        let [Answer { reply: Reply::Unasked(why), .. }] = answers.as_slice() else { panic!("{answers:?}") };
        assert!(why.contains("/nowhere/chronyd"), "{why}");
    }
}
