//! kube-controller-manager. Flags only.

use super::kubelet::{EXTERNAL, VOLUME_PLUGINS};
use super::render::{Arguments, dual_stack};
use super::{Component, KubernetesError, NodeContext, election, gates, pki};

pub(super) fn render(node: &NodeContext) -> Result<Component, KubernetesError> {
    let kubeconfig = node.node_pki(&pki::kubeconfig(pki::CONTROLLER_MANAGER));
    let arguments = Arguments::new(node.version)
        .set("--bind-address", "127.0.0.1")
        .gated(&gates::CONTROLLER_MANAGER_PORT, 0)
        // Without a pair of files it makes an authority and a certificate with RSA keys at every start,
        // seconds of work for a slow processor.
        .set("--tls-cert-file", node.node_pki(&pki::certificate(pki::CONTROLLER_MANAGER_SERVER)))
        .set("--tls-private-key-file", node.node_pki(&pki::key(pki::CONTROLLER_MANAGER_SERVER)))
        .set("--kubeconfig", &kubeconfig)
        .set("--authentication-kubeconfig", &kubeconfig)
        .set("--authorization-kubeconfig", &kubeconfig)
        .set("--client-ca-file", node.cluster_pki(&pki::certificate(pki::CA)))
        .set("--requestheader-client-ca-file", node.cluster_pki(&pki::certificate(pki::FRONT_PROXY_CA)))
        .set("--root-ca-file", node.cluster_pki(&pki::certificate(pki::CA)))
        .set("--cluster-signing-cert-file", node.cluster_pki(&pki::certificate(pki::CA)))
        .set("--cluster-signing-key-file", node.cluster_pki(&pki::key(pki::CA)))
        .set("--service-account-private-key-file", node.cluster_pki(&pki::key(pki::SERVICE_ACCOUNT)))
        // The user of the kubeconfig may do nothing but make tokens for the controllers' accounts.
        .set("--use-service-account-credentials", true)
        .set("--controllers", "*,bootstrapsigner,tokencleaner")
        // Pod CIDRs are baked, as the CNI configuration is written before the API is up; first boot sets
        // them on the Node objects. A second allocator would hand out others: it knows ranges of Nodes alone, so that it
        // gives away those of machines that were not booted yet. And it ends with an error, at each start, if a Node has a
        // range that it would not have cut itself (NewCIDRRangeAllocator: "this error will keep crashing"). Machines that
        // nobody described are therefore given theirs by the agents (agent/src/ranges). Neither `--cluster-cidr`,
        // `--service-cluster-ip-range` nor `--node-cidr-mask-size-ipv4` and `-ipv6`: they are the allocator's.
        .set("--allocate-node-cidrs", false)
        .set("--cluster-name", &node.facts.layer.file.cluster.name)
        // Alone, too: without an election it gives up after ten seconds without an API, with one it waits. After a
        // restart `firstboot apply` takes the holder of the boot before out of the lease.
        .set("--leader-elect", true)
        // The default (20, 30) makes the start wait for its own throttle: every controller asks for an
        // account and a token.
        .set("--kube-api-qps", 100)
        .set("--kube-api-burst", 200)
        // The default lies in the read-only root, and the prober makes the folder.
        .set("--flex-volume-plugin-dir", node.path(VOLUME_PLUGINS))
        .set("--profiling", false);
    // Neither `--configure-cloud-routes`: without an allocator no version of it sets any, and the cloud controller
    // manager has flags of its own.
    let arguments = if node.facts.layer.file.cloud.is_external() {
        arguments.gated(&gates::CONTROLLER_MANAGER_CLOUD_PROVIDER, EXTERNAL)
    } else {
        arguments
    };
    Ok(dual_stack(election::times(arguments, node), node).with_files(Vec::new()))
}
