//! kube-scheduler. Flags rather than its configuration file, whose version changes four times between
//! 1.20 and 1.25 while these flags stay.

use super::render::Arguments;
use super::{Component, KubernetesError, NodeContext, election, gates, pki};

pub(super) fn render(node: &NodeContext) -> Result<Component, KubernetesError> {
    let kubeconfig = node.node_pki(&pki::kubeconfig(pki::SCHEDULER));
    let arguments = Arguments::new(node.version)
        .set("--bind-address", "127.0.0.1")
        .gated(&gates::SCHEDULER_PORT, 0)
        // As with the controller manager: no RSA keys at every start.
        .set("--tls-cert-file", node.node_pki(&pki::certificate(pki::SCHEDULER_SERVER)))
        .set("--tls-private-key-file", node.node_pki(&pki::key(pki::SCHEDULER_SERVER)))
        .set("--kubeconfig", &kubeconfig)
        .set("--authentication-kubeconfig", &kubeconfig)
        .set("--authorization-kubeconfig", &kubeconfig)
        .set("--client-ca-file", node.cluster_pki(&pki::certificate(pki::CA)))
        .set("--requestheader-client-ca-file", node.cluster_pki(&pki::certificate(pki::FRONT_PROXY_CA)))
        // An election is for several; alone it only delays the start, by a lease's time after a power cut.
        .set("--leader-elect", node.replicated())
        .set("--profiling", false);
    let arguments = if node.replicated() { election::times(arguments, node) } else { arguments };
    Ok(arguments.with_files(Vec::new()))
}
