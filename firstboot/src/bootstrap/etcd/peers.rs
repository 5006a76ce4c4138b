//! What the other members say of themselves, each asked at its peer port.
//!
//! An etcd that runs tells its members there whether or not they have a majority, as a member that joins asks for them
//! in the same way (`/members`, etcd's `etcdserver/api/etcdhttp/peer.go`); its clients' port answers only when there
//! is a leader. A member without data answers in etcd's place: [`super::waiting`].

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bootwright_model::kubernetes::etcd::PEER_PORT;
use serde::Deserialize;

use super::at_once::at_once;
use super::waiting::{BEGINNER, NO_DATA, STATE};
use crate::report::chain;

/// Another member and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Node name.
    pub name: String,
    /// Node address.
    pub address: IpAddr,
    /// What it said.
    pub answer: Answer,
}

/// What a member says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It runs no etcd, as it has no data.
    NoData {
        /// The member that it expects to begin a cluster; none if it expects that there is one.
        beginner: Option<String>,
    },
    /// It is in a cluster.
    Cluster {
        /// The cluster's identity.
        id: u64,
        /// Its members, as this one knows them.
        members: Vec<Member>,
    },
    /// Nothing that could be understood, and why.
    Silent(String),
}

/// A member of a cluster; etcd's own JSON of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Member {
    /// Its identity.
    pub id: u64,
    /// Its name; empty until it has started for the first time.
    #[serde(default)]
    pub name: String,
    /// Its peer URLs.
    #[serde(default, rename = "peerURLs")]
    pub urls: Vec<String>,
    /// It has no vote yet.
    #[serde(default, rename = "isLearner")]
    pub learner: bool,
}

/// Holds the identity of the cluster, hexadecimal.
const CLUSTER_ID: &str = "X-Etcd-Cluster-ID";
/// One question, the handshake included, which takes long on an emulated processor.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// Asks all at once, and hears them for `patience` at most, or until `certain` of what those that have answered say.
/// Those that have not are silent.
pub fn ask(
    agent: &ureq::Agent,
    peers: &[(String, IpAddr)],
    patience: Duration,
    certain: impl Fn(&[Peer]) -> bool,
) -> Vec<Peer> {
    let silent = || Answer::Silent(format!("nothing within {} s", patience.as_secs()));
    let mut heard: Vec<Peer> = peers
        .iter()
        .map(|(name, address)| Peer { name: name.clone(), address: *address, answer: silent() })
        .collect();
    if certain(&heard) {
        return heard;
    }
    let addresses = peers.iter().map(|(_, address)| *address).collect();
    let agent = agent.clone();
    let work = move |address: &IpAddr| ask_one(&agent, *address);
    at_once(addresses, patience, work, |index, answer| {
        heard[index].answer = answer;
        !certain(&heard)
    });
    heard
}

fn ask_one(agent: &ureq::Agent, address: IpAddr) -> Answer {
    let url = format!("https://{}/members", SocketAddr::new(address, PEER_PORT));
    let mut response = match agent.get(&url).call() {
        Ok(response) => response,
        Err(error) => return Answer::Silent(why(&error)),
    };
    let header =
        |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    if header(STATE).as_deref() == Some(NO_DATA) {
        return Answer::NoData { beginner: header(BEGINNER) };
    }
    let id = header(CLUSTER_ID).and_then(|id| u64::from_str_radix(&id, 16).ok());
    let status = response.status();
    let body = response.body_mut().read_to_string().unwrap_or_default();
    match (id, serde_json::from_str(&body)) {
        (Some(id), Ok(members)) if status.is_success() => Answer::Cluster { id, members },
        _ => Answer::Silent(format!("it answers {status} in place of its members")),
    }
}

/// The last cause, which says most.
fn why(error: &ureq::Error) -> String {
    chain(error).pop().unwrap_or_default()
}
