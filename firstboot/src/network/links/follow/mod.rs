//! `firstboot links`: keeps the links as they are described while the machine runs.
//!
//! The stage **network** sets them up once, and leaves in [`Kept`] what it knew. This service hears what changes in the
//! kernel, and looks at everything with the same code when something has: a cable that comes late, a card that is
//! plugged in again, an address or a route that went with its link. What is there is not touched, and what nobody
//! described is not removed. It tells the neighbours where addresses are when a carrier comes back, and defends IPv4
//! addresses against other machines.
//!
//! A process of its own, so that nothing that comes by the network can take PID 1 down, and started again if it fails. A
//! lent address is kept by the services `dhcp` and `dhcp6`; here that of IPv4 is defended.

mod conflicts;
mod follower;
mod kept;
mod links;
mod look;
mod pace;

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use crate::bootstrap;
use crate::report::{Consoles, chain};
use crate::stages::modules::Hotplug;

pub use follower::Follower;
pub use kept::Kept;

/// What ends the service; it is started again.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// What the stage left.
    #[error("what first boot wrote about the links is missing or damaged; restart the machine")]
    Kept(#[source] io::Error),
    /// A socket.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
}

fn failed(what: &'static str) -> impl FnOnce(io::Error) -> FollowError {
    move |source| FollowError::Io { what, source }
}

/// Where lines go.
pub trait Teller {
    /// To the service's log.
    fn log(&mut self, line: &str);
    /// To the person at the machine.
    fn console(&mut self, line: &str);
}

struct Service {
    consoles: Consoles,
}

impl Teller for Service {
    fn log(&mut self, line: &str) {
        println!("{line}");
    }

    fn console(&mut self, line: &str) {
        self.consoles.write(&format!("links: {line}"));
    }
}

/// Runs as a program below `root` (`/` on a node), and ends only if it cannot go on.
pub fn main(root: &Path) -> ExitCode {
    let Err(error) = run(root);
    bootstrap::tell("links", Err(error))
}

fn run(root: &Path) -> Result<Infallible, FollowError> {
    let kept = Kept::read(root).map_err(FollowError::Kept)?;
    // A kernel that has no device events has no devices that come later.
    let hotplug =
        Hotplug::open(root).inspect_err(|error| eprintln!("links: {}", chain(error).join(": "))).ok();
    let mut follower = Follower::open(root, kept, hotplug, Service { consoles: Consoles::find(root) })?;
    loop {
        follower.step(None)?;
    }
}
