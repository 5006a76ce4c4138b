//! etcd: one member beside each API server.
//!
//! How a member comes into its cluster is decided on the machine, when it is seen what is on the disk and what the
//! other control planes say: `firstboot etcd` adds the flags of [`InitialCluster`].

use std::net::IpAddr;

use super::render::Arguments;
use super::version::Version;
use super::{Component, KubernetesError, NodeContext, gates, pki, url_host};

/// Where clients on the same machine reach a member.
pub const LOCAL_CLIENT_URL: &str = "https://127.0.0.1:2379";
/// Where a member keeps its data.
pub const DATA: &str = "/var/lib/etcd";
/// Health and metrics in clear, for the supervisor's probe.
const METRICS_URL: &str = "http://127.0.0.1:2381";

/// Where the other members reach one.
pub fn peer_url(address: IpAddr) -> String {
    format!("https://{}:{PEER_PORT}", url_host(address))
}

/// Where clients on other control planes reach a member, for changes of the membership.
pub fn client_url(address: IpAddr) -> String {
    format!("https://{}:2379", url_host(address))
}

/// Port of [`peer_url`]. A control plane without data answers here that it has none.
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
    let own = InitialCluster {
        // Of several, none begins a cluster because a flag says so: that is decided on the machine.
        state: if node.replicated() { "existing" } else { "new" },
        members: vec![(name.clone(), peer_url.clone())],
        // Tells clusters on one network apart. Clusters of the same name still cannot mix: peers must
        // show a certificate of their own etcd authority.
        token: format!("{cluster}-etcd"),
    };
    let remote = client_url(node.address());
    let [listen, advertise] = match node.replicated() {
        true => [format!("{LOCAL_CLIENT_URL},{remote}"), remote],
        false => [LOCAL_CLIENT_URL.to_owned(), LOCAL_CLIENT_URL.to_owned()],
    };
    let arguments = Arguments::new(version)
        .set("--name", name)
        .set("--data-dir", node.path(DATA))
        .set("--listen-client-urls", listen)
        .set("--advertise-client-urls", advertise)
        .set("--listen-peer-urls", &peer_url)
        .set("--initial-advertise-peer-urls", &peer_url)
        .append(own.arguments())
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

#[cfg(test)]
mod tests {
    use super::super::NodeFacts;
    use super::super::component;
    use super::super::tests::facts;
    use super::*;

    #[test]
    fn etcd_flags_change_their_names_with_3_6() {
        let has = |etcd: &str, flag: &str| {
            let rendered = component("etcd", &facts("1.34.0", "2.2.0", etcd)).unwrap();
            rendered.arguments.iter().any(|argument| argument.starts_with(flag))
        };
        assert!(has("3.5.9", "--experimental-initial-corrupt-check=true"));
        assert!(has("3.5.9", "--experimental-watch-progress-notify-interval="));
        assert!(!has("3.4.23", "--experimental-watch-progress-notify-interval="));
        assert!(!has("3.6.0", "--experimental-"));
        assert!(has("3.6.0", "--feature-gates=InitialCorruptCheck=true"));
        for version in ["3.4.23", "3.5.9", "3.6.0"] {
            assert!(!has(version, "--enable-v2"));
        }
    }

    #[test]
    fn of_several_control_planes_none_begins_a_cluster_by_its_flags() {
        let mut facts = facts("1.20.2", "1.6.20", "3.4.23");
        let flags = |facts: &NodeFacts| {
            let arguments = component("etcd", facts).unwrap().arguments;
            let about = |flag: &&String| flag.contains("-cluster") || flag.contains("client-urls");
            arguments.iter().filter(about).cloned().collect::<Vec<_>>().join("\n")
        };
        insta::assert_snapshot!(flags(&facts), @r"
        --listen-client-urls=https://127.0.0.1:2379
        --advertise-client-urls=https://127.0.0.1:2379
        --initial-cluster=cp1=https://10.20.0.10:2380
        --initial-cluster-state=new
        --initial-cluster-token=harbor-etcd
        ");
        let mut second = facts.layer.file.nodes[0].clone();
        second.name = "cp2".to_owned();
        second.address = "10.20.0.11/24".parse().unwrap();
        facts.layer.file.nodes.push(second);
        insta::assert_snapshot!(flags(&facts), @r"
        --listen-client-urls=https://127.0.0.1:2379,https://10.20.0.10:2379
        --advertise-client-urls=https://10.20.0.10:2379
        --initial-cluster=cp1=https://10.20.0.10:2380
        --initial-cluster-state=existing
        --initial-cluster-token=harbor-etcd
        ");
        // Its own member only, whatever others there are.
        let api_server = component("kube-apiserver", &facts).unwrap().arguments;
        assert!(api_server.contains(&"--etcd-servers=https://127.0.0.1:2379".to_owned()));
    }

    #[test]
    fn the_members_of_a_cluster_in_etcds_flags() {
        let member = |name: &str, address: &str| (name.to_owned(), peer_url(address.parse().unwrap()));
        let members = vec![member("cp1", "10.20.0.10"), member("cp2", "fd00::2")];
        let initial = InitialCluster { state: "existing", members, token: "harbor".to_owned() };
        insta::assert_snapshot!(initial.arguments().join("\n"), @r"
        --initial-cluster=cp1=https://10.20.0.10:2380,cp2=https://[fd00::2]:2380
        --initial-cluster-state=existing
        --initial-cluster-token=harbor
        ");
    }
}
