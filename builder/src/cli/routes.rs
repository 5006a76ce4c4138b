//! `bootwright routes`

use std::path::PathBuf;

use clap::Args;

use super::Failure;
use super::output::{cluster_failure, print, print_findings};
use crate::cluster;
use crate::routes::{Format, PodRoutes};

/// Show the routes to pods that routers and hosts outside the cluster must know.
#[derive(Debug, Clone, Args)]
pub struct RoutesOptions {
    /// The cluster file.
    #[arg(short = 'f', long = "file", value_name = "FILE", default_value = "cluster.toml")]
    cluster_file: PathBuf,
    /// Folder with profiles that replace those of the same name.
    #[arg(long, value_name = "DIR")]
    profiles: Option<PathBuf>,
    /// Who reads them.
    #[arg(long, value_enum, default_value_t = Format::Ip)]
    format: Format,
}

/// Runs the command.
pub fn run(options: &RoutesOptions) -> Result<(), Failure> {
    let loaded =
        cluster::load(&options.cluster_file, options.profiles.as_deref()).map_err(cluster_failure)?;
    print_findings(&loaded.warnings);
    print(PodRoutes::of(&loaded.file).text(options.format));
    Ok(())
}
