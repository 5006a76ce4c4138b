//! Addresses that nobody gives in a cluster with IPv6: of what routers advertise or DHCPv6 servers lend, alone, beside an
//! IPv4 lease, or beside an address of the other family that somebody gave.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use bootwright_model::baked::ClusterLayer;
use bootwright_model::families::{Family, PerFamily};
use bootwright_model::layout;
use bootwright_model::links::Link;
use ipnet::IpNet;

use super::lent::{self, LentError};
use super::{Addressed, given};
use crate::identity::Identity;
use crate::identity::checks::missing_families;
use crate::network::dhcp::acquire::Lent;
use crate::network::dhcp::{PATIENCE, taken};
use crate::network::dhcp6::cards::{Cards, Choice};
use crate::network::dhcp6::found::{Found, Wanted};
use crate::network::dhcp6::{NoAddress, kept};
use crate::network::links::follow::Kept;
use crate::network::links::{self, Configured, LinkError};
use crate::report::under;
use crate::stages::{Advice, Problem, identity, problem};

/// Why an address is missing.
#[derive(Debug, thiserror::Error)]
pub enum FoundError {
    /// The links.
    #[error("the links cannot be set up")]
    Link(#[from] LinkError),
    /// That of IPv6.
    #[error(transparent)]
    NoAddress(#[from] NoAddress),
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
struct Promised(String);

impl Advice for Promised {
    fn advice(&self) -> String {
        "start the DHCPv6 server, or take the flags M and O out of what the router advertises".to_owned()
    }
}

/// How the way to an address of IPv6 ended, and the cards that were set up for it.
struct Six<'a> {
    cards: Cards<'a>,
    found: Found,
    began: Instant,
}

/// Gets the addresses that are missing, of both families at the same time.
pub(super) fn configure(
    root: &Path,
    identity: Identity,
    layer: &ClusterLayer,
) -> Result<Addressed, super::NetworkError> {
    let missing = missing_families(identity.address.as_ref(), layer);
    let known = identity.clone();
    let addressed = match (identity.address, missing.as_slice()) {
        (Some(address), missing) => {
            let first = given(root, identity, address, layer)?;
            let beside = Identity { mac: Some(first.configured.mac.clone()), ..known.clone() };
            let second = match missing {
                [Family::V4] => lent::on_any_card(root, &beside, layer)?,
                _ => alone(root, &beside, layer)?,
            };
            merge(layer, first, second)
        }
        (None, [Family::V6]) => alone(root, &identity, layer)?,
        (None, _) => both(root, &identity, layer)?,
    };
    let hosts = identity::hosts(&known.name, Some(addressed.address), layer);
    let path = under(root, "/etc/hosts");
    crate::files::replace(&path, hosts.as_bytes(), 0o644)
        .map_err(|source| FoundError::Write { path, source })?;
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
    install(root, identity, layer, Six { cards, found, began })
}

/// The card is the one that an IPv4 address is lent on: a node has one.
fn both(root: &Path, identity: &Identity, layer: &ClusterLayer) -> Result<Addressed, FoundError> {
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
        (Ok(_), Err(error)) => return Err(error),
        (Err(ipv4), Err(FoundError::NoAddress(ipv6))) => return Err(FoundError::Neither { ipv4, ipv6 }),
        (Err(error), _) => return Err(error.into()),
    };
    let first = lent::install(root, identity, layer, &rounds, lent, began)?;
    let second = install(root, identity, layer, Six { cards, found, began })?;
    Ok(merge(layer, first, second))
}

/// Checks the address against the cluster, and writes it down for the service that keeps it.
fn install(
    root: &Path,
    identity: &Identity,
    layer: &ClusterLayer,
    six: Six<'_>,
) -> Result<Addressed, FoundError> {
    let Six { cards, found, began } = six;
    let (card, address) = (&found.card, IpNet::V6(found.address));
    if let Some(owner) = taken::owner(address, layer) {
        return Err(FoundError::Taken { address, origin: found.origin(), owner });
    }
    // As they were: nothing is to be reached on a link that nobody speaks of.
    let others = cards.known.iter().filter(|link| link.index != card.index && !link.up);
    let down: Vec<LinkError> = others.filter_map(|link| links::set_down(link).err()).collect();
    let mut problems: Vec<Problem> = cards.refused.iter().chain(&down).map(problem).collect();
    let most = cards.before.mtu.unwrap_or(layer.file.network.mtu);
    let said = found.mtu.map(|mtu| u16::try_from(mtu).unwrap_or(u16::MAX));
    let mtu = said.map_or(most, |mtu| mtu.min(most));
    let (mtu, kept) = links::set_mtu(card.index, &card.name, mtu, said)?;
    problems.extend(kept.iter().map(problem));
    problems.extend(found.missing.clone().map(|missing| problem(&Promised(missing))));
    let described = Link { mtu: u16::try_from(mtu).ok(), ..described(identity) };
    let kept =
        kept::Kept { number: 0, own: true, link: card.name.clone(), described, held: Some(found.held()) };
    let failed = |path: &str| {
        let path = under(root, path);
        move |source| FoundError::Write { path, source }
    };
    kept.write(root).map_err(failed(layout::LEASE_IPV6))?;
    let written = kept.write_resolvers(root, &layer.file.network.resolvers);
    written.map_err(failed("/etc/resolv.conf"))?;
    let configured = Configured {
        mac: card.shown_mac(),
        link: card.name.clone(),
        mtu,
        online: Some(began.elapsed()),
        changes: 0,
        problems,
        asking: Vec::new(),
    };
    Ok(Addressed {
        configured,
        kept: Kept { wanted: None },
        address: PerFamily::from(address),
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
    // What somebody gave is followed; what was lent has a service of its own. A lease or a router may have said less of the
    // MTU than the description.
    let mut wanted = first.kept.wanted.or(second.kept.wanted);
    if let Some(wanted) = &mut wanted {
        let mtu = u16::try_from(configured.mtu).unwrap_or(u16::MAX);
        wanted.mtu = wanted.mtu.min(mtu);
        if let [card] = &mut wanted.links[..] {
            card.mtu = Some(card.mtu.unwrap_or(mtu).min(mtu));
        }
    }
    Addressed {
        configured,
        kept: Kept { wanted },
        // One of each family, so that it cannot fail.
        address: PerFamily::new(addresses).map_or(first.address, |addresses| addresses.ordered_as(order)),
        gateway: PerFamily::new(gateways).ok().map(|gateways| gateways.ordered_as(order)),
        time_servers: [first.time_servers, second.time_servers].concat(),
        origin: first.origin + &second.origin,
        further: [first.further, second.further].concat(),
    }
}
