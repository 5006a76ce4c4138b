//! One JSON object per line on stdout, for programs that drive a build.
//!
//! `event` is `begin`, `advance`, `end`, `warning` or `detail`. `advance` comes at most once per percent
//! of a step whose total is known, and once per 16 MiB or 64 items otherwise.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::steps::Steps;
use super::{Progress, Unit, interrupt};

const ADVANCE_BYTES: u64 = 16 << 20;
const ADVANCE_ITEMS: u64 = 64;

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Event<'a> {
    Begin { step: &'a str, total: Option<u64>, unit: Unit },
    Advance { step: &'a str, done: u64, total: Option<u64>, unit: Unit },
    End { step: &'a str, summary: &'a str, milliseconds: u64 },
    Warning { message: &'a str },
    Detail { message: &'a str },
}

/// JSON events.
pub struct JsonEvents<W> {
    out: Mutex<W>,
    steps: Steps,
    /// Units at which the next `advance` of a step is due.
    due: Mutex<BTreeMap<String, u64>>,
    verbose: bool,
}

impl<W: Write> JsonEvents<W> {
    /// Writes to `out`; details only if `verbose`.
    pub fn new(out: W, verbose: bool) -> Self {
        JsonEvents { out: Mutex::new(out), steps: Steps::default(), due: Mutex::default(), verbose }
    }

    fn send(&self, event: &Event<'_>) {
        let text = serde_json::to_string(event).expect("strings and numbers always serialise");
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        // A reader that went away is no reason to stop a build.
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }
}

impl<W: Write + Send> Progress for JsonEvents<W> {
    fn begin(&self, step: &str, total: Option<u64>, unit: Unit) {
        self.steps.begin(step, total, unit);
        self.due.lock().unwrap_or_else(PoisonError::into_inner).remove(step);
        self.send(&Event::Begin { step, total, unit });
    }

    fn advance(&self, step: &str, amount: u64) {
        let Some(state) = self.steps.advance(step, amount) else { return };
        let interval = match (state.total, state.unit) {
            (Some(total), _) => (total / 100).max(1),
            (None, Unit::Bytes) => ADVANCE_BYTES,
            (None, Unit::Items) => ADVANCE_ITEMS,
        };
        let mut all = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let due = all.entry(step.to_owned()).or_insert(interval);
        if state.done >= *due {
            *due = state.done.saturating_add(interval);
            drop(all);
            self.send(&Event::Advance { step, done: state.done, total: state.total, unit: state.unit });
        }
    }

    fn end(&self, step: &str, summary: &str) {
        let milliseconds = u64::try_from(self.steps.end(step).as_millis()).unwrap_or(u64::MAX);
        self.send(&Event::End { step, summary, milliseconds });
    }

    fn warn(&self, message: &str) {
        self.send(&Event::Warning { message });
    }

    fn detail(&self, message: &str) {
        if self.verbose {
            self.send(&Event::Detail { message });
        }
    }

    fn interrupted(&self) -> bool {
        interrupt::requested()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_object_per_line_and_no_more_than_one_advance_per_percent() {
        let events = JsonEvents::new(Vec::new(), true);
        events.begin("fetch", Some(10_000), Unit::Bytes);
        for _ in 0..10_000 {
            events.advance("fetch", 1);
        }
        events.detail("a \"quoted\"\nline");
        events.end("fetch", "1 package");
        let text = String::from_utf8(events.out.into_inner().unwrap()).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 1 + 100 + 1 + 1);
        assert_eq!(lines[0]["event"], "begin");
        assert_eq!(lines[0]["unit"], "bytes");
        assert_eq!(lines[100]["done"], 10_000);
        assert_eq!(lines[101]["message"], "a \"quoted\"\nline");
        assert_eq!(lines[102]["summary"], "1 package");
    }
}
