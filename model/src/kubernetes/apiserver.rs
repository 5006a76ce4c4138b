//! kube-apiserver. Flags only: it has no configuration file.

use super::render::{Arguments, dual_stack};
use super::{Component, KubernetesError, NodeContext, pki};

pub(super) fn render(node: &NodeContext) -> Result<Component, KubernetesError> {
    let cluster = &node.facts.layer.file.cluster;
    let arguments = Arguments::new(node.version)
        .set("--bind-address", node.any_address())
        .set("--secure-port", cluster.endpoint_port)
        .set("--advertise-address", node.address())
        .set("--service-cluster-ip-range", cluster.service_cidr)
        .set("--allow-privileged", true)
        .set("--authorization-mode", "Node,RBAC")
        .set("--enable-admission-plugins", "NodeRestriction")
        .set("--enable-bootstrap-token-auth", true)
        .set("--profiling", false);
    let arguments = dual_stack(files(node, arguments, &cluster.domain), node);
    // No `--cloud-provider`: with an external cloud no release wants it, and from 1.33 none knows it.
    // Neither `--insecure-port` nor `--kubelet-https`: 0 and true are the defaults wherever they exist.
    Ok(arguments.with_files(Vec::new()))
}

/// Certificates and keys, by whom the API server talks to.
fn files(node: &NodeContext, arguments: Arguments, domain: &str) -> Arguments {
    arguments
        .set("--client-ca-file", node.cluster_pki(&pki::certificate(pki::CA)))
        .set("--tls-cert-file", node.node_pki(&pki::certificate(pki::APISERVER)))
        .set("--tls-private-key-file", node.node_pki(&pki::key(pki::APISERVER)))
        .set("--etcd-servers", node.etcd_servers())
        .set("--etcd-cafile", node.cluster_pki(&pki::certificate(pki::ETCD_CA)))
        .set("--etcd-certfile", node.node_pki(&pki::certificate(pki::APISERVER_ETCD_CLIENT)))
        .set("--etcd-keyfile", node.node_pki(&pki::key(pki::APISERVER_ETCD_CLIENT)))
        .set("--kubelet-certificate-authority", node.cluster_pki(&pki::certificate(pki::CA)))
        .set("--kubelet-client-certificate", node.node_pki(&pki::certificate(pki::APISERVER_KUBELET_CLIENT)))
        .set("--kubelet-client-key", node.node_pki(&pki::key(pki::APISERVER_KUBELET_CLIENT)))
        // Host names of nodes are in nobody's DNS; the default asks for them first.
        .set("--kubelet-preferred-address-types", "InternalIP,Hostname")
        .set("--proxy-client-cert-file", node.node_pki(&pki::certificate(pki::FRONT_PROXY_CLIENT)))
        .set("--proxy-client-key-file", node.node_pki(&pki::key(pki::FRONT_PROXY_CLIENT)))
        .set("--requestheader-client-ca-file", node.cluster_pki(&pki::certificate(pki::FRONT_PROXY_CA)))
        .set("--requestheader-allowed-names", pki::FRONT_PROXY_CLIENT_USER)
        .set("--requestheader-username-headers", "X-Remote-User")
        .set("--requestheader-group-headers", "X-Remote-Group")
        .set("--requestheader-extra-headers-prefix", "X-Remote-Extra-")
        // All three are required from 1.20 on.
        .set("--service-account-issuer", format!("https://kubernetes.default.svc.{domain}"))
        .set("--service-account-key-file", node.cluster_pki(&format!("{}.pub", pki::SERVICE_ACCOUNT)))
        .set("--service-account-signing-key-file", node.cluster_pki(&pki::key(pki::SERVICE_ACCOUNT)))
}
