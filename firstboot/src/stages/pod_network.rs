//! **pod-network**: the network of this node's pods, and what of it is masqueraded.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bootwright_model::addresses::AddressError;
use bootwright_model::cluster::NetworkMode;
use bootwright_model::node::NodeFacts;

use super::{Advice, Done, problem};
use crate::network::cni;
use crate::network::masquerade::{self, MasqueradeError};
use crate::report::under;

/// Why pods would have no network.
#[derive(Debug, thiserror::Error)]
pub enum PodNetworkError {
    /// The pod CIDR.
    #[error("the pod CIDR has no address for the bridge")]
    Range(#[from] AddressError),
    /// The configuration.
    #[error("{path}: cannot be written")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The rules.
    #[error("pods would not reach anything outside of the cluster")]
    Masquerade(#[from] MasqueradeError),
}

impl Advice for PodNetworkError {
    fn advice(&self) -> String {
        match self {
            PodNetworkError::Range(_) => {
                "give the cluster a smaller node-cidr-bits in the cluster file and build again".to_owned()
            }
            PodNetworkError::Write { .. } => "restart; if it happens again, build the image again".to_owned(),
            PodNetworkError::Masquerade(error) => error.advice(),
        }
    }
}

/// Writes the CNI configuration and puts the rules in place. What fails is a problem, not an end: the
/// control plane runs without pods, and pods reach each other without the rules.
pub fn run(root: &Path, facts: &NodeFacts) -> Done<()> {
    if facts.layer.file.network.mode == NetworkMode::None {
        return Done::new((), "left to a network plugin (mode = \"none\")");
    }
    let configured = write_configuration(root, facts);
    let masqueraded = masquerade::apply(facts).map_err(PodNetworkError::from);
    let problems = [configured, masqueraded].into_iter().filter_map(Result::err);
    let problems = problems.map(|error| problem(&error)).collect();
    let summary =
        format!("pods in {}, MTU {}, masqueraded beyond the cluster", facts.pod_cidr, cni::pod_mtu(facts));
    Done { value: (), summary, problems }
}

fn write_configuration(root: &Path, facts: &NodeFacts) -> Result<(), PodNetworkError> {
    let path = under(root, cni::CONFLIST);
    let text = cni::conflist(facts)?;
    let write = || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::create_dir_all(under(root, cni::LEASES))?;
        crate::files::replace(&path, text.as_bytes(), 0o644)
    };
    write().map_err(|source| PodNetworkError::Write { path: path.clone(), source })
}
