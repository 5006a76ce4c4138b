//! Progress of a build: bars on a terminal, lines elsewhere, JSON events on request.
//!
//! Everything that takes time gets a `&dyn Progress`; nothing else in the builder prints.

pub mod interrupt;
mod json;
mod lines;
mod steps;
mod terminal;

use std::io::{self, IsTerminal, Write};

pub use interrupt::Interrupted;
pub use json::JsonEvents;
pub use lines::Lines;
pub use terminal::Bars;

/// Receives what a build does. Called from several threads.
pub trait Progress: Sync + Send {
    /// A step began: `"fetch"`, `"squashfs"`; `total` in `unit`s if known.
    fn begin(&self, step: &str, total: Option<u64>, unit: Unit);
    /// `amount` more units of `step` are done.
    fn advance(&self, step: &str, amount: u64);
    /// The step ended; `summary` is one line (`"81 packages, 64 MB"`).
    fn end(&self, step: &str, summary: &str);
    /// Something a person should know that is not an error.
    fn warn(&self, message: &str);
    /// Something only a person who asked for `--verbose` wants to know.
    fn detail(&self, _message: &str) {}
    /// Whether the person asked to stop (Ctrl-C). Long loops ask between two pieces of work.
    fn interrupted(&self) -> bool {
        false
    }
    /// [`Self::interrupted`] as an error, for `?`.
    fn checkpoint(&self) -> Result<(), Interrupted> {
        if self.interrupted() { Err(Interrupted) } else { Ok(()) }
    }
}

/// What a step counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Files, packages, certificates.
    Items,
}

/// Tells a step of the bytes that go through to `out`.
pub struct Counted<'a> {
    /// Where they go.
    pub out: &'a mut dyn Write,
    /// The step.
    pub step: &'a str,
    /// Who is told.
    pub progress: &'a dyn Progress,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.progress.advance(self.step, written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Says nothing; for tests and for callers that do not care.
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _step: &str, _total: Option<u64>, _unit: Unit) {}
    fn advance(&self, _step: &str, _amount: u64) {}
    fn end(&self, _step: &str, _summary: &str) {}
    fn warn(&self, _message: &str) {}
}

/// What a command reports to: JSON events on stdout if asked for, bars if stderr is a terminal, else
/// lines on stderr. `verbose` lets details through.
pub fn choose(json: bool, verbose: bool) -> Box<dyn Progress> {
    if json {
        Box::new(JsonEvents::new(std::io::stdout(), verbose))
    } else if std::io::stderr().is_terminal() {
        Box::new(Bars::new(verbose))
    } else {
        Box::new(Lines::new(std::io::stderr(), verbose))
    }
}
