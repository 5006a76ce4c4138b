//! `firstboot etcd`: the etcd of a machine finds its place, and starts.
//!
//! It is the service `etcd`, and becomes etcd itself at the end, so that the question is asked at every start:
//! [`data`] sees what is on the disk, [`peers`] what the other members say, [`decision`] is the table between
//! them. While it waits, [`waiting`] tells the others that there is no data here. A member without data is added as
//! a learner ([`members`]), and gets its vote from [`promote`] when it has caught up; the API server waits for that.

mod at_once;
mod data;
mod decision;
mod members;
mod peers;
pub mod promote;
mod tell;
mod waiting;

use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bootwright_model::cluster::InitialClusterState;
use bootwright_model::kubernetes::etcd::{self, InitialCluster};
use bootwright_model::kubernetes::{control_planes, etcd_members, pki, runs_etcd};
use bootwright_model::node::NodeFacts;

use super::api::agent;
use super::{ApiError, BootstrapError, read_facts};
use crate::certificates::Roots;
use data::Data;
use decision::{Decision, Situation};
use members::{Client, Told};
use peers::{Answer, Peer};
use tell::Teller;
use waiting::Waiting;

/// Between two rounds of questions: at first, and when it has taken long.
const ROUND: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];
/// Rounds after which it has taken long.
const ROUNDS_AT_FIRST: u32 = 60;
/// How long a member with data hears the others when none of them knows it. What they could say, that it was removed, they
/// would say to etcd as well, which ends then: it is only for plainer words that it is not started at once.
const PATIENCE_WITH_DATA: Duration = Duration::from_secs(4);

/// Why etcd does not start at all.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// Not called as the profile's service calls it.
    #[error(
        "firstboot etcd needs etcd's program and flags; give them in the profile's `command` and `component`"
    )]
    NoProgram,
    /// This machine, or its certificates.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// The state partition.
    #[error("cannot use etcd's data in {}; look at the state partition's disk", path.display())]
    Data {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// etcd itself.
    #[error("cannot run {program:?}")]
    Run {
        /// The program.
        program: OsString,
        /// Why.
        source: io::Error,
    },
}

/// Runs as a program below `root` (`/` on a node) with etcd's program and flags as arguments. Returns only if it
/// cannot begin.
pub fn main(root: &Path, arguments: &[OsString]) -> std::process::ExitCode {
    let Err(error) = run(root, arguments);
    super::tell("etcd", Err(error))
}

fn run(root: &Path, arguments: &[OsString]) -> Result<Infallible, EtcdError> {
    let (program, flags) = arguments.split_first().ok_or(EtcdError::NoProgram)?;
    let facts = read_facts(root)?;
    let folder = root.join(etcd::DATA.trim_start_matches('/'));
    let mut place = Place::new(Roots::below(root), &facts, folder)?;
    let mut teller = Teller::new(root, "etcd");
    let mut round = 0;
    let start = loop {
        match place.look()? {
            Step::Start(start) => break start,
            Step::Wait(reason) => teller.see(&format!("waits: {reason}")),
        }
        round += 1;
        std::thread::sleep(ROUND[usize::from(round > ROUNDS_AT_FIRST)]);
    };
    teller.say(&start.reason);
    drop(place);
    let source = Command::new(program).args(flags).args(&start.flags).exec();
    Err(EtcdError::Run { program: program.clone(), source })
}

/// What one look comes to.
#[derive(Debug)]
pub enum Step {
    /// etcd may start.
    Start(Start),
    /// Not yet, and why.
    Wait(String),
}

/// How etcd starts.
#[derive(Debug, PartialEq, Eq)]
pub struct Start {
    /// In plain words.
    pub reason: String,
    /// Flags that come after the usual ones, whose places they take.
    pub flags: Vec<String>,
}

/// A machine whose etcd does not run yet.
#[derive(Debug)]
pub struct Place {
    roots: Roots,
    agent: ureq::Agent,
    folder: PathBuf,
    node: String,
    cluster: String,
    address: IpAddr,
    beginner: Option<String>,
    others: Vec<(String, IpAddr)>,
    /// Control planes that run no etcd by the cluster file, and may by the one that they were built from.
    witnesses: Vec<(String, IpAddr)>,
    waiting: Option<Waiting>,
}

impl Place {
    /// `folder` is etcd's data folder.
    pub fn new(roots: Roots, facts: &NodeFacts, folder: PathBuf) -> Result<Place, BootstrapError> {
        let file = &facts.layer.file;
        let of = |node: &bootwright_model::cluster::Node| (node.name.clone(), node.address.addr());
        let all: Vec<(String, IpAddr)> = etcd_members(file).map(of).collect();
        let may_begin = file.cluster.initial_cluster_state == InitialClusterState::New;
        Ok(Place {
            agent: peer_agent(&roots)?,
            roots,
            folder,
            node: facts.name.clone(),
            cluster: file.cluster.name.clone(),
            address: facts.address.addr(),
            beginner: all.first().filter(|_| may_begin).map(|(name, _)| name.clone()),
            others: all.into_iter().filter(|(name, _)| *name != facts.name).collect(),
            witnesses: control_planes(file).filter(|node| !runs_etcd(&node.role, file)).map(of).collect(),
            waiting: None,
        })
    }

    /// Looks, asks and decides once, and makes this machine a member if there is a cluster to join.
    pub fn look(&mut self) -> Result<Step, EtcdError> {
        let data = data::look(&self.folder).map_err(|source| self.failed(source))?;
        // Said before anybody is asked: the others wait for the same.
        if let Some(step) = self.answer_others(&data) {
            return Ok(step);
        }
        let url = etcd::peer_url(self.address);
        let beginner = self.beginner.as_deref();
        let situation = Situation { node: &self.node, url: &url, data: &data, beginner, peers: &[] };
        let patience = if data == Data::None { peers::TIMEOUT } else { PATIENCE_WITH_DATA };
        let certain = |peers: &[Peer]| decision::is_certain(&Situation { peers, ..situation });
        let peers = peers::ask(&self.agent, &self.others, patience, certain);
        Ok(match decision::decide(&Situation { peers: &peers, ..situation }) {
            Decision::Wait(reason) => Step::Wait(reason),
            Decision::Restart(reason) => self.start(reason, Vec::new()),
            Decision::Begin(reason) => {
                // One that is silent does not count: a control plane without etcd has nobody at that port.
                let said = peers::ask(&self.agent, &self.witnesses, PATIENCE_WITH_DATA, |_| false);
                if let Some(reason) = decision::elsewhere(&said) {
                    return Ok(Step::Wait(reason));
                }
                self.clear()?;
                // Of a clock or a count two might come out the same; a cluster has its identity for ever.
                let token =
                    format!("{}-etcd-{}", self.cluster, random().map_err(|error| self.failed(error))?);
                let members = vec![(self.node.clone(), url)];
                self.start(reason, InitialCluster { state: "new", members, token }.arguments().into())
            }
            Decision::Join { reason, stale } => {
                self.clear()?;
                match self.join(&peers, &stale, &url) {
                    Ok(members) => {
                        let token = self.cluster.clone();
                        let initial = InitialCluster { state: "existing", members, token };
                        self.start(reason, initial.arguments().into())
                    }
                    Err(why) => Step::Wait(format!("{reason}, but {why}")),
                }
            }
        })
    }

    /// Answers at etcd's port as long as there is no data, and stops when there is.
    fn answer_others(&mut self, data: &Data) -> Option<Step> {
        if *data != Data::None || self.others.is_empty() {
            self.waiting = None;
        } else if self.waiting.is_none() {
            let address = SocketAddr::new(self.address, etcd::PEER_PORT);
            match Waiting::listen(&self.roots, address, self.beginner.as_deref()) {
                Ok(waiting) => self.waiting = Some(waiting),
                Err(error) => {
                    return Some(Step::Wait(format!(
                        "it cannot tell the others at {address} that it has no data: {error}"
                    )));
                }
            }
        }
        None
    }

    /// Makes room at the port for etcd.
    fn start(&mut self, reason: String, flags: Vec<String>) -> Step {
        self.waiting = None;
        Step::Start(Start { reason, flags })
    }

    /// Without a log there is nothing that anybody could miss.
    fn clear(&self) -> Result<(), EtcdError> {
        data::clear(&self.folder).map_err(|source| self.failed(source))
    }

    /// Removes what this machine was and adds it anew, by whichever member can; the names and peer URLs of all.
    /// Cut off in between it begins again: what was added is stale then.
    fn join(&self, peers: &[Peer], stale: &[u64], url: &str) -> Result<Vec<(String, String)>, String> {
        let mut failures = Vec::new();
        for peer in peers.iter().filter(|peer| matches!(peer.answer, Answer::Cluster { .. })) {
            let client = Client::new(&self.agent, etcd::client_url(peer.address));
            let removed = stale.iter().try_for_each(|member| client.remove(*member));
            match removed.and_then(|()| client.add_learner(url)) {
                Ok(members) => return Ok(initial(&members, &self.node, url)),
                Err(error) => failures.push(format!("{} says: {}", peer.name, words(&error))),
            }
        }
        Err(failures.join("; "))
    }

    fn failed(&self, source: io::Error) -> EtcdError {
        EtcdError::Data { path: self.folder.clone(), source }
    }
}

/// The members for `--initial-cluster`. One that has not started has no name yet, and any will do.
fn initial(members: &[Told], node: &str, url: &str) -> Vec<(String, String)> {
    let name = |member: &Told| match member.name.as_str() {
        _ if member.urls.iter().any(|one| one == url) => node.to_owned(),
        "" => member.id.clone(),
        name => name.to_owned(),
    };
    members.iter().flat_map(|member| member.urls.iter().map(|url| (name(member), url.clone()))).collect()
}

/// Why a change of the membership was not made, and what it means.
fn words(error: &ApiError) -> String {
    match error {
        ApiError::Refused { message, .. } if message.contains("too many learner") => {
            format!("{message}: another member joins; each comes after the other")
        }
        ApiError::Refused { message, .. } if message.contains("unhealthy cluster") => {
            format!(
                "{message}: it takes members when all that have a vote have been connected for five seconds; if one is \
                 gone for ever, remove it"
            )
        }
        ApiError::Refused { message, .. } => message.clone(),
        ApiError::Lacks { .. } => error.to_string(),
        other => format!(
            "{}; its cluster may have no majority: start the members that have data",
            crate::report::chain(other).join(": ")
        ),
    }
}

/// Calls etcd's peers and members as this member.
fn peer_agent(roots: &Roots) -> Result<ureq::Agent, ApiError> {
    let authority = roots.cluster_pki.join(pki::certificate(pki::ETCD_CA));
    let certificate = roots.node_pki.join(pki::certificate(pki::ETCD_PEER));
    let key = roots.node_pki.join(pki::key(pki::ETCD_PEER));
    agent(&authority, [&certificate, &key], peers::TIMEOUT)
}

/// 64 random bits, hexadecimal.
fn random() -> io::Result<String> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(format!("{:016x}", u64::from_le_bytes(bytes)))
}
