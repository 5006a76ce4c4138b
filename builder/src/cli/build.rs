//! `bootwright build`

use std::path::PathBuf;

use clap::Args;

use super::Failure;
use super::output::cluster_failure;
use crate::compose::{self, ComposeError};
use crate::progress;

/// Compose the images of every role that the cluster file's nodes ask for.
#[derive(Debug, Clone, Args)]
pub struct BuildOptions {
    /// The cluster file.
    #[arg(short = 'f', long = "file", value_name = "FILE", default_value = "cluster.toml")]
    pub cluster_file: PathBuf,
    /// Folder that the images are written to; made if it does not exist.
    #[arg(short, long, value_name = "DIR", default_value = "out")]
    pub output: PathBuf,
    /// Take the newest inputs and write them to the lock, instead of those that the lock names.
    #[arg(long)]
    pub update: bool,
    /// Folder with the programs `firstboot`, `agent`, `pause` and `probe`; beside this program if absent.
    #[arg(long, value_name = "DIR", env = "BOOTWRIGHT_RUNTIME")]
    pub runtime: Option<PathBuf>,
    /// Folder with profiles that replace those of the same name.
    #[arg(long, value_name = "DIR")]
    pub profiles: Option<PathBuf>,
    /// Folder of the cache; $XDG_CACHE_HOME/bootwright or ~/.cache/bootwright if absent.
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Build time that goes into the image, seconds since the Unix epoch; the date of the package
    /// archive if absent.
    #[arg(long, value_name = "SECONDS", env = "SOURCE_DATE_EPOCH")]
    pub source_date_epoch: Option<u64>,
    /// Write progress as one JSON object per line to stdout.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn run(options: &BuildOptions, verbose: bool) -> Result<(), Failure> {
    let reporter = progress::choose(options.json, verbose);
    let built = compose::build(options, reporter.as_ref()).map_err(|error| match error {
        ComposeError::Cluster(error) => cluster_failure(error),
        ComposeError::Interrupted(error) => Failure::interrupted(error),
        error => Failure::other(error),
    })?;
    for image in &built.images {
        let keep = if image.private { "private: holds the cluster's keys" } else { "shareable" };
        eprintln!("{} ({keep})", image.image.display());
    }
    eprintln!("{} (administrator's access)", built.kubeconfig.display());
    Ok(())
}
