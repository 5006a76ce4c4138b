//! Follows the Nodes and keeps the pod network in step with them: who joins, leaves, or changes its address or
//! pod CIDR.
//!
//! [`table`] makes peers of Nodes and of the cluster file, without I/O, and [`pods`] makes routes of them. Nothing is
//! touched before all Nodes were read once, nor because they cannot be read any more: what was known stays.

pub mod pods;
pub mod table;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use kube::{Api, Client};
use pod_network::Peer;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::api::objects::Node;
use crate::api::{Change, watch};
use table::Table;

/// Without a change for this long, what has changed is applied: a cluster that starts is one change, not hundreds.
const QUIET: Duration = Duration::from_millis(200);
/// But no later than this after the first change.
const LATEST: Duration = Duration::from_secs(1);
/// Also without a change, in case somebody else has taken routes away.
const AGAIN: Duration = Duration::from_secs(300);
/// After something could not be done; doubles up to [`AGAIN`].
const RETRY: Duration = Duration::from_secs(10);

/// What makes the way to the pods of other nodes.
pub trait Dataplane: Send + 'static {
    /// Makes what there is fit these peers, who are all there are but this node. Twice the same changes nothing.
    /// May block.
    fn reconcile(&mut self, peers: &[Peer]) -> Outcome;

    /// These are the pods' ranges of this node's own Node, none if it has none yet: a machine that nobody described learns
    /// them so.
    fn own_ranges(&mut self, ranges: &[IpNet]);
}

/// What a reconciliation came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What to say.
    pub lines: Vec<String>,
    /// Something has to be tried again.
    pub incomplete: bool,
}

/// Follows for ever, as the node `own`. `baked` are the peers of the cluster file.
pub async fn run(client: Client, own: String, baked: Vec<Peer>, dataplane: impl Dataplane) {
    let table = Arc::new(Mutex::new(Table::new(own, baked)));
    let news = Arc::new(Notify::new());
    let apply = apply(Arc::clone(&table), Arc::clone(&news), dataplane);
    let follow = watch(
        "nodes",
        Api::<Node>::all(client),
        None,
        |node| table::peer(&node),
        |change| {
            let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
            let changed = match change {
                Change::All(all) => table.set_all(all),
                Change::Set(peer) => table.set(peer),
                Change::Gone(peer) => table.remove(&peer.name),
            };
            if changed {
                news.notify_one();
            }
        },
    );
    tokio::join!(follow, apply);
}

async fn apply(table: Arc<Mutex<Table>>, news: Arc<Notify>, mut dataplane: impl Dataplane) {
    news.notified().await;
    let mut retry = RETRY;
    loop {
        settle(&news).await;
        let (own, peers) = {
            let table = table.lock().unwrap_or_else(PoisonError::into_inner);
            (table.own_ranges(), table.peers())
        };
        // Thousands of routes take long enough for a connection of the balancer to notice.
        let work = tokio::task::spawn_blocking(move || {
            dataplane.own_ranges(&own);
            let outcome = dataplane.reconcile(&peers);
            (dataplane, outcome)
        });
        // A panic is this task's too, which is started again.
        let outcome;
        (dataplane, outcome) = work.await.expect("the dataplane panicked");
        for line in &outcome.lines {
            eprintln!("peers: {line}");
        }
        let pause = if outcome.incomplete { retry } else { AGAIN };
        retry = if outcome.incomplete { (retry * 2).min(AGAIN) } else { RETRY };
        let _ = timeout(pause, news.notified()).await;
    }
}

/// Waits until nothing has changed for a little while.
async fn settle(news: &Notify) {
    let latest = Instant::now() + LATEST;
    loop {
        tokio::select! {
            () = news.notified() => {}
            () = sleep(QUIET) => return,
            () = sleep_until(latest) => return,
        }
    }
}
