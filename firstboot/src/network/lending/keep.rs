//! A service that keeps addresses: each link has a thread of its own, so that none waits for another's server.

use std::convert::Infallible;
use std::io;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use crate::bootstrap::BootstrapError;
use crate::network::dhcp::apply::ApplyError;
use crate::network::links::LinkError;
use crate::report::{Consoles, chain};

/// Before what has failed on a link is tried again.
const PAUSE: Duration = Duration::from_secs(10);
/// How long one search lasts before it is told what was seen, and begins again.
const SEARCH: Duration = Duration::from_secs(300);
/// Between two searches: one on a card that is gone ends at once.
const BREATH: Duration = Duration::from_secs(1);

/// What ends the service; it is started again.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The facts.
    #[error(transparent)]
    Facts(#[from] BootstrapError),
    /// The leases.
    #[error("what first boot wrote of leases is missing or damaged; restart the machine")]
    Lease(#[source] Option<io::Error>),
    /// The link.
    #[error("there is no link {0} any more")]
    Link(String),
    /// The link, which is looked for by its description.
    #[error("the link cannot be asked on")]
    Missing(#[source] LinkError),
    /// A link's thread.
    #[error("a link is not kept any more; what it said is above")]
    Ended,
    /// The kernel.
    #[error("the lease cannot be applied")]
    Apply(#[from] ApplyError),
    /// The network lets less through than the link sends.
    #[error("the link does not take the MTU")]
    Mtu(#[from] LinkError),
    /// A socket, or a file.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
}

pub(crate) fn failed(what: &'static str) -> impl FnOnce(io::Error) -> KeepError {
    move |source| KeepError::Io { what, source }
}

/// Keeps what one link has.
pub trait Keep: Send + 'static {
    /// Waits until something is to be done, and does it.
    fn step(&mut self) -> Result<(), KeepError>;

    /// What the link is called, for a person.
    fn name(&self) -> &str;

    /// Whom it speaks to.
    fn teller(&self) -> &Teller;

    /// The link is looked for anew in the next step.
    fn forget_card(&mut self);
}

/// Keeps all links, for ever, unless one panics: they are taken up again when the service is started again.
pub fn keep_all<K: Keep>(keepers: Vec<K>) -> Result<Infallible, KeepError> {
    if keepers.is_empty() {
        return Err(KeepError::Lease(None));
    }
    let (sender, ended) = channel();
    for keeper in keepers {
        let end = End(sender.clone());
        std::thread::spawn(move || {
            let _end = end;
            keep(keeper)
        });
    }
    drop(sender);
    let _ = ended.recv();
    Err(KeepError::Ended)
}

/// For ever. What fails is told once, and tried again: other links have their own.
fn keep(mut keeper: impl Keep) {
    let mut told = String::new();
    loop {
        match keeper.step() {
            Ok(()) => told.clear(),
            Err(error) => {
                let why = chain(&error).join(": ");
                if told != why {
                    keeper.teller().tell(&format!("{}: {why}", keeper.name()));
                }
                told = why;
                keeper.forget_card();
                std::thread::sleep(PAUSE);
            }
        }
    }
}

/// Tries `once`, which has an end, until it finds something, however long it takes. `nothing`: what a person is told there is
/// meanwhile, `no lease`, with what was seen.
pub(crate) fn search<K: Keep, T>(
    keeper: &mut K,
    nothing: &str,
    once: impl Fn(&mut K, Instant) -> Result<T, String>,
) -> T {
    let begin = Instant::now();
    let mut last = String::new();
    loop {
        let end = Instant::now() + SEARCH;
        let seen = match once(keeper, end) {
            Ok(found) => return found,
            Err(seen) => seen,
        };
        // A card that is gone is gone a second later, too.
        if Instant::now() >= end || seen != last {
            keeper.teller().tell(&format!("{nothing} for {} s: {seen}", begin.elapsed().as_secs()));
        }
        last = seen;
        std::thread::sleep(BREATH);
    }
}

/// Says so when the thread that has it ends.
struct End(Sender<()>);

impl Drop for End {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

/// Whom a service speaks to about a link.
pub struct Teller {
    /// `dhcp`
    pub service: &'static str,
    /// The node is none without what the link has.
    pub own: bool,
    /// The machine's.
    pub consoles: Consoles,
}

impl Teller {
    /// In the service's log, and if the node is none without it on the consoles too.
    pub fn tell(&self, line: &str) {
        let line = format!("{}: {line}", self.service);
        eprintln!("{line}");
        if self.own {
            self.consoles.write(&line);
        }
    }
}
