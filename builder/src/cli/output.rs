//! How results and errors are printed.

use std::io::Write;

use miette::GraphicalReportHandler;

use super::Failure;
use crate::cluster::text::render::Findings;
use crate::cluster::{ClusterError, Invalid};

/// Columns that diagnostics are wrapped to.
const WIDTH: usize = 100;

/// Prints a result to stdout. A reader that has seen enough (`| head`) is no error.
pub fn print(text: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    let _ = write!(out, "{text}").and_then(|()| out.flush());
}

/// Prints each finding with its lines; what is left to say comes last, where people look.
pub fn cluster_failure(error: ClusterError) -> Failure {
    match error {
        ClusterError::Invalid(invalid) => {
            for findings in &invalid.0 {
                print_findings(findings);
            }
            eprintln!("{}", summary(&invalid));
            Failure::silent_input()
        }
        other => Failure::input(other),
    }
}

/// Prints the findings of one file to stderr.
pub fn print_findings(findings: &Findings) {
    eprint!("{}", findings.render(&GraphicalReportHandler::new().with_width(WIDTH)));
}

fn summary(invalid: &Invalid) -> String {
    let path = invalid.0.first().map(Findings::path);
    let path = path.map(|path| path.display().to_string()).unwrap_or_default();
    let errors: usize = invalid.0.iter().map(Findings::errors).sum();
    let them = if errors == 1 { "it" } else { "them" };
    format!("{invalid}. Correct {them}, then ask again with `bootwright check -f {path}`.")
}
