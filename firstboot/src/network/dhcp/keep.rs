//! `firstboot dhcp`: keeps the leases that PID 1 got (RFC 2131, section 4.4.5), and goes on asking where it got none. Each link
//! has a thread of its own, so that none waits for another's server.
//!
//! On a machine that asks for no lease it is not started. It may be started again at any time: what it needs is in
//! [`Kept`] and in the facts.

mod keeper;

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{Sender, channel};

use super::acquire::Card;
use super::apply::ApplyError;
use super::kept::Kept;
use crate::bootstrap::{self, BootstrapError};
use crate::network::links::LinkError;
use crate::network::netlink::Netlink;

pub use keeper::Keeper;

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

/// Runs as a program below `root` (`/` on a node), and ends only if it cannot go on.
pub fn main(root: &Path) -> ExitCode {
    let Err(error) = run(root);
    bootstrap::tell("dhcp", Err(error))
}

fn run(root: &Path) -> Result<Infallible, KeepError> {
    let facts = bootstrap::read_facts(root)?;
    let all = Kept::all(root).map_err(|error| KeepError::Lease(Some(error)))?;
    if all.is_empty() {
        return Err(KeepError::Lease(None));
    }
    let (sender, ended) = channel();
    for kept in all {
        let mut keeper = Keeper::of(root, &facts, kept);
        let end = End(sender.clone());
        std::thread::spawn(move || {
            let _end = end;
            keeper.keep()
        });
    }
    drop(sender);
    // For ever, unless one panics: the links are taken up again when the service is started again.
    let _ = ended.recv();
    Err(KeepError::Ended)
}

/// Says so when the thread that has it ends.
struct End(Sender<()>);

impl Drop for End {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

/// The link of this name as it is now.
pub(crate) fn card(name: &str) -> Result<Card, KeepError> {
    let links =
        Netlink::open().and_then(|mut netlink| netlink.links()).map_err(failed("links cannot be listed"))?;
    let link = links.into_iter().find(|link| link.name == name);
    link.and_then(|link| Card::of(&link)).ok_or_else(|| KeepError::Link(name.to_owned()))
}
