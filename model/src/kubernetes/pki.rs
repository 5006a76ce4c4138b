//! Names of certificates, keys and kubeconfigs, shared by the flags and by what issues them.
//!
//! A certificate `NAME` is the pair `NAME.crt` and `NAME.key` in [`crate::layout::NODE_PKI`]; an
//! authority is such a pair in [`crate::layout::CLUSTER_PKI`] of the cluster layer.

/// Signs everything that speaks to or for the API server.
pub const CA: &str = "ca";
/// Signs the client certificate that the API server shows to aggregated API servers.
pub const FRONT_PROXY_CA: &str = "front-proxy-ca";
/// Signs etcd's servers, peers and clients.
pub const ETCD_CA: &str = "etcd-ca";
/// Key pair that signs service-account tokens: `sa.pub`, `sa.key`.
pub const SERVICE_ACCOUNT: &str = "sa";
/// File with the bootstrap token, `[a-z0-9]{6}.[a-z0-9]{16}`.
pub const BOOTSTRAP_TOKEN: &str = "bootstrap-token";

/// The API server's serving certificate.
pub const APISERVER: &str = "apiserver";
/// The API server as a client of kubelets.
pub const APISERVER_KUBELET_CLIENT: &str = "apiserver-kubelet-client";
/// The API server as a client of etcd.
pub const APISERVER_ETCD_CLIENT: &str = "apiserver-etcd-client";
/// The API server as a client of aggregated API servers.
pub const FRONT_PROXY_CLIENT: &str = "front-proxy-client";
/// etcd towards its clients.
pub const ETCD_SERVER: &str = "etcd-server";
/// etcd towards its peers.
pub const ETCD_PEER: &str = "etcd-peer";
/// For a person who looks at etcd.
pub const ETCD_HEALTH_CLIENT: &str = "etcd-health-client";
/// The kubelet towards the API server.
pub const KUBELET_CLIENT: &str = "kubelet-client";
/// Certificate and key in one file of [`crate::layout::KUBELET_PKI`] that the kubelet of a node without
/// authorities keeps for itself; a link to the latest.
pub const KUBELET_CLIENT_CURRENT: &str = "kubelet-client-current.pem";
/// The kubeconfig, without a certificate, that such a kubelet asks for its first certificate with.
pub const KUBELET_BOOTSTRAP: &str = "kubelet-bootstrap";
/// The kubelet's serving certificate: logs, exec, metrics.
pub const KUBELET_SERVER: &str = "kubelet-server";
/// The controller manager towards the API server.
pub const CONTROLLER_MANAGER: &str = "controller-manager";
/// The controller manager's health and metrics.
pub const CONTROLLER_MANAGER_SERVER: &str = "controller-manager-server";
/// The scheduler towards the API server.
pub const SCHEDULER: &str = "scheduler";
/// The scheduler's health and metrics.
pub const SCHEDULER_SERVER: &str = "scheduler-server";
/// kube-proxy towards the API server.
pub const PROXY: &str = "proxy";
/// The agent towards the API server. On a control plane it has a certificate of its own, elsewhere the kubelet's.
pub const AGENT: &str = "agent";
/// The node's own administrator, for first boot's `apply`.
pub const ADMIN: &str = "admin";

/// User that the API server is to kubelets.
pub const APISERVER_KUBELET_CLIENT_USER: &str = "kube-apiserver-kubelet-client";
/// User that the API server is to aggregated API servers; the only one whose headers they trust.
pub const FRONT_PROXY_CLIENT_USER: &str = "front-proxy-client";

/// `NAME.crt`
pub fn certificate(name: &str) -> String {
    format!("{name}.crt")
}

/// `NAME.key`
pub fn key(name: &str) -> String {
    format!("{name}.key")
}

/// `NAME.conf`, a kubeconfig.
pub fn kubeconfig(name: &str) -> String {
    format!("{name}.conf")
}
