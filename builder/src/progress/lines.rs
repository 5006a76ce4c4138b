//! One line when a step begins and one when it ends: for logs and pipes.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use super::steps::{Steps, amount, duration};
use super::{Progress, Unit, interrupt};

/// Plain lines. An error of the writer is ignored: a closed pipe is no reason to stop a build.
pub struct Lines<W> {
    out: Mutex<W>,
    steps: Steps,
    verbose: bool,
}

impl<W: Write> Lines<W> {
    /// Writes to `out`; details only if `verbose`.
    pub fn new(out: W, verbose: bool) -> Self {
        Lines { out: Mutex::new(out), steps: Steps::default(), verbose }
    }

    fn line(&self, text: std::fmt::Arguments<'_>) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(out, "{text}");
    }
}

impl<W: Write + Send> Progress for Lines<W> {
    fn begin(&self, step: &str, total: Option<u64>, unit: Unit) {
        self.steps.begin(step, total, unit);
        match total {
            Some(total) => self.line(format_args!("{step}: begins, {}", amount(total, unit))),
            None => self.line(format_args!("{step}: begins")),
        }
    }

    fn advance(&self, step: &str, amount: u64) {
        self.steps.advance(step, amount);
    }

    fn end(&self, step: &str, summary: &str) {
        let took = duration(self.steps.end(step));
        if summary.is_empty() {
            self.line(format_args!("{step}: done in {took}"));
        } else {
            self.line(format_args!("{step}: {summary} in {took}"));
        }
    }

    fn warn(&self, message: &str) {
        self.line(format_args!("warning: {message}"));
    }

    fn detail(&self, message: &str) {
        if self.verbose {
            self.line(format_args!("  {message}"));
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
    fn a_thousand_advances_make_two_lines() {
        let lines = Lines::new(Vec::new(), false);
        lines.begin("fetch", Some(64_000_000), Unit::Bytes);
        for _ in 0..1000 {
            lines.advance("fetch", 64_000);
        }
        lines.detail("only for --verbose");
        lines.warn("the mirror is slow");
        lines.end("fetch", "81 packages, 64 MB");
        let text = String::from_utf8(lines.out.into_inner().unwrap()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0], "fetch: begins, 64.00 MB");
        assert_eq!(lines[1], "warning: the mirror is slow");
        assert!(lines[2].starts_with("fetch: 81 packages, 64 MB in "), "{}", lines[2]);
    }
}
