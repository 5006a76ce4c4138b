//! Progress of a build: bars on a terminal, lines elsewhere, JSON events on request.
//!
//! Everything that takes time gets a `&dyn Progress`; nothing else in the builder prints.

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
}

/// What a step counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Files, packages, certificates.
    Items,
}

/// Says nothing; for tests and for callers that do not care.
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _step: &str, _total: Option<u64>, _unit: Unit) {}
    fn advance(&self, _step: &str, _amount: u64) {}
    fn end(&self, _step: &str, _summary: &str) {}
    fn warn(&self, _message: &str) {}
}
