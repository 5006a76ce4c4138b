//! The node's address in a cluster with IPv6 where nobody gives it and no link is described: of what routers advertise or DHCPv6
//! servers lend, alone or beside an IPv4 lease.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use bootwright_model::baked::ClusterLayer;
use bootwright_model::families::{Family, PerFamily};
use bootwright_model::links::Link;
use ipnet::IpNet;

use super::lent::{self, LentError};
use super::{Addressed, NetworkError, leases_ipv6, mtu, write_hosts};
use crate::identity::Identity;
use crate::identity::checks::missing_families;
use crate::network::dhcp::PATIENCE;
use crate::network::dhcp::acquire::{Card, Lent};
use crate::network::dhcp6::cards::{Cards, Choice};
use crate::network::dhcp6::found::{Found, Wanted};
use crate::network::dhcp6::{NoAddress, kept};
use crate::network::links::follow::Kept;
use crate::network::links::{self, Configured, LinkError};
use crate::stages::{Advice, Problem, problem};

/// Why an address is missing.
#[derive(Debug, thiserror::Error)]
pub enum FoundError {
    /// The links.
    #[error("the links cannot be set up")]
    Link(#[from] LinkError),
    /// That of IPv6.
    #[error(transparent)]
    NoAddress(#[from] NoAddress),
    /// Nobody can be asked.
    #[error("{0} has no carrier")]
    NoCarrier(Card),
    /// That of IPv4.
    #[error(transparent)]
    Lent(#[from] LentError),
    /// Both.
    #[error("{ipv4}; and {ipv6}")]
    Neither {
        /// Why there is none of IPv4.
        ipv4: LentError,
        /// Why there is none of IPv6.
        ipv6: NoAddress,
    },
    /// It is somebody else's in the cluster file.
    #[error("{address}, {origin}, {owner}")]
    Taken {
        /// What.
        address: IpNet,
        /// `lent by fe80::1 for 600 s`
        origin: String,
        /// `is the address of cp1 in the cluster file`
        owner: String,
    },
    /// A file.
    #[error("{path}: cannot be written")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Advice for FoundError {
    fn advice(&self) -> String {
        match self {
            FoundError::Link(error) => error.advice(),
            FoundError::NoAddress(error) => error.advice(),
            FoundError::NoCarrier(_) => "check the cable and the switch port".to_owned(),
            FoundError::Lent(error) => error.advice(),
            FoundError::Neither { ipv4, ipv6 } => format!("{}; {}", ipv4.advice(), ipv6.advice()),
            FoundError::Taken { .. } => {
                "take the cluster's addresses out of what the DHCPv6 server lends, or let the router advertise another \
                 network"
                    .to_owned()
            }
            FoundError::Write { .. } => "restart; /run must have room".to_owned(),
        }
    }
}

/// What a router promised and nobody gave: the node goes on without.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Promised(pub String);

impl Advice for Promised {
    fn advice(&self) -> String {
        "start the DHCPv6 server, or take the flags M and O out of what the router advertises".to_owned()
    }
}

/// How the way to an address of IPv6 ended, and the cards that were set up for it.
struct Six<'a> {
    cards: Cards<'a>,
    found: Found,
    /// MTU that the card may have, bytes.
    most: u16,
    began: Instant,
}

/// Gets the addresses that are missing, all or that of IPv6, on a card that nobody describes by more than that it is there.
pub(super) fn configure(
    root: &Path,
    identity: Identity,
    layer: &ClusterLayer,
) -> Result<Addressed, NetworkError> {
    let missing = missing_families(identity.address.as_ref(), layer);
    let addressed = match missing.as_slice() {
        [Family::V6] => alone(root, &identity, layer)?,
        _ => both(root, &identity, layer)?,
    };
    write_hosts(root, &identity.name, addressed.address, layer)?;
    Ok(addressed)
}

fn cards<'a>(root: &'a Path, identity: &'a Identity, layer: &ClusterLayer, wanted: &'a Wanted) -> Cards<'a> {
    let mac = identity.mac.as_deref();
    let before = lent::before(identity, layer);
    Cards { root, mac, before, wanted, known: Vec::new(), refused: Vec::new() }
}

fn wanted(identity: &Identity, layer: &ClusterLayer) -> Wanted {
    Wanted::of(layer, &described(identity), true)
}

/// The card, as far as it is described.
fn described(identity: &Identity) -> Link {
    identity.links.first().cloned().unwrap_or_default()
}

fn alone(root: &Path, identity: &Identity, layer: &ClusterLayer) -> Result<Addressed, FoundError> {
    let (began, wanted) = (Instant::now(), wanted(identity, layer));
    let mut cards = cards(root, identity, layer, &wanted);
    let found = cards.search::<FoundError>(PATIENCE, &Mutex::new(Choice::First))?;
    let most = cards.before.mtu.unwrap_or(layer.file.network.mtu);
    install(root, identity, layer, Six { cards, found, most, began })
}

/// The card is the one that an IPv4 address is lent on: a node has one.
fn both(root: &Path, identity: &Identity, layer: &ClusterLayer) -> Result<Addressed, NetworkError> {
    let (began, wanted) = (Instant::now(), wanted(identity, layer));
    let mut cards = cards(root, identity, layer, &wanted);
    let mut rounds = lent::rounds(root, identity, layer);
    let choice = Mutex::new(Choice::Later);
    let (four, six) = std::thread::scope(|scope| {
        let search = || cards.search::<FoundError>(PATIENCE, &choice);
        let six = scope.spawn(search);
        let four: Result<Lent, LentError> = rounds.search(PATIENCE, &[]);
        let chosen = match &four {
            Ok(lent) => Choice::Card(lent.card.index),
            Err(_) => Choice::Nowhere,
        };
        *choice.lock().unwrap_or_else(PoisonError::into_inner) = chosen;
        let six = six.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (four, six)
    });
    let (lent, found) = match (four, six) {
        (Ok(lent), Ok(found)) => (lent, found),
        (Ok(_), Err(error)) => return Err(error.into()),
        (Err(ipv4), Err(FoundError::NoAddress(ipv6))) => {
            return Err(FoundError::Neither { ipv4, ipv6 }.into());
        }
        (Err(error), _) => return Err(error.into()),
    };
    let first = lent::install(root, identity, layer, &rounds, lent, began)?;
    // The lease may have said less.
    let most = first.mtu();
    let second = install(root, identity, layer, Six { cards, found, most, began })?;
    let mtus = [&first, &second].map(|one| (one.configured.link.clone(), one.mtu()));
    let mut addressed = merge(layer, first, second);
    mtu::settle(root, &mtus, &mut addressed.configured)?;
    Ok(addressed)
}

/// Checks the address against the cluster, and writes it down for the service that keeps it.
fn install(
    root: &Path,
    identity: &Identity,
    layer: &ClusterLayer,
    six: Six<'_>,
) -> Result<Addressed, FoundError> {
    let Six { cards, found, most, began } = six;
    let card = &found.card;
    // The same for a card that was up.
    let (mtu, refused) = links::set_mtu(card.index, &card.name, most, None)?;
    let described = Link { mtu: Some(u16::try_from(mtu).unwrap_or(most)), ..described(identity) };
    let (link, described_to) = (card.name.clone(), Vec::new());
    let mut kept = kept::Kept { number: 0, own: true, link, described, described_to, held: None };
    let set = leases_ipv6::set(root, &mut kept, &found, layer)?;
    // As they were: nothing is to be reached on a link that nobody speaks of.
    let others = cards.known.iter().filter(|link| link.index != card.index && !link.up);
    let down: Vec<LinkError> = others.filter_map(|link| links::set_down(link).err()).collect();
    let refused = cards.refused.iter().chain(&refused).chain(&down);
    let mut problems: Vec<Problem> = refused.map(problem).collect();
    problems.extend(set.problems);
    let configured = Configured {
        mac: card.shown_mac(),
        link: card.name.clone(),
        mtu: set.mtu.into(),
        online: Some(began.elapsed()),
        changes: 0,
        problems,
        asking: Vec::new(),
        asking_ipv6: Vec::new(),
    };
    Ok(Addressed {
        configured,
        kept: Kept { wanted: None },
        address: PerFamily::from(IpNet::V6(found.address)),
        gateway: Some(PerFamily::from(IpAddr::V6(found.router))),
        origin: format!(", {}", found.origin()),
        time_servers: found.told.time_servers,
        further: Vec::new(),
    })
}

/// Of two families one node, on one link.
fn merge(layer: &ClusterLayer, first: Addressed, second: Addressed) -> Addressed {
    let order = &layer.file.cluster.pod_cidr;
    let addresses = first.address.iter().chain(second.address.iter());
    let gateways = [first.gateway, second.gateway].into_iter().flatten();
    let gateways = gateways.flat_map(|gateway| gateway.iter().collect::<Vec<_>>());
    let (mut configured, other) = (first.configured, second.configured);
    configured.mtu = configured.mtu.min(other.mtu);
    // The node waited for both.
    configured.online = configured.online.max(other.online);
    configured.changes += other.changes;
    configured.problems.extend(other.problems);
    Addressed {
        configured,
        kept: Kept { wanted: None },
        // One of each family, so that it cannot fail.
        address: PerFamily::new(addresses).map_or(first.address, |addresses| addresses.ordered_as(order)),
        gateway: PerFamily::new(gateways).ok().map(|gateways| gateways.ordered_as(order)),
        time_servers: [first.time_servers, second.time_servers].concat(),
        origin: first.origin + &second.origin,
        further: [first.further, second.further].concat(),
    }
}
