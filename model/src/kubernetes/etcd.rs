//! etcd: one member beside each API server.

use super::render::Arguments;
use super::version::Version;
use super::{Component, KubernetesError, NodeContext, gates, pki, url_host};

/// Clients come from this machine only.
pub(super) const CLIENT_URL: &str = "https://127.0.0.1:2379";
/// Health and metrics in clear, for the supervisor's probe.
const METRICS_URL: &str = "http://127.0.0.1:2381";

pub(super) fn render(node: &NodeContext) -> Result<Component, KubernetesError> {
    let version = Version::etcd(&node.facts.os.etcd)?;
    let name = &node.facts.name;
    // The node's address although nobody calls yet: the URL is stored with the member's data, and a
    // second member could not reach a loopback address.
    let peer_url = format!("https://{}:2380", url_host(node.address()));
    let arguments = Arguments::new(version)
        .set("--name", name)
        .set("--data-dir", node.path("/var/lib/etcd"))
        .set("--listen-client-urls", CLIENT_URL)
        .set("--advertise-client-urls", CLIENT_URL)
        .set("--listen-peer-urls", &peer_url)
        .set("--initial-advertise-peer-urls", &peer_url)
        .set("--initial-cluster", format!("{name}={peer_url}"))
        .set("--initial-cluster-state", "new")
        // Tells clusters on one network apart. Clusters of the same name still cannot mix: peers must
        // show a certificate of their own etcd authority.
        .set("--initial-cluster-token", format!("{}-etcd", node.facts.layer.file.cluster.name))
        .set("--listen-metrics-urls", METRICS_URL)
        .set("--trusted-ca-file", node.cluster_pki(&pki::certificate(pki::ETCD_CA)))
        .set("--cert-file", node.node_pki(&pki::certificate(pki::ETCD_SERVER)))
        .set("--key-file", node.node_pki(&pki::key(pki::ETCD_SERVER)))
        .set("--client-cert-auth", true)
        .set("--peer-trusted-ca-file", node.cluster_pki(&pki::certificate(pki::ETCD_CA)))
        .set("--peer-cert-file", node.node_pki(&pki::certificate(pki::ETCD_PEER)))
        .set("--peer-key-file", node.node_pki(&pki::key(pki::ETCD_PEER)))
        .set("--peer-client-cert-auth", true)
        // Milliseconds. The defaults (100, 1000) take a disk that answers in 10 ms; one that stalls for
        // a second would make a member step down again and again.
        .set("--heartbeat-interval", 250)
        .set("--election-timeout", 2500)
        // Entries kept in memory before a snapshot; 100000 up to 3.5, which costs tens of megabytes.
        .set("--snapshot-count", 10_000)
        .set("--logger", "zap")
        .set("--log-level", "warn")
        .gated(&gates::ETCD_INITIAL_CORRUPT_CHECK, true)
        .gated(&gates::ETCD_FEATURE_GATES, "InitialCorruptCheck=true")
        .gated(&gates::ETCD_EXPERIMENTAL_WATCH_PROGRESS, "5s")
        .gated(&gates::ETCD_WATCH_PROGRESS, "5s");
    Ok(arguments.with_files(Vec::new()))
}
