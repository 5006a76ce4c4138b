//! Findings with their places in the text: for a terminal, and as JSON.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};
use serde::Serialize;

use super::finding::{Finding, KeyPath, Part, Place, Severity};

/// Findings shown at once. Somebody who has more than this corrects the first ones first.
const SHOWN: usize = 50;

/// What was found in one file.
#[derive(Debug, Clone)]
pub struct Findings {
    path: PathBuf,
    source: Arc<NamedSource<String>>,
    located: Vec<Located>,
}

/// A finding with its places.
#[derive(Debug, Clone)]
struct Located {
    finding: Finding,
    spans: Vec<Range<usize>>,
    source: Arc<NamedSource<String>>,
}

/// A finding for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct JsonFinding<'a> {
    file: String,
    rule: &'a str,
    severity: Severity,
    message: &'a str,
    help: &'a str,
    places: Vec<JsonPlace<'a>>,
}

/// A place for programs: line and column (in characters) from one.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct JsonPlace<'a> {
    line: usize,
    column: usize,
    text: &'a str,
    label: &'a str,
}

impl Findings {
    /// Resolves the places of findings and sorts them in the order of the file.
    pub fn locate(
        path: &Path,
        text: String,
        findings: Vec<Finding>,
        span: impl Fn(&KeyPath, Part) -> Range<usize>,
    ) -> Self {
        let source = Arc::new(NamedSource::new(path.display().to_string(), text));
        let mut located: Vec<Located> = findings
            .into_iter()
            .map(|finding| {
                let spans = finding.labels.iter().map(|label| match &label.place {
                    Place::Path(path, part) => span(path, *part),
                    Place::Bytes(bytes) => bytes.clone(),
                });
                Located { spans: spans.collect(), finding, source: Arc::clone(&source) }
            })
            .collect();
        located.sort_by_key(|one| one.spans.first().map(|span| span.start));
        Findings { path: path.to_owned(), source, located }
    }

    /// Whether the file is refused.
    pub fn has_errors(&self) -> bool {
        self.errors() > 0
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.located.is_empty()
    }

    /// How many errors there are, warnings left out.
    pub fn errors(&self) -> usize {
        self.located.iter().filter(|one| one.finding.severity == Severity::Error).count()
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Each finding with its lines and the offending text underlined, as `handler` draws them.
    pub fn render(&self, handler: &GraphicalReportHandler) -> String {
        let mut out = String::new();
        for one in self.located.iter().take(SHOWN) {
            // Writing to a string cannot fail.
            let _ = handler.render_report(&mut out, one);
            out.push('\n');
        }
        if let Some(more) = self.located.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            out.push_str(&format!("… and {more} more in {}\n\n", self.path.display()));
        }
        out
    }

    /// Without colours, for a fixed width: the same on every machine.
    pub fn plain(&self) -> String {
        let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor());
        self.render(&handler.with_width(100))
    }

    /// For programs.
    pub fn json(&self) -> Vec<JsonFinding<'_>> {
        self.located.iter().map(|one| one.json(&self.path, self.source.inner())).collect()
    }

    /// The findings as diagnostics.
    pub fn diagnostics(&self) -> impl Iterator<Item = &dyn Diagnostic> {
        self.located.iter().map(|one| one as &dyn Diagnostic)
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors = self.errors();
        write!(f, "{errors} error{} in {}", if errors == 1 { "" } else { "s" }, self.path.display())
    }
}

impl Located {
    fn json<'a>(&'a self, path: &Path, text: &'a str) -> JsonFinding<'a> {
        let places = self.spans.iter().zip(&self.finding.labels).map(|(span, label)| {
            let (line, column) = position(text, span.start);
            JsonPlace { line, column, text: text.get(span.clone()).unwrap_or_default(), label: &label.text }
        });
        JsonFinding {
            file: path.display().to_string(),
            rule: self.finding.rule,
            severity: self.finding.severity,
            message: &self.finding.message,
            help: &self.finding.help,
            places: places.collect(),
        }
    }
}

/// Line and column of a byte, both from one; the column counts characters.
pub fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

impl fmt::Display for Located {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.finding.message)
    }
}

impl std::error::Error for Located {}

impl Diagnostic for Located {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.finding.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        if self.finding.help.is_empty() { None } else { Some(Box::new(&self.finding.help)) }
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&*self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let labels = self.spans.iter().zip(&self.finding.labels).enumerate();
        Some(Box::new(labels.map(|(index, (span, label))| {
            let text = Some(label.text.clone());
            match index {
                0 => LabeledSpan::new_primary_with_span(text, span.clone()),
                _ => LabeledSpan::new_with_span(text, span.clone()),
            }
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters() {
        let text = "ä = 1\nnäme = 2\n";
        assert_eq!(position(text, 0), (1, 1));
        assert_eq!(position(text, text.find("= 2").unwrap()), (2, 6));
        assert_eq!(position(text, text.len()), (3, 1));
    }
}
