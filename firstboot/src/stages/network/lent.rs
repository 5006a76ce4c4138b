//! The node's address, if a DHCP server lends it: found on one of the links, checked against the cluster, set, and written
//! down for the service that renews it.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bootwright_model::baked::ClusterLayer;
use bootwright_model::families::PerFamily;
use bootwright_model::links::Link;
use ipnet::IpNet;

use super::{Addressed, NetworkError, leases, write_hosts};
use crate::identity::Identity;
use crate::network::dhcp::acquire::{Card, Lent};
use crate::network::dhcp::apply::ApplyError;
use crate::network::dhcp::kept::Kept;
use crate::network::dhcp::lease::Lease;
use crate::network::dhcp::rounds::Rounds;
use crate::network::dhcp::taken::{self, Taken};
use crate::network::dhcp::{self, NoLease};
use crate::network::links::{self, Before, Configured, LinkError, follow};
use crate::stages::{Advice, Problem, problem};

/// Why there is no lent address.
#[derive(Debug, thiserror::Error)]
pub enum LentError {
    /// The links.
    #[error("the links cannot be set up")]
    Link(#[from] LinkError),
    /// Nobody lends one.
    #[error(transparent)]
    NoLease(#[from] NoLease),
    /// Nobody can be asked.
    #[error("{0} has no carrier")]
    NoCarrier(Card),
    /// It is somebody else's in the cluster file, or another link's.
    #[error(transparent)]
    Taken(#[from] Taken),
    /// The kernel.
    #[error("the lease cannot be applied")]
    Apply(#[from] ApplyError),
    /// A file.
    #[error("{path}: cannot be written")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Advice for LentError {
    fn advice(&self) -> String {
        match self {
            LentError::Link(error) => error.advice(),
            LentError::NoLease(error) => error.advice(),
            LentError::NoCarrier(_) => "check the cable and the switch port".to_owned(),
            LentError::Taken(error) => error.advice(),
            LentError::Apply(error) => error.advice(),
            LentError::Write { .. } => "restart; /run must have room".to_owned(),
        }
    }
}

/// Gets a lease on a card that nobody describes by more than that it is there, and sets it.
pub(super) fn on_any_card(
    root: &Path,
    identity: &Identity,
    layer: &ClusterLayer,
) -> Result<Addressed, NetworkError> {
    let began = Instant::now();
    let mut rounds = rounds(root, identity, layer);
    let lent = rounds.search::<LentError>(dhcp::PATIENCE, &[])?;
    let addressed = install(root, identity, layer, &rounds, lent, began)?;
    write_hosts(root, &identity.name, addressed.address, layer)?;
    Ok(addressed)
}

/// What cards get before they are set up: a card may be described without an address, by what a lease leaves open.
pub(super) fn before(identity: &Identity, layer: &ClusterLayer) -> Before {
    let described = identity.links.first();
    let most = described.and_then(|card| card.mtu).unwrap_or(u16::MAX).min(layer.file.network.mtu);
    Before { mtu: Some(most), accept_ra: described.and_then(|card| card.accept_ra) }
}

/// The cards that may be asked on.
pub(super) fn rounds<'a>(root: &'a Path, identity: &'a Identity, layer: &ClusterLayer) -> Rounds<'a> {
    Rounds::new(root, identity.mac.as_deref(), before(identity, layer), &identity.name)
}

/// Sets a lease that was found.
pub(super) fn install(
    root: &Path,
    identity: &Identity,
    layer: &ClusterLayer,
    rounds: &Rounds<'_>,
    lent: Lent,
    began: Instant,
) -> Result<Addressed, LentError> {
    taken::check(&lent.lease, layer)?;
    let card = lent.card.clone();
    let Before { mtu, accept_ra } = before(identity, layer);
    // The same for a card that was up.
    let accepts = accept_ra.and_then(|accept| links::set_accept_ra(root, &card.name, accept).err());
    let others = rounds.known.iter().filter(|link| link.index != card.index && !link.up);
    // As they were: nothing is to be reached on a link that nobody speaks of.
    let down: Vec<LinkError> = others.filter_map(|link| links::set_down(link).err()).collect();
    let refused = rounds.refused.iter().chain(&accepts).chain(&down);
    let mut problems: Vec<Problem> = refused.map(problem).collect();
    let described = Link { mtu, ..identity.links.first().cloned().unwrap_or_default() };
    let mut kept = Kept {
        number: 0,
        own: true,
        link: card.name.clone(),
        described,
        described_to: Vec::new(),
        held: None,
    };
    let leases::Set { lease, mtu, problems: refused } = leases::set(root, &card, &mut kept, lent, layer)?;
    leases::write(root, &kept)?;
    problems.extend(refused);
    let configured = Configured {
        mac: card.shown_mac(),
        link: card.name,
        mtu: mtu.into(),
        online: Some(began.elapsed()),
        changes: 0,
        problems,
        asking: Vec::new(),
        asking_ipv6: Vec::new(),
    };
    let time_servers = lease.time_servers.iter().map(ToString::to_string).collect();
    Ok(addressed(configured, &lease, time_servers))
}

fn addressed(configured: Configured, lease: &Lease, time_servers: Vec<String>) -> Addressed {
    Addressed {
        configured,
        kept: follow::Kept { wanted: None },
        address: PerFamily::from(IpNet::V4(lease.address)),
        gateway: lease.gateway().map(|gateway| PerFamily::from(IpAddr::V4(gateway))),
        time_servers,
        origin: format!(", lent by {} {}", lease.server, lease.time()),
        further: Vec::new(),
    }
}
