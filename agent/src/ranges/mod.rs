//! Gives a pod CIDR to each Node that asks for one: machines that nobody described (`admit-unknown-workers`).
//!
//! Not the controller manager's allocator, which cannot share a range with a cluster file: see
//! `model/src/kubernetes/controller_manager.rs`.
//!
//! All control planes' agents watch, and one gives: the one that gets the Lease `bootwright-pod-cidrs` for as long as that
//! takes. Ranges are never given twice, although an agent may stand still between any two of its steps:
//!
//! 1. It makes the Lease its own, and lists all Nodes after that. What others gave before is in the list, but for one
//!    call that may still be under way.
//! 2. Before each gift it writes into the Lease what it is about to give. That fails if another has taken the Lease, and
//!    if it does not, the other reads it there and gives that range to nobody else.
//! 3. It sets the range on the Node in the version that it has read, so that a Node that was given one meanwhile keeps it.
//!
//! [`plan`] decides and does no I/O.

pub mod plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bootwright_model::agent::{GIVING_POD_CIDR, POD_CIDR_LEASE};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::api::objects::Node;
use crate::api::{Change, watch};
use crate::election::lease::{Lease, LeaseError};
use crate::election::{Election, Step};
use plan::{Claim, Gift, Plan, Pools};

/// Time that the Lease is good for after a write: longer than it takes to list 5,000 Nodes.
const LEASE: Duration = Duration::from_secs(30);
/// Between rounds while somebody waits: first and largest, doubling in between while nobody can be served.
const AGAIN: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(60)];
/// Without anybody who waits.
const IDLE: Duration = Duration::from_secs(600);
/// For one round: thousands of Nodes may be new at once.
const ROUND: Duration = Duration::from_secs(300);
/// Nodes in one answer.
const PAGE: u32 = 200;
/// Answers that a list may have.
const MOST_PAGES: usize = 1000;
/// How often a Node is read again that was changed meanwhile: its kubelet writes its status all the time.
const TRIES: usize = 5;

/// Why nobody was served.
#[derive(Debug, thiserror::Error)]
enum RangesError {
    #[error(transparent)]
    Lease(#[from] LeaseError),
    #[error("the Nodes cannot be listed")]
    List(#[source] kube::Error),
    #[error("the list of Nodes does not end")]
    Endless,
    #[error("the pod CIDR of node {node} cannot be set")]
    Set { node: String, source: kube::Error },
    #[error("no answer from the API server within {} s", ROUND.as_secs())]
    Late,
}

/// How a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Everybody was looked at, and so many were served.
    Served(usize),
    /// Another has the Lease.
    Another,
    /// There is no Lease yet.
    Unmade,
}

/// Gives for ever. `node` is this node's name, which stands in the Lease.
pub async fn run(client: Client, node: String, pools: Pools) {
    let waiting = Arc::new(Mutex::new(BTreeSet::new()));
    let news = Arc::new(Notify::new());
    let follow = follow(client.clone(), Arc::clone(&waiting), Arc::clone(&news));
    let giver = Giver {
        lease: Lease::new(client.clone(), POD_CIDR_LEASE, &node, LEASE),
        election: Election::new(&node, LEASE),
        nodes: Api::all(client),
        pools,
        said: BTreeSet::new(),
    };
    tokio::join!(follow, give(giver, waiting, news));
}

/// Keeps the names of those that wait for a range.
async fn follow(client: Client, waiting: Arc<Mutex<BTreeSet<String>>>, news: Arc<Notify>) {
    let keep = |node| {
        let claim = Claim::of(&node);
        (claim.waits(), claim.name)
    };
    watch("nodes that ask for a pod CIDR", Api::<Node>::all(client), None, keep, |change| {
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let before = waiting.clone();
        match change {
            Change::All(all) => {
                *waiting = all.into_iter().filter(|(waits, _)| *waits).map(|(_, name)| name).collect();
            }
            Change::Set((true, name)) => drop(waiting.insert(name)),
            Change::Set((false, name)) | Change::Gone((_, name)) => drop(waiting.remove(&name)),
        }
        if !waiting.is_subset(&before) {
            news.notify_one();
        }
    })
    .await;
}

async fn give(mut giver: Giver, waiting: Arc<Mutex<BTreeSet<String>>>, news: Arc<Notify>) {
    // First rounds without anybody who waits: a Lease that is not there takes its time to be made.
    let (mut prepared, mut pause) = (false, AGAIN[0]);
    loop {
        let somebody = !waiting.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        if somebody || !prepared {
            let ended = match timeout(ROUND, giver.round()).await {
                Ok(ended) => ended,
                Err(_) => Err(RangesError::Late),
            };
            prepared |= matches!(ended, Ok(Ended::Served(_) | Ended::Another));
            pause = match ended {
                Ok(Ended::Served(1..) | Ended::Another | Ended::Unmade) => AGAIN[0],
                Ok(Ended::Served(0)) => (pause * 2).min(AGAIN[1]),
                Err(error) => {
                    giver.say(vec![crate::chain(&error)]);
                    (pause * 2).min(AGAIN[1])
                }
            };
        }
        let longest = if somebody || !prepared { pause } else { IDLE };
        if timeout(longest, news.notified()).await.is_ok() {
            pause = AGAIN[0];
        }
    }
}

/// What became of a gift.
enum Given {
    Yes,
    /// The Node does not wait any more.
    Gone,
    /// It changes faster than it is read. The next round finds it still waiting.
    Changing,
    /// Another has the Lease.
    Another,
}

struct Giver {
    lease: Lease,
    election: Election,
    nodes: Api<Node>,
    pools: Pools,
    /// What was said in the round before, and is not said again.
    said: BTreeSet<String>,
}

impl Giver {
    /// Serves everybody who waits, if the Lease can be had.
    async fn round(&mut self) -> Result<Ended, RangesError> {
        let record = self.lease.look().await?;
        match self.election.step(Instant::now(), record.as_ref()) {
            Step::Wait { holder: None } => return Ok(Ended::Unmade),
            Step::Wait { holder: Some(_) } => return Ok(Ended::Another),
            Step::Take => {}
        }
        if !self.lease.write().await? {
            return Ok(Ended::Another);
        }
        let ended = self.serve().await;
        // Also after an error: the next one reads what was begun. If this fails, the Lease runs out.
        let given_back = self.lease.give_back().await;
        let ended = ended?;
        given_back?;
        Ok(ended)
    }

    /// As the holder of the Lease.
    async fn serve(&mut self) -> Result<Ended, RangesError> {
        let claims = self.list().await?;
        // What is no gift was written by somebody else, who gives nothing.
        let giving: Option<Gift> = self.lease.note(GIVING_POD_CIDR).and_then(|text| text.parse().ok());
        let Plan { gifts, mut lines } = Plan::make(&self.pools, &claims, giving.as_ref());
        let mut served = 0;
        for (gift, version) in gifts {
            if giving.as_ref() != Some(&gift) {
                self.lease.set_note(GIVING_POD_CIDR, Some(gift.to_string()));
            }
            if !self.lease.write().await? {
                return Ok(Ended::Another);
            }
            match self.set(&gift, version).await? {
                Given::Yes => {
                    eprintln!("ranges: node {} is given {:#}", gift.node, gift.ranges);
                    served += 1;
                }
                Given::Gone => {
                    lines
                        .push(format!("node {} is gone or has got a pod CIDR from somebody else", gift.node));
                }
                Given::Changing => lines.push(format!(
                    "node {} changed {TRIES} times while it was to be given {:#}, and is tried again",
                    gift.node, gift.ranges
                )),
                Given::Another => return Ok(Ended::Another),
            }
        }
        self.say(lines);
        Ok(Ended::Served(served))
    }

    /// All Nodes as they are now: without a version in the call, the API server asks etcd.
    async fn list(&self) -> Result<Vec<Claim>, RangesError> {
        let (mut claims, mut parameters) = (Vec::new(), ListParams::default().limit(PAGE));
        for _ in 0..MOST_PAGES {
            let page = self.nodes.list(&parameters).await.map_err(RangesError::List)?;
            claims.extend(page.items.iter().map(Claim::of));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => parameters = ListParams::default().limit(PAGE).continue_token(&token),
                None => return Ok(claims),
            }
        }
        Err(RangesError::Endless)
    }

    /// Sets the range if the Node still waits for one.
    async fn set(&mut self, gift: &Gift, mut version: String) -> Result<Given, RangesError> {
        let failed = |source| RangesError::Set { node: gift.node.clone(), source };
        for _ in 0..TRIES {
            let patch = Patch::Merge(change(gift, &version));
            match self.nodes.patch(&gift.node, &PatchParams::default(), &patch).await {
                Ok(_) => return Ok(Given::Yes),
                Err(kube::Error::Api(status)) if status.code == 404 => return Ok(Given::Gone),
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(source) => return Err(failed(source)),
            }
            let node = self.nodes.get_opt(&gift.node).await.map_err(failed)?;
            match node.map(|node| Claim::of(&node)).filter(Claim::waits) {
                Some(claim) => version = claim.version,
                None => return Ok(Given::Gone),
            }
            // After the Node was read: the version is of a time when the Lease was still ours, or nothing is given. Another
            // may have given the range away since the gift was noted.
            if !self.lease.write().await? {
                return Ok(Given::Another);
            }
        }
        Ok(Given::Changing)
    }

    fn say(&mut self, lines: Vec<String>) {
        let lines: BTreeSet<String> = lines.into_iter().collect();
        for line in lines.difference(&self.said) {
            eprintln!("ranges: {line}");
        }
        self.said = lines;
    }
}

/// The change that a gift is; it counts for this version of the Node only.
fn change(gift: &Gift, version: &str) -> Value {
    let ranges: Vec<String> = gift.ranges.iter().map(|range| range.to_string()).collect();
    json!({
        "metadata": { "resourceVersion": version },
        "spec": { "podCIDR": ranges[0], "podCIDRs": ranges },
    })
}
