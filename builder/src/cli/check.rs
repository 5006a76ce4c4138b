//! `bootwright check`

use std::path::PathBuf;

use clap::Args;

use super::Failure;
use crate::cluster;

/// Check a cluster file: say everything that is wrong with it at once.
#[derive(Debug, Clone, Args)]
pub struct CheckOptions {
    /// The cluster file.
    #[arg(short = 'f', long = "file", value_name = "FILE", default_value = "cluster.toml")]
    cluster_file: PathBuf,
    /// Folder with profiles that replace those of the same name.
    #[arg(long, value_name = "DIR")]
    profiles: Option<PathBuf>,
}

/// Runs the command.
pub fn run(options: &CheckOptions) -> Result<(), Failure> {
    let loaded = cluster::load(&options.cluster_file, options.profiles.as_deref()).map_err(Failure::input)?;
    println!("{}: no error", loaded.path.display());
    Ok(())
}
