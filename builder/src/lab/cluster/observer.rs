//! Follows the Nodes of the cluster through its API, in a thread of its own: a request can hang for as long as a
//! machine is cut off.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::lab::Error;
use crate::lab::api::Api;
use crate::lab::readiness::{Readiness, readiness};

/// Pause before the API is asked again that did not answer.
const PAUSE: Duration = Duration::from_secs(1);
/// How long one watch lasts; the list before the next one puts right whatever was missed.
const WATCH: Duration = Duration::from_secs(60);

/// What the API said last.
#[derive(Debug, Default)]
struct Seen {
    nodes: BTreeMap<String, serde_json::Value>,
    error: Option<String>,
}

/// A thread that follows the Nodes; it ends after the request at hand when this is dropped.
pub struct Observer {
    seen: Arc<Mutex<Seen>>,
    ended: Arc<AtomicBool>,
}

impl Observer {
    /// Begins to follow.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(api: Api) -> Result<Observer, Error> {
        let (seen, ended) = (Arc::new(Mutex::new(Seen::default())), Arc::new(AtomicBool::new(false)));
        let observer = Observer { seen: seen.clone(), ended: ended.clone() };
        let follow = move || {
            while !ended.load(Ordering::Relaxed) {
                if let Err(error) = once(&api, &seen, &ended) {
                    lock(&seen).error = Some(error.to_string());
                    std::thread::sleep(PAUSE);
                }
            }
        };
        let thread = std::thread::Builder::new().name("observer".to_owned()).spawn(follow);
        thread.map(|_| observer).map_err(Error::file("make", "a thread"))
    }

    /// What a node's Node says of the boot `boot_id`; `None` if the API does not answer.
    pub fn readiness(&self, node: &str, boot_id: &str) -> Option<Readiness> {
        let seen = lock(&self.seen);
        if seen.error.is_some() {
            return None;
        }
        Some(seen.nodes.get(node).map_or(Readiness::Absent, |node| readiness(node, boot_id)))
    }

    /// Why the API does not answer.
    pub fn error(&self) -> Option<String> {
        lock(&self.seen).error.clone()
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    // Each change is whole, whatever panicked.
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lists the nodes and follows them until the watch ends.
fn once(api: &Api, seen: &Mutex<Seen>, ended: &AtomicBool) -> Result<(), Error> {
    let (nodes, version) = api.nodes()?;
    let named = |node: serde_json::Value| {
        node["metadata"]["name"].as_str().map(|name| (name.to_owned(), node.clone()))
    };
    *lock(seen) = Seen { nodes: nodes.into_iter().filter_map(named).collect(), error: None };
    api.watch_nodes(&version, WATCH, |deleted, node| {
        if let Some((name, node)) = named(node) {
            let nodes = &mut lock(seen).nodes;
            if deleted { drop(nodes.remove(&name)) } else { drop(nodes.insert(name, node)) }
        }
        !ended.load(Ordering::Relaxed)
    })
}
