//! What `bootwright validate` asks of its probes and what they answer: JSON over HTTP, by way of the API server.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// Reference of the probe's image, which every OS layer has.
pub const PROBE_IMAGE: &str = "bootwright.local/probe:1";
/// Path that a list of [`Check`]s is posted to, with the probe's token as its last part; the answer is the list of their
/// [`Outcome`]s.
pub const CHECKS_PATH: &str = "/checks/";
/// Environment variable with the token that checks are asked for with: who does not know it cannot have a probe connect
/// to what only its node may reach. A probe without one takes no checks.
pub const TOKEN_VARIABLE: &str = "BOOTWRIGHT_PROBE_TOKEN";
/// Port of a probe in a node's own network; beside those of Kubernetes' programs, below those of NodePort Services.
pub const NODE_PORT: u16 = 10_298;
/// Port of each node that leads to the probe in its pod.
pub const HOST_PORT: u16 = 10_299;
/// Most checks that one request may ask for. At [`CHECK_SECONDS`] each, and many at once, the answer comes before the
/// API server gives up on its own request, after a minute.
pub const MOST_CHECKS: usize = 64;
/// How long a check may take, seconds.
pub const CHECK_SECONDS: u64 = 5;

/// Something that a probe tries from where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", tag = "check")]
pub enum Check {
    /// `GET path` over HTTP without TLS.
    Http {
        /// Whom to ask.
        to: SocketAddr,
        /// What to ask for: `/`.
        path: String,
    },
    /// A UDP datagram that must not be fragmented, to another probe, which sends it back as it is.
    Datagram {
        /// Where the other probe listens.
        to: SocketAddr,
        /// Size of the IP packet, headers included, bytes.
        bytes: u16,
    },
    /// Addresses of a name, from the first resolver of `/etc/resolv.conf`.
    Resolve {
        /// A whole name: `kubernetes.default.svc.cluster.local`.
        name: String,
    },
    /// Bytes over TCP, and what is said to them.
    Exchange {
        /// With whom.
        to: SocketAddr,
        /// What to say.
        bytes: Vec<u8>,
    },
}

/// What came of a [`Check`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case", tag = "outcome")]
pub enum Outcome {
    /// An answer over HTTP.
    Http {
        /// The probe's own end of the connection.
        local: SocketAddr,
        /// Status, 200 for one.
        status: u16,
        /// The beginning of the body.
        body: String,
    },
    /// The datagram came back.
    Datagram,
    /// The name has these addresses.
    Resolved {
        /// Who said so.
        resolver: SocketAddr,
        /// At least one.
        addresses: Vec<IpAddr>,
    },
    /// What was said.
    Exchanged {
        /// All until a while of silence.
        bytes: Vec<u8>,
    },
    /// It did not work.
    Failed {
        /// Why, in words.
        why: String,
    },
}

/// What a probe says of itself and of its caller to `GET /`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Greeting {
    /// Its host name: the pod's, or the node's if it shares the node's network.
    pub host: String,
    /// Where the caller's connection comes from, as seen here.
    pub caller: SocketAddr,
    /// MTU of each link but loopback, bytes.
    pub links: BTreeMap<String, u32>,
}
