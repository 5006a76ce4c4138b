//! An address that a DHCP server lends: found on one of the links, checked against the cluster, set, and written down
//! for the service that renews it.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bootwright_model::baked::ClusterLayer;
use bootwright_model::families::PerFamily;
use bootwright_model::layout;
use ipnet::IpNet;

use super::Addressed;
use crate::identity::Identity;
use crate::network::arp;
use crate::network::dhcp::acquire::{Card, Lent};
use crate::network::dhcp::apply::{self, ApplyError, Place};
use crate::network::dhcp::held::Held;
use crate::network::dhcp::lease::Lease;
use crate::network::dhcp::rounds::Rounds;
use crate::network::dhcp::taken::{self, Taken};
use crate::network::dhcp::{self, NoLease};
use crate::network::links::follow::Kept;
use crate::network::links::{self, Before, Configured, LinkError};
use crate::report::{under, uptime_ms};
use crate::stages::{Advice, Problem, identity, problem};

/// Why there is no lent address.
#[derive(Debug, thiserror::Error)]
pub enum LentError {
    /// The links.
    #[error("the links cannot be set up")]
    Link(#[from] LinkError),
    /// Nobody lends one.
    #[error(transparent)]
    NoLease(#[from] NoLease),
    /// It is somebody else's in the cluster file.
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
            LentError::Taken(error) => error.advice(),
            LentError::Apply(error) => error.advice(),
            LentError::Write { .. } => "restart; /run must have room".to_owned(),
        }
    }
}

/// Gets a lease and applies it.
pub(super) fn configure(
    root: &Path,
    identity: &Identity,
    layer: &ClusterLayer,
) -> Result<Addressed, LentError> {
    let begin = Instant::now();
    let mut rounds = rounds(root, identity, layer);
    let lent = rounds.search::<LentError>(dhcp::PATIENCE, &[])?;
    install(root, identity, layer, &rounds, lent, begin)
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

/// Applies a lease that was found.
pub(super) fn install(
    root: &Path,
    identity: &Identity,
    layer: &ClusterLayer,
    rounds: &Rounds<'_>,
    lent: Lent,
    begin: Instant,
) -> Result<Addressed, LentError> {
    let Lent { card, lease, since_ms } = lent;
    taken::check(&lease, layer)?;
    let described = identity.links.first().cloned().unwrap_or_default();
    let most = layer.file.network.mtu.min(described.mtu.unwrap_or(u16::MAX));

    // It has it already if it was down: then only a lease that says less makes a driver begin anew.
    let mtu = lease.mtu.map_or(most, |mtu| mtu.min(most));
    let (mtu, kept) = links::set_mtu(card.index, &card.name, mtu, lease.mtu)?;
    // The same for a card that was up.
    let accepts = described.accept_ra.map(|accept| links::set_accept_ra(root, &card.name, accept));
    let others = rounds.known.iter().filter(|link| link.index != card.index && !link.up);
    // As they were: nothing is to be reached on a link that nobody speaks of.
    let down: Vec<LinkError> = others.filter_map(|link| links::set_down(link).err()).collect();
    let accepts = accepts.and_then(Result::err);
    let refused = rounds.refused.iter().chain(&kept).chain(&accepts).chain(&down);
    let mut problems: Vec<Problem> = refused.map(problem).collect();
    let place = Place { link: card.index, metric: described.metric };
    let held = Held { link: card.name.clone(), since_ms, lease, described };
    let refused = apply::apply(place, &held.lease, held.seconds_left(uptime_ms()))?;
    problems.extend(refused.iter().map(problem));
    // Without it neighbours ask again a little later.
    let _ = arp::announce(&[card.candidate(held.lease.address.addr())]);
    write(root, identity, layer, &held)?;
    Ok(addressed(card, mtu, &held.lease, begin.elapsed(), problems))
}

fn addressed(card: Card, mtu: u32, lease: &Lease, took: Duration, problems: Vec<Problem>) -> Addressed {
    let configured =
        Configured { mac: card.shown_mac(), link: card.name, mtu, online: Some(took), changes: 0, problems };
    Addressed {
        configured,
        kept: Kept { wanted: None },
        address: PerFamily::from(IpNet::V4(lease.address)),
        gateway: lease.gateway().map(|gateway| PerFamily::from(IpAddr::V4(gateway))),
        time_servers: lease.time_servers.iter().map(ToString::to_string).collect(),
        origin: format!(", lent by {} {}", lease.server, lease.time()),
    }
}

fn write(root: &Path, identity: &Identity, layer: &ClusterLayer, held: &Held) -> Result<(), LentError> {
    let failed = |path: &str| {
        let path = under(root, path);
        move |source| LentError::Write { path, source }
    };
    held.write(root).map_err(failed(layout::LEASE))?;
    apply::write_resolvers(root, held, &layer.file.network.resolvers).map_err(failed("/etc/resolv.conf"))?;
    let address = PerFamily::from(IpNet::V4(held.lease.address));
    let hosts = identity::hosts(&identity.name, Some(address), layer);
    crate::files::replace(&under(root, "/etc/hosts"), hosts.as_bytes(), 0o644).map_err(failed("/etc/hosts"))
}
