//! **certificates**: the node's own certificates and kubeconfigs.

use std::path::Path;

use bootwright_model::node::NodeFacts;

use super::{Advice, Done};
use crate::certificates::{self, CertificatesError};

impl Advice for CertificatesError {
    fn advice(&self) -> String {
        // Its messages end with what to do.
        "put right what is named above".to_owned()
    }
}

/// Issues what is missing, about to expire, or does not fit.
pub fn run(root: &Path, facts: &NodeFacts) -> Result<Done<()>, CertificatesError> {
    certificates::issue(root, facts).map(|summary| Done::new((), summary))
}
