//! `bootwright reference`

use bootwright_model::cluster::ClusterFile;
use bootwright_model::profile::Profile;
use clap::{Args, ValueEnum};

use super::output::print;
use crate::cluster::text::reference::reference;

/// Explain every key of the cluster file, or of a profile, with its default.
#[derive(Debug, Clone, Args)]
pub struct ReferenceOptions {
    /// Which file.
    #[arg(value_enum, default_value_t = Subject::ClusterFile)]
    subject: Subject,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Subject {
    /// The cluster file.
    ClusterFile,
    /// A role's profile.
    Profile,
}

/// Runs the command.
pub fn run(options: &ReferenceOptions) {
    match options.subject {
        Subject::ClusterFile => print(format_args!("# Cluster file\n{}", reference::<ClusterFile>())),
        Subject::Profile => print(format_args!("# Profile\n\n{}", reference::<Profile>())),
    }
}
