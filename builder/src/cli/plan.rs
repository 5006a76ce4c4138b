//! `bootwright plan`

use std::path::PathBuf;

use clap::Args;

use super::Failure;
use super::output::{cluster_failure, print, print_findings};
use crate::cluster;
use crate::plan::{self, Given, Plan};
use crate::sources::Cache;

/// Show what would be built: inputs, sizes, digests, addresses. Fetches and writes nothing.
#[derive(Debug, Clone, Args)]
pub struct PlanOptions {
    /// The cluster file.
    #[arg(short = 'f', long = "file", value_name = "FILE", default_value = "cluster.toml")]
    cluster_file: PathBuf,
    /// Folder with profiles that replace those of the same name.
    #[arg(long, value_name = "DIR")]
    profiles: Option<PathBuf>,
    /// Folder of the cache; $XDG_CACHE_HOME/bootwright or ~/.cache/bootwright if absent.
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Folder with the programs `firstboot`, `agent`, `pause` and `probe`; beside this program if absent.
    #[arg(long, value_name = "DIR", env = "BOOTWRIGHT_RUNTIME")]
    runtime: Option<PathBuf>,
    /// Build time that would go into the image, seconds since the Unix epoch; the date of the package archive if
    /// absent.
    #[arg(long, value_name = "SECONDS", env = "SOURCE_DATE_EPOCH")]
    source_date_epoch: Option<u64>,
    /// Write the plan as one JSON object to stdout.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(options: &PlanOptions) -> Result<(), Failure> {
    let loaded =
        cluster::load(&options.cluster_file, options.profiles.as_deref()).map_err(cluster_failure)?;
    let cache = match &options.cache {
        Some(root) => root.clone(),
        None => Cache::default_root().map_err(wrapped)?,
    };
    let given = Given { runtime: options.runtime.as_deref(), epoch: options.source_date_epoch };
    let inputs = plan::look(&loaded, given, &Cache::look(&cache)).map_err(wrapped)?;
    // A checked file has the addresses that a plan names; the error is for completeness.
    let plan = Plan::of(&loaded, inputs).map_err(wrapped)?;
    if options.json {
        let json = serde_json::to_string_pretty(&plan).expect("a plan is strings and numbers");
        print(json + "\n");
    } else {
        print_findings(&loaded.warnings);
        print(plan);
    }
    Ok(())
}

fn wrapped(error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::other(miette::Report::msg(error))
}
