//! Leases on described links: all are asked for at once; the node's own address, if it is lent, must come, and the others are
//! left to the service that goes on asking.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use bootwright_model::baked::ClusterLayer;
use bootwright_model::links::Link;

use super::lent::LentError;
use crate::network::arp;
use crate::network::dhcp::acquire::{Card, Lent, Search, no_lease};
use crate::network::dhcp::apply::{self, Place};
use crate::network::dhcp::held::Held;
use crate::network::dhcp::kept::Kept;
use crate::network::dhcp::lease::Lease;
use crate::network::dhcp::message::Client;
use crate::network::dhcp::taken::{self, Taken};
use crate::network::dhcp::{FURTHER_PATIENCE, NoLease, PATIENCE};
use crate::network::lending::seen::Seen;
use crate::network::links::{self, Asking};
use crate::report::{under, uptime_ms};
use crate::stages::{Advice, Problem, problem};

/// A further link that nobody has lent an address on.
#[derive(Debug, thiserror::Error)]
#[error("the link {link} has no address by DHCP yet")]
struct NotYet {
    link: String,
    source: LentError,
}

impl Advice for NotYet {
    fn advice(&self) -> String {
        match &self.source {
            LentError::NoLease(_) | LentError::NoCarrier(_) => {
                "check cable, switch port and DHCP server; the service dhcp goes on asking".to_owned()
            }
            other => other.advice(),
        }
    }
}

/// What came of asking.
#[derive(Debug, Default)]
pub(super) struct Leases {
    /// The node's own, if that is lent.
    pub own: Option<Own>,
    /// Those of further links, for the summary: `10.30.0.15/24 on eth1 by 10.30.0.1 for 3600 s`.
    pub further: Vec<String>,
    /// NTP servers of all.
    pub time_servers: Vec<String>,
    /// What the node goes on without.
    pub problems: Vec<Problem>,
}

/// The lease of the node's address.
#[derive(Debug)]
pub(super) struct Own {
    pub card: Card,
    /// Bytes, of the link.
    pub mtu: u32,
    pub lease: Lease,
    /// When the address could be used.
    pub since: Instant,
}

/// A link that is asked on.
struct Asked {
    kept: Kept,
    card: Option<Card>,
    carrier: bool,
}

/// Asks on all of the links; the first of them has the node's address if that is to be lent (`own`).
///
/// # Errors
/// The node's address is not lent, or cannot be used.
pub(super) fn ask(
    root: &Path,
    host_name: &str,
    asking: Vec<Asking>,
    own: bool,
    layer: &ClusterLayer,
) -> Result<Leases, LentError> {
    let asked: Vec<Asked> = asking
        .into_iter()
        .enumerate()
        .map(|(number, Asking { described, present })| {
            let card = present.as_ref().and_then(Card::of);
            let link = card.as_ref().map_or_else(String::new, |card| card.name.clone());
            let kept = Kept { number, own: own && number == 0, link, described, held: None };
            Asked { kept, card, carrier: present.is_some_and(|link| link.carrier) }
        })
        .collect();
    let mut leases = Leases::default();
    let mut further = search_all(root, host_name, &asked, layer, &mut leases)?;
    // In their order, whoever was first: of two links in one network the kernel uses the first.
    for (number, Asked { mut kept, card, carrier }) in asked.into_iter().enumerate() {
        if kept.own {
            continue;
        }
        let name = kept.described.name.clone();
        let result = match (card, further.iter().position(|(of, _)| *of == number)) {
            (Some(card), Some(at)) => match further.swap_remove(at).1 {
                Ok(lent) => set(root, &card, &mut kept, lent, layer).map(Some),
                Err(seen) => Err(none(FURTHER_PATIENCE, &card, seen)),
            },
            (Some(card), None) if !carrier => Err(LentError::NoCarrier(card)),
            // Optional, or a link that is missing, which is told already.
            _ => Ok(None),
        };
        match result {
            Ok(Some(set)) => leases.take(&kept, set),
            Ok(None) => {}
            Err(_) if kept.described.optional => {}
            Err(source) => leases.problems.push(problem(&NotYet { link: name, source })),
        }
        // Also without a lease: the service asks for it.
        write(root, &kept)?;
    }
    Ok(leases)
}

/// What was seen of a link without a lease.
fn none(patience: Duration, card: &Card, seen: Seen) -> LentError {
    NoLease { patience, seen: no_lease(&[(card.clone(), seen)]) }.into()
}

impl Leases {
    fn take(&mut self, kept: &Kept, set: Set) {
        if let Some(Held { lease, .. }) = &kept.held {
            self.time_servers.extend(lease.time_servers.iter().map(ToString::to_string));
            if !kept.own {
                let Lease { address, server, .. } = lease;
                self.further.push(format!("{address} on {} by {server} {}", kept.link, lease.time()));
            }
        }
        self.problems.extend(set.problems);
    }
}

/// The number of a further link, and what came of asking there.
type Answered = (usize, Result<Lent, Seen>);

/// Searches on all links at once, and sets the node's own lease as soon as it is there. The others' by their numbers.
///
/// Links that are optional are asked while others are waited for, and no longer.
fn search_all(
    root: &Path,
    host_name: &str,
    asked: &[Asked],
    layer: &ClusterLayer,
    leases: &mut Leases,
) -> Result<Vec<Answered>, LentError> {
    let stop = AtomicBool::new(false);
    let (sender, receiver) = channel();
    // What is not there, or has no carrier, is not waited for, unless the node is none without.
    let able = |one: &Asked| one.kept.own || one.carrier;
    let is_awaited = |one: &Asked| one.kept.own || !one.kept.described.optional;
    let searching = || {
        asked
            .iter()
            .enumerate()
            .filter_map(|(number, one)| Some((number, one, one.card.as_ref()?)))
            .filter(|(_, one, _)| able(one))
    };
    let mut awaited = searching().filter(|(_, one, _)| is_awaited(one)).count();
    let mut further = Vec::new();
    if awaited == 0 {
        return Ok(further);
    }
    std::thread::scope(|scope| {
        for (number, one, card) in searching() {
            let (sender, stop) = (sender.clone(), &stop);
            let patience = if one.kept.own { PATIENCE } else { FURTHER_PATIENCE };
            let end = Instant::now() + patience;
            scope.spawn(move || {
                let client = Client::on(root, card, host_name);
                let usable = |lease: &Lease| usable(lease, card, one.kept.own, layer);
                let result = Search { card, client: &client, end, stop, usable: &usable }.run();
                // Nobody hears it if the node's own has failed.
                let _ = sender.send((number, result));
            });
        }
        drop(sender);
        for (number, result) in receiver {
            let one = &asked[number];
            awaited -= usize::from(is_awaited(one));
            if awaited == 0 {
                stop.store(true, Ordering::Relaxed);
            }
            match (&one.card, one.kept.own) {
                (Some(card), true) => {
                    let mut kept = one.kept.clone();
                    let lent = result.map_err(|seen| none(PATIENCE, card, seen));
                    let set = lent.and_then(|lent| set_own(root, card, &mut kept, lent, layer, leases));
                    if let Err(error) = set {
                        stop.store(true, Ordering::Relaxed);
                        return Err(error);
                    }
                }
                _ => further.push((number, result)),
            }
        }
        Ok(())
    })?;
    Ok(further)
}

/// Whether the server is not told at once that the lease is of no use. Of the node's own it is the stage that says whether it
/// is another's in the cluster, which ends the boot.
fn usable(lease: &Lease, card: &Card, own: bool, layer: &ClusterLayer) -> Result<(), Taken> {
    if !own {
        taken::check(lease, layer)?;
    }
    taken::check_links(lease, card.index)
}

fn set_own(
    root: &Path,
    card: &Card,
    kept: &mut Kept,
    lent: Lent,
    layer: &ClusterLayer,
    leases: &mut Leases,
) -> Result<(), LentError> {
    taken::check(&lent.lease, layer)?;
    let lease = lent.lease.clone().reduced(&kept.described.dhcp4_overrides);
    let set = set(root, card, kept, lent, layer)?;
    leases.own = Some(Own { card: card.clone(), mtu: set.mtu, lease, since: Instant::now() });
    leases.take(kept, set);
    write(root, kept)
}

/// A lease that is set.
pub(super) struct Set {
    /// Bytes, of the link.
    pub mtu: u32,
    /// What it is without.
    pub problems: Vec<Problem>,
}

/// Sets a lease on a link: MTU, address, routes, resolvers. It is in `kept` then.
pub(super) fn set(
    root: &Path,
    card: &Card,
    kept: &mut Kept,
    lent: Lent,
    layer: &ClusterLayer,
) -> Result<Set, LentError> {
    let Link { mtu: described, metric, dhcp4_overrides, .. } = &kept.described;
    let held = Held { since_ms: lent.since_ms, lease: lent.lease.reduced(dhcp4_overrides) };
    let lease = &held.lease;
    // Two links may have asked one server at the same time.
    taken::check_links(lease, card.index)?;
    // The link has the most already: only a lease that says less makes a driver begin anew.
    let most = described.unwrap_or(layer.file.network.mtu);
    let mtu = lease.mtu.map_or(most, |mtu| mtu.min(most));
    let (mtu, refused) = links::set_mtu(card.index, &card.name, mtu, lease.mtu)?;
    let mut problems: Vec<Problem> = refused.iter().map(problem).collect();
    let place = Place { link: card.index, metric: *metric };
    let refused = apply::apply(place, lease, held.seconds_left(uptime_ms()))?;
    problems.extend(refused.iter().map(problem));
    // Without it neighbours ask again a little later.
    let _ = arp::announce(&[card.candidate(lease.address.addr())]);
    // What runs on the node is made for this one: a later lease may say less, and not more.
    kept.described.mtu = Some(u16::try_from(mtu).unwrap_or(most));
    kept.held = Some(held);
    let path = under(root, "/etc/resolv.conf");
    let written = kept.write_resolvers(root, &layer.file.network.resolvers);
    written.map_err(|source| LentError::Write { path, source })?;
    Ok(Set { mtu, problems })
}

/// Writes down what the service is to keep.
pub(super) fn write(root: &Path, kept: &Kept) -> Result<(), LentError> {
    let path = under(root, bootwright_model::layout::LEASES);
    kept.write(root).map_err(|source| LentError::Write { path, source })
}
