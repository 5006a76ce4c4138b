//! `bootwright build`

use std::path::PathBuf;

use clap::{Args, ValueEnum};

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
    /// Folder with the programs `firstboot` and `pause`; beside this program if absent.
    #[arg(long, value_name = "DIR", env = "BOOTWRIGHT_RUNTIME")]
    pub runtime: Option<PathBuf>,
    /// Folder with profiles that replace those of the same name.
    #[arg(long, value_name = "DIR")]
    pub profiles: Option<PathBuf>,
    /// Folder of the cache; $XDG_CACHE_HOME/bootwright or ~/.cache/bootwright if absent.
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// How hard to compress the root.
    #[arg(long, value_enum, default_value_t = Compression::Fast)]
    pub compression: Compression,
    /// Build time that goes into the image, seconds since the Unix epoch; the date of the package
    /// archive if absent.
    #[arg(long, value_name = "SECONDS", env = "SOURCE_DATE_EPOCH")]
    pub source_date_epoch: Option<u64>,
    /// Write progress as one JSON object per line to stdout.
    #[arg(long)]
    pub json: bool,
}

/// How hard to compress the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Compression {
    /// For building often.
    Fast,
    /// For shipping.
    Small,
}
