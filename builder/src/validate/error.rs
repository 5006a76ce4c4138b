//! Why a cluster could not be looked at.

use std::path::PathBuf;

/// What keeps a validation from being one; what is wrong with the cluster is a finding instead.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ValidateError {
    /// The kubeconfig is none that can be used.
    #[error("the kubeconfig {} {what}", path.display())]
    #[diagnostic(help(
        "name the kubeconfig of the cluster's administrator, which `bootwright build` leaves beside the images"
    ))]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The API server does not answer, or not to us.
    #[error("{server} does not let us look at the cluster: {why}")]
    #[diagnostic(help(
        "is a control plane up, and does the network lead there from this machine? `kubectl --kubeconfig … get nodes` \
         asks the same. The console of a node and its boot report say how far it is"
    ))]
    Api {
        /// As the kubeconfig says.
        server: String,
        /// What came back.
        why: String,
    },
    /// The person pressed Ctrl-C.
    #[error("interrupted; nothing is left in the cluster")]
    Interrupted,
    /// The same, and the cluster does not take back what it has.
    #[error("interrupted, and namespace {namespace} with its probes is left: {why}")]
    #[diagnostic(help("`kubectl delete namespace {namespace}` removes it"))]
    Left {
        /// Its name.
        namespace: String,
        /// What came back.
        why: String,
    },
}
