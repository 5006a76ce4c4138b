//! `bootwright validate`

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::Failure;
use super::output::{cluster_failure, print};
use crate::cluster;
use crate::progress::interrupt;
use crate::validate::{self, Expected, Options, ValidateError};

/// Check a running cluster: nodes, control plane, certificates, and what pods reach.
///
/// For the time that it takes, each Ready node runs two small pods of an image that every node has, in a namespace that
/// is removed at the end.
#[derive(Debug, Clone, Args)]
pub struct ValidateOptions {
    /// Kubeconfig of the cluster's administrator.
    #[arg(long, value_name = "FILE", env = "KUBECONFIG")]
    kubeconfig: PathBuf,
    /// The cluster file, to compare nodes, addresses and pod CIDRs with.
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    cluster_file: Option<PathBuf>,
    /// Folder with profiles that replace those of the same name.
    #[arg(long, value_name = "DIR")]
    profiles: Option<PathBuf>,
    /// How long the pods may take to be ready. What settles after that, such as Services, has a fifth of it.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// Write the findings as one JSON object to stdout.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(options: &ValidateOptions) -> Result<(), Failure> {
    let expected = match &options.cluster_file {
        None => None,
        Some(path) => {
            let loaded = cluster::load(path, options.profiles.as_deref()).map_err(cluster_failure)?;
            Some(Expected::of(&loaded.file))
        }
    };
    let report = validate::validate(&Options {
        kubeconfig: &options.kubeconfig,
        expected,
        patience: Duration::from_secs(options.timeout),
        say: &|words| eprintln!("==> {words}"),
    });
    let report = report.map_err(|error| match error {
        // What a build says would not fit: there is no cache to resume from.
        error @ (ValidateError::Interrupted | ValidateError::Left { .. }) => {
            Failure { code: interrupt::EXIT_CODE, ..Failure::other(error) }
        }
        error @ ValidateError::Kubeconfig { .. } => Failure::input(error),
        error @ ValidateError::Api { .. } => Failure::other(error),
    })?;
    if options.json {
        let json = serde_json::to_string_pretty(&report).expect("a report is strings");
        print(json + "\n");
    } else {
        print(report.text());
    }
    if report.ok { Ok(()) } else { Err(Failure::silent()) }
}
