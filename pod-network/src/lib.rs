//! Routes between the pods of different nodes, over netlink.
//!
//! [`Wanted`] is made from the peers and touches nothing; [`Present`] is what the kernel has; [`Difference`] says
//! what leads from one to the other, in which order; and [`PodNetwork::reconcile`] does it. Doing it again changes
//! nothing, so a program that follows the peers only has to call it with all of them, whenever one changes, and a
//! program that starts anew disturbs nothing.
//!
//! What is ours, and all that is ever changed or removed:
//!
//! - routes of the main table with the protocol [`ROUTE_PROTOCOL`];
//! - the VXLAN devices `vxlan-pods4` and `vxlan-pods6`, with their addresses, permanent neighbours and forwarding
//!   entries.
//!
//! [`announce`] and [`wire`] are shared by the programs that move addresses.

pub mod announce;
mod apply;
mod device;
mod difference;
mod entries;
mod mac;
mod offload;
mod peer;
mod present;
mod skipped;
mod wanted;
pub mod wire;

use std::io;

pub use apply::{Failure, Outcome};
pub use bootwright_model::families::Family;
pub use difference::Difference;
pub use entries::{Entry, Hop, Outlet, ROUTE_PROTOCOL};
pub use mac::Mac;
pub use peer::{Mode, Overlay, Own, Peer, Settings, baked_peers};
pub use present::Present;
pub use skipped::{Skipped, Why};
pub use wanted::{Device, Wanted};
pub use wire::WireError;

use wire::Socket;

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum PodsError {
    /// No socket.
    #[error("no netlink socket can be opened")]
    Open(#[source] io::Error),
    /// What the kernel has is not known.
    #[error("the kernel does not show {what}")]
    Show {
        /// `its routes`
        what: String,
        /// Why not.
        source: WireError,
    },
    /// The node's link.
    #[error("there is no link {link}, which carries the node's address")]
    NoLink {
        /// Its name.
        link: String,
    },
    /// Somebody else's link has the name of our device.
    #[error("the link {name} is a {kind}; the pod network needs this name for a VXLAN device")]
    NameTaken {
        /// The name.
        name: &'static str,
        /// What it is: `bridge`.
        kind: String,
    },
    /// A batch was cut off.
    #[error("the connection to the kernel broke while {what} were changed")]
    Cut {
        /// `routes`
        what: &'static str,
        /// Why.
        source: WireError,
    },
}

/// The pod network of a network namespace.
pub struct PodNetwork {
    socket: Socket,
}

impl PodNetwork {
    /// That of this thread's namespace.
    ///
    /// # Errors
    /// There is no socket, or it lacks an option that Linux has since 4.20.
    pub fn open() -> Result<PodNetwork, PodsError> {
        Ok(PodNetwork { socket: Socket::open().map_err(PodsError::Open)? })
    }

    /// What there is of ours. `link` carries the node's address.
    ///
    /// # Errors
    /// The kernel does not show it, or there is no such link.
    pub fn present(&mut self, link: &str) -> Result<Present, PodsError> {
        Present::read(&mut self.socket, link)
    }

    /// Makes what there is what is wanted, and says what that took. An entry that the kernel refuses is in the
    /// outcome, and keeps no other from being made.
    ///
    /// # Errors
    /// What there is is not known, and nothing was changed; or the socket broke.
    pub fn reconcile(&mut self, link: &str, wanted: &Wanted) -> Result<Outcome, PodsError> {
        let present = self.present(link)?;
        let difference = Difference::between(wanted, &present);
        apply::apply(&mut self.socket, &present, &difference)
    }
}
