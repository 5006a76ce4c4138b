//! `bootwright check`

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::Failure;
use super::output::{cluster_failure, print, print_findings};
use crate::cluster::text::render::{Findings, JsonFinding};
use crate::cluster::{self, ClusterError, Loaded};

/// Check a cluster file: say everything that is wrong with it at once.
#[derive(Debug, Clone, Args)]
pub struct CheckOptions {
    /// The cluster file.
    #[arg(short = 'f', long = "file", value_name = "FILE", default_value = "cluster.toml")]
    cluster_file: PathBuf,
    /// Folder with profiles that replace those of the same name.
    #[arg(long, value_name = "DIR")]
    profiles: Option<PathBuf>,
    /// Write the findings as one JSON object to stdout.
    #[arg(long)]
    json: bool,
}

/// What `--json` writes.
#[derive(Serialize)]
struct Report<'a> {
    file: String,
    ok: bool,
    findings: Vec<JsonFinding<'a>>,
    /// What the cluster will do without.
    notes: Vec<&'a str>,
}

/// Runs the command.
pub fn run(options: &CheckOptions) -> Result<(), Failure> {
    let result = cluster::load(&options.cluster_file, options.profiles.as_deref());
    match result {
        Ok(loaded) if options.json => {
            print_json(options, std::slice::from_ref(&loaded.warnings), Some(loaded.notes()));
        }
        Err(ClusterError::Invalid(invalid)) if options.json => {
            print_json(options, &invalid.0, None);
            return Err(Failure::silent_input());
        }
        Ok(loaded) => {
            print_findings(&loaded.warnings);
            print(summary(&loaded));
        }
        Err(error) => return Err(cluster_failure(error)),
    }
    Ok(())
}

/// `notes` of a file that was taken.
fn print_json(options: &CheckOptions, all: &[Findings], notes: Option<Vec<&str>>) {
    let report = Report {
        file: options.cluster_file.display().to_string(),
        ok: notes.is_some(),
        findings: all.iter().flat_map(Findings::json).collect(),
        notes: notes.unwrap_or_default(),
    };
    let json = serde_json::to_string_pretty(&report).expect("strings and numbers always serialise");
    print(json + "\n");
}

fn summary(loaded: &Loaded) -> String {
    let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let mut text = format!(
        "{}: cluster {} with {} and {}: no error\n",
        loaded.path.display(),
        loaded.file.cluster.name,
        count(loaded.file.nodes.len(), "node"),
        count(loaded.file.images.len(), "workload image"),
    );
    for note in loaded.notes() {
        text += &format!("note: {note}\n");
    }
    text
}
