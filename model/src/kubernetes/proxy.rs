//! kube-proxy: `KubeProxyConfiguration` (`kubeproxy.config.k8s.io/v1alpha1`).

use serde_json::json;

use super::render::{Arguments, Document};
use super::{Component, KubernetesError, NodeContext, pki};

pub(super) fn render(node: &NodeContext) -> Result<Component, KubernetesError> {
    let config = node.etc("kube-proxy.json");
    let document = Document::new(node.version, "kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration")
        // Not what it serves on, in spite of the name, but which of its addresses is the node's. Told none, it
        // asks the API for the Node, and does not start until that answers; the newest releases ask anyway. There is
        // room for one: of the other family it takes any address of the machine.
        .set("bindAddress", node.address().to_string())
        .set("clientConnection", json!({ "kubeconfig": node.node_pki(&pki::kubeconfig(pki::PROXY)) }))
        // Tells pods' traffic from others': only the latter is masqueraded on its way to a Service.
        .set("clusterCIDR", node.facts.layer.file.cluster.pod_cidr.to_string())
        .dual_stack(node)
        .set("hostnameOverride", node.facts.name.as_str())
        .set("metricsBindAddress", "127.0.0.1:10249")
        // The mode that every supported release has: ipvs is on its way out, nftables came with 1.29.
        .set("mode", "iptables");
    // Only the configuration: flags beside `--config` are ignored by some releases.
    let arguments = Arguments::new(node.version).set("--config", &config);
    Ok(arguments.with_files(vec![document.file(config)]))
}
