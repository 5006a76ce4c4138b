//! Tells what etcd waits for: in the service's log, and on the consoles, as the cluster may stand still for it.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::report::{Consoles, uptime_ms};

/// Tells what has lasted, each thing once, and what stays the same again after pauses that double.
pub struct Teller {
    consoles: Consoles,
    program: &'static str,
    /// What was seen last, and how many times in a row.
    seen: (String, u32),
    said: String,
    since: Instant,
    pause: Duration,
}

/// Times in a row that something has to be seen. Machines that are switched on together pass through much that is not
/// worth a line: a member that starts knows for a moment only what its last snapshot says.
const LASTS: u32 = 3;
/// The first of the pauses.
const PAUSE: Duration = Duration::from_secs(60);

impl Teller {
    /// Tells on the consoles below `root`.
    pub fn new(root: &Path, program: &'static str) -> Teller {
        let (seen, said) = ((String::new(), 0), String::new());
        Teller { consoles: Consoles::find(root), program, seen, said, since: Instant::now(), pause: PAUSE }
    }

    /// Tells something at once.
    pub fn say(&mut self, text: &str) {
        let now = uptime_ms();
        self.consoles.write(&format!("[{:5}.{:03}] {}: {text}", now / 1000, now % 1000, self.program));
        println!("{}: {text}", self.program);
        text.clone_into(&mut self.said);
        self.since = Instant::now();
        self.pause = PAUSE;
    }

    /// Takes what is the case now, and tells it if it has been for some time.
    pub fn see(&mut self, text: &str) {
        if self.seen.0 == text {
            self.seen.1 += 1;
        } else {
            self.seen = (text.to_owned(), 1);
        }
        if self.seen.1 == LASTS && self.said != text {
            self.say(text);
        } else if self.said == text && self.since.elapsed() >= self.pause {
            let next = self.pause * 2;
            self.say(text);
            self.pause = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_not_told_and_what_stays_is_told_once() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("dev")).unwrap();
        let console = root.path().join("dev/console");
        std::fs::write(&console, "").unwrap();
        let mut teller = Teller::new(root.path(), "etcd");
        let lines = || std::fs::read_to_string(&console).unwrap().lines().count();
        for text in ["a", "b", "a", "a", "b"] {
            teller.see(text);
        }
        assert_eq!(lines(), 0);
        for _ in 0..9 {
            teller.see("waits: for cp2");
        }
        let text = std::fs::read_to_string(&console).unwrap();
        assert!(text.ends_with("] etcd: waits: for cp2\r\n") && lines() == 1, "{text:?}");
        teller.since -= PAUSE;
        teller.see("waits: for cp2");
        teller.since -= PAUSE;
        teller.see("waits: for cp2");
        assert_eq!(lines(), 2, "the pause has doubled");
        teller.say("begins");
        assert_eq!(lines(), 3);
    }
}
