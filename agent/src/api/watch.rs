//! Following objects: list, then watch, for as long as the program runs.

use std::fmt::Debug;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

/// Objects in one answer of a list: a Node may be 15 KB of JSON, and an answer is in memory as a whole.
const PAGE: u32 = 200;

/// Longest time until the API is asked again. While a machine boots its API
/// server is long not there, and the first certificates wait for this.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// kube's pauses, none longer than [`LONGEST_PAUSE`].
struct Pauses(watcher::DefaultBackoff);

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0.next().map(|pause| pause.min(LONGEST_PAUSE))
    }
}

impl Backoff for Pauses {
    fn reset(&mut self) {
        self.0.reset();
    }
}

/// What happened to the objects that are followed.
#[derive(Debug)]
pub enum Change<K> {
    /// These are all there are.
    All(Vec<K>),
    /// One is there or changed.
    Set(K),
    /// One is gone.
    Gone(K),
}

/// Tells `changed` of every change, for ever. `what` names the objects in the line that is logged when the API
/// turns unreadable and when it can be read again; in between nothing is called, so that what was known stays.
///
/// `keep` makes of an object what is kept of it while the list is not complete yet.
pub async fn watch<K, T>(
    what: &str,
    api: Api<K>,
    fields: Option<&str>,
    keep: impl Fn(K) -> T,
    mut changed: impl FnMut(Change<T>),
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    // List and watch: a list streamed by a watch needs Kubernetes 1.27 and a gate.
    let mut config = watcher::Config::default().page_size(PAGE);
    if let Some(fields) = fields {
        config = config.fields(fields);
    }
    let mut stream = pin!(watcher::watcher(api, config).backoff(Pauses(watcher::DefaultBackoff::default())));
    let mut listed = Vec::new();
    let mut readable = None;
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => {
                if readable != Some(true) && !matches!(event, Event::Init) {
                    eprintln!("api: {what} can be read");
                    readable = Some(true);
                }
                match event {
                    Event::Init => listed = Vec::new(),
                    Event::InitApply(object) => listed.push(keep(object)),
                    Event::InitDone => changed(Change::All(std::mem::take(&mut listed))),
                    Event::Apply(object) => changed(Change::Set(keep(object))),
                    Event::Delete(object) => changed(Change::Gone(keep(object))),
                }
            }
            Err(error) => {
                // A watch that ends, even by an error, is common and followed by a list; one that cannot begin
                // is what somebody has to know.
                let unreadable = matches!(
                    error,
                    watcher::Error::InitialListFailed(_) | watcher::Error::WatchStartFailed(_)
                );
                if unreadable && readable != Some(false) {
                    eprintln!("api: {what} cannot be read, what is known stays: {}", crate::chain(&error));
                    readable = Some(false);
                }
            }
        }
    }
}
