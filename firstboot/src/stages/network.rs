//! **network**: the node's address on its link.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bootwright_model::layout;
use bootwright_model::node::NodeFacts;

use super::identity::Known;
use super::{Advice, Done};
use crate::network::links::{self, LinkError, Wanted};
use crate::report::under;

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The link.
    #[error("the network of this node cannot be configured")]
    Link(#[from] LinkError),
    /// The facts for programs beside PID 1.
    #[error("{path}: cannot be written")]
    Facts {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Advice for NetworkError {
    fn advice(&self) -> String {
        match self {
            NetworkError::Link(error) => error.advice(),
            NetworkError::Facts { .. } => "restart; /run must have room".to_owned(),
        }
    }
}

/// Configures the link; all facts about the node are known then.
pub fn run(root: &Path, known: Known) -> Result<Done<NodeFacts>, NetworkError> {
    let Known { identity, layer, os } = known;
    let wanted = Wanted {
        mac: identity.mac,
        address: identity.address,
        gateway: identity.gateway,
        mtu: layer.file.network.mtu,
    };
    let configured = links::configure(&wanted)?;
    let facts = NodeFacts {
        name: identity.name,
        address: identity.address,
        gateway: identity.gateway,
        link: configured.link,
        pod_cidr: identity.pod_cidr,
        provider_id: identity.provider_id,
        layer,
        os,
    };
    write_facts(root, &facts)?;
    let gateway = facts.gateway.map_or("no gateway".to_owned(), |gateway| format!("gateway {gateway:#}"));
    let summary = format!(
        "{:#} on {} ({}, MTU {}), {gateway}",
        facts.address, facts.link, configured.mac, configured.mtu
    );
    Ok(Done { value: facts, summary, problems: configured.problems })
}

fn write_facts(root: &Path, facts: &NodeFacts) -> Result<(), NetworkError> {
    let path = under(root, layout::NODE_FACTS);
    let write = || {
        fs::create_dir_all(under(root, layout::RUN))?;
        crate::files::replace(&path, &serde_json::to_vec(facts)?, 0o600)
    };
    write().map_err(|source| NetworkError::Facts { path: path.clone(), source })
}
