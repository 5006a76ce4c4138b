//! etcd: one member beside each API server, or on machines of its own.
//!
//! How a member comes into its cluster is decided on the machine, when it is seen what is on the disk and what the
//! other members say: `firstboot etcd` adds the flags of [`InitialCluster`].

use std::net::IpAddr;

use super::render::Arguments;
use super::version::Version;
use super::{Component, KubernetesError, NodeContext, etcd_members, gates, has_etcd_machines, pki, url_host};

/// Where clients on the same machine reach a member.
pub const LOCAL_CLIENT_URL: &str = "https://127.0.0.1:2379";
/// Where a member keeps its data.
pub const DATA: &str = "/var/lib/etcd";
/// Health and metrics in clear, for the supervisor's probe.
const METRICS_URL: &str = "http://127.0.0.1:2381";
/// Its port.
const METRICS_PORT: u16 = 2381;

/// Where the other members reach one.
pub fn peer_url(address: IpAddr) -> String {
    format!("https://{}:{PEER_PORT}", url_host(address))
}

/// Where clients on other machines reach a member: other members, for changes of the membership, and the API servers of
/// control planes that have none.
pub fn client_url(address: IpAddr) -> String {
    format!("https://{}:2379", url_host(address))
}

/// Port of [`peer_url`]. A machine without data answers here that it has none.
pub const PEER_PORT: u16 = 2380;

/// What a member is told of its cluster when it has no data of its own; with data etcd ignores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitialCluster {
    /// `new` makes a cluster, `existing` joins one.
    pub state: &'static str,
    /// Name and peer URL of every member, this one's too.
    pub members: Vec<(String, String)>,
    /// Makes the identity of a new cluster, with the peer URLs.
    pub token: String,
}

impl InitialCluster {
    /// The flags, which take the place of earlier ones of the same name.
    pub fn arguments(&self) -> [String; 3] {
        let members: Vec<String> = self.members.iter().map(|(name, url)| format!("{name}={url}")).collect();
        [
            format!("--initial-cluster={}", members.join(",")),
            format!("--initial-cluster-state={}", self.state),
            format!("--initial-cluster-token={}", self.token),
        ]
    }
}

pub(super) fn render(node: &NodeContext) -> Result<Component, KubernetesError> {
    let version = Version::etcd(&node.facts.os.etcd)?;
    let name = &node.facts.name;
    let cluster = &node.facts.layer.file.cluster.name;
    // The node's address although nobody calls a lone member: the URL is stored with the member's data, and a
    // second member could not reach a loopback address.
    let peer_url = peer_url(node.address());
    let file = &node.facts.layer.file;
    let several = etcd_members(file).count() > 1;
    let own = InitialCluster {
        // Of several, none begins a cluster because a flag says so: that is decided on the machine.
        state: if several { "existing" } else { "new" },
        members: vec![(name.clone(), peer_url.clone())],
        // Tells clusters on one network apart. Clusters of the same name still cannot mix: peers must
        // show a certificate of their own etcd authority.
        token: format!("{cluster}-etcd"),
    };
    let remote = client_url(node.address());
    let [listen, advertise] = match several || has_etcd_machines(file) {
        true => [format!("{LOCAL_CLIENT_URL},{remote}"), remote],
        false => [LOCAL_CLIENT_URL.to_owned(), LOCAL_CLIENT_URL.to_owned()],
    };
    // A machine of its own has nobody beside etcd who could ask it; what is told is no secret.
    let metrics = match has_etcd_machines(file) {
        true => format!("{METRICS_URL},http://{}:{METRICS_PORT}", url_host(node.address())),
        false => METRICS_URL.to_owned(),
    };
    let arguments = Arguments::new(version)
        .set("--name", name)
        .set("--data-dir", node.path(DATA))
        .set("--listen-client-urls", listen)
        .set("--advertise-client-urls", advertise)
        .set("--listen-peer-urls", &peer_url)
        .set("--initial-advertise-peer-urls", &peer_url)
        .append(own.arguments())
        .set("--listen-metrics-urls", metrics)
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

#[cfg(test)]
mod tests;
