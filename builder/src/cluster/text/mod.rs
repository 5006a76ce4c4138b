//! A TOML file that a person wrote: its values, where each of them stands, and everything that is
//! wrong with it at once.
//!
//! serde stops at the first error, so the file is first walked against the [`shape`] of its type,
//! which collects unknown keys, missing keys and wrong values. What was wrong is replaced by a
//! placeholder, so that the rest can become a value and be checked for what it means; findings that
//! would rest on a placeholder are dropped.

pub mod finding;
pub mod reference;
pub mod render;
pub mod shape;
mod syntax;
mod walk;
mod words;

use std::path::Path;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use finding::{Finding, KeyPath, Severity};
use render::Findings;
use shape::Shape;
use walk::Walk;

pub use walk::similar;
pub use words::cidr_advice;

/// A file read as `T`.
pub struct Reading<T> {
    /// What the file says; placeholders where it says something wrong. `None` if not even that.
    pub value: Option<T>,
    text: String,
    walk: Walk,
    findings: Vec<Finding>,
}

/// Reads `text` as `T`, collecting everything that is wrong with its form.
pub fn read<T: DeserializeOwned + JsonSchema>(text: String) -> Reading<T> {
    read_as(text, &Shape::of::<T>())
}

/// The same with a form that is not that of `T`: of a file that is only a part of one.
pub fn read_as<T: DeserializeOwned>(text: String, shape: &Shape) -> Reading<T> {
    let syntax = syntax::parse(&text);
    let mut findings = syntax.findings;
    let mut walk = Walk::new(syntax.guessed);
    let value = walk.file(shape, &syntax.document);
    findings.append(&mut walk.findings);
    let value = match T::deserialize(value) {
        Ok(value) => Some(value),
        Err(error) => {
            // The shape lets something through that the type does not: say what serde says.
            if findings.is_empty() {
                findings
                    .push(Finding::new("value", error.message()).at_value(KeyPath::root(), "in this file"));
            }
            None
        }
    };
    Reading { value, text, walk, findings }
}

impl<T> Reading<T> {
    /// Adds what a check found, unless it rests on something that was wrong already.
    pub fn add(&mut self, findings: impl IntoIterator<Item = Finding>) {
        let sound = findings.into_iter().filter(|finding| !self.walk.rests_on_a_placeholder(finding));
        self.findings.extend(sound);
    }

    /// Whether the file is refused already.
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// Everything found so far, in the order of the file.
    pub fn finish(self, path: &Path) -> Findings {
        let walk = self.walk;
        Findings::locate(path, self.text, self.findings, |path, part| walk.span(path, part))
    }
}
