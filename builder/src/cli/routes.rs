//! `bootwright routes`

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;

use super::Failure;
use super::output::{cluster_failure, print, print_findings};
use crate::cluster;
use crate::routes::{Format, PodRoutes};

/// Show what routers and hosts outside the cluster must know to reach pods: routes, or sessions by which to learn them.
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
    /// With mode "bgp": the sessions of this router of the cluster file only.
    #[arg(long, value_name = "ADDRESS")]
    router: Option<IpAddr>,
}

/// No such router.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("the cluster file has no router {router} that nodes speak BGP to")]
#[diagnostic(help("name the address of a [[network.bgp.router]], with network.mode = \"bgp\""))]
struct NoRouter {
    router: IpAddr,
}

/// Runs the command.
pub fn run(options: &RoutesOptions) -> Result<(), Failure> {
    let loaded =
        cluster::load(&options.cluster_file, options.profiles.as_deref()).map_err(cluster_failure)?;
    print_findings(&loaded.warnings);
    let mut routes = PodRoutes::of(&loaded.file);
    if let Some(router) = options.router.filter(|router| !routes.keep_router(*router)) {
        return Err(Failure::input(NoRouter { router }));
    }
    print(routes.text(options.format));
    Ok(())
}
