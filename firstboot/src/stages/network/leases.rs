//! Leases on described links: all are asked for at once; the node's own address, if it is lent, must come, and the others are
//! left to the service that goes on asking.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use bootwright_model::baked::ClusterLayer;
use bootwright_model::links::Link;
use ipnet::Ipv4Net;

use super::asked::{self, Answer, Asked, Question};
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

/// A route of a lease that would take the place of a described one.
#[derive(Debug, thiserror::Error)]
#[error(
    "the route to {to} of the lease on {link} is left out: a described one to the same has its metric, {described}"
)]
struct LeftOut {
    link: String,
    to: Ipv4Net,
    described: u32,
}

impl Advice for LeftOut {
    fn advice(&self) -> String {
        "give the link of the lease, or the described route, another metric, or leave the route out of what the DHCP server \
         says"
            .to_owned()
    }
}

/// What came of asking: further links as `lent 10.30.0.15/24 on eth1 by 10.30.0.1 for 3600 s`.
pub(super) type Leases = asked::Leases<Own>;

/// The lease of the node's address.
#[derive(Debug)]
pub(super) struct Own {
    pub lease: Lease,
    /// When the address could be used.
    pub since: Instant,
}

/// Asks on all of the links.
///
/// # Errors
/// The node's address is not lent, or cannot be used.
pub(super) fn ask(
    root: &Path,
    host_name: &str,
    asking: Vec<Asking>,
    layer: &ClusterLayer,
) -> Result<Leases, LentError> {
    let asked = Asked::all(asking);
    let mut leases = Leases::default();
    let stop = AtomicBool::new(false);
    let look = |Question { kept, card, end }: Question<'_, _>| {
        let client = Client::on(root, card, host_name);
        let usable = |lease: &Lease| usable(lease, card, kept.own, layer);
        Search { card, client: &client, end, stop: &stop, usable: &usable }.run()
    };
    let answers = asked::search(&asked, &stop, look, |kept, card, result| {
        let lent = result.map_err(|seen| none(PATIENCE, card, seen))?;
        taken::check(&lent.lease, layer)?;
        let mut kept = kept.clone();
        let set = set(root, card, &mut kept, lent, layer)?;
        leases.own = Some(Own { lease: set.lease.clone(), since: Instant::now() });
        leases.take(&kept, set);
        write(root, &kept)
    })?;
    // In their order, whoever was first: of two links in one network the kernel uses the first.
    for (Asked { mut kept, .. }, answer) in asked.into_iter().zip(answers) {
        if kept.own {
            continue;
        }
        let name = kept.described.name.clone();
        let result = match answer {
            Answer::Of(card, Ok(lent)) => set(root, &card, &mut kept, lent, layer).map(Some),
            Answer::Of(card, Err(seen)) => Err(none(FURTHER_PATIENCE, &card, seen)),
            Answer::NoCarrier(card) => Err(LentError::NoCarrier(card)),
            Answer::Nothing => Ok(None),
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
        self.time_servers.extend(set.lease.time_servers.iter().map(ToString::to_string));
        if !kept.own {
            let Lease { address, server, .. } = set.lease;
            self.further.push(format!("lent {address} on {} by {server} {}", kept.link, set.lease.time()));
        }
        self.mtus.push((kept.link.clone(), set.mtu));
        self.problems.extend(set.problems);
    }
}

/// Whether the server is not told at once that the lease is of no use. Of the node's own it is the stage that says whether it
/// is another's in the cluster, which ends the boot.
fn usable(lease: &Lease, card: &Card, own: bool, layer: &ClusterLayer) -> Result<(), Taken> {
    if !own {
        taken::check(lease, layer)?;
    }
    taken::check_links(lease, card.index)
}

/// A lease that is set.
pub(super) struct Set {
    /// As it is taken: without what the description leaves out.
    pub lease: Lease,
    /// Bytes, of the link.
    pub mtu: u16,
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
    let Link { mtu: described, metric, .. } = &kept.described;
    let (lease, left_out) = kept.reduced(lent.lease);
    let held = Held { since_ms: lent.since_ms, lease };
    let lease = &held.lease;
    // Two links may have asked one server at the same time.
    taken::check_links(lease, card.index)?;
    // The link has the most already: only a lease that says less makes a driver begin anew.
    let most = described.unwrap_or(layer.file.network.mtu);
    let mtu = lease.mtu.map_or(most, |mtu| mtu.min(most));
    let (mtu, refused) = links::set_mtu(card.index, &card.name, mtu, lease.mtu)?;
    let mut problems: Vec<Problem> = refused.iter().map(problem).collect();
    problems.extend(left_out.iter().map(|route| {
        problem(&LeftOut { link: card.name.clone(), to: route.to, described: metric.unwrap_or(0) })
    }));
    let place = Place { link: card.index, metric: *metric };
    let refused = apply::apply(place, lease, held.seconds_left(uptime_ms()))?;
    problems.extend(refused.iter().map(problem));
    // Without it neighbours ask again a little later.
    let _ = arp::announce(&[card.candidate(lease.address.addr())]);
    // What runs on the node is made for this one: a later lease may say less, and not more.
    let mtu = u16::try_from(mtu).unwrap_or(most);
    kept.described.mtu = Some(mtu);
    let lease = kept.held.insert(held).lease.clone();
    let path = under(root, "/etc/resolv.conf");
    let written = kept.write_resolvers(root, &layer.file.network.resolvers);
    written.map_err(|source| LentError::Write { path, source })?;
    Ok(Set { lease, mtu, problems })
}

/// Writes down what the service is to keep.
pub(super) fn write(root: &Path, kept: &Kept) -> Result<(), LentError> {
    let path = under(root, bootwright_model::layout::LEASES);
    kept.write(root).map_err(|source| LentError::Write { path, source })
}
