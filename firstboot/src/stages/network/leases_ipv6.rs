//! IPv6 addresses on described links, of what routers advertise or DHCPv6 servers lend.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use bootwright_model::baked::ClusterLayer;
use bootwright_model::layout;
use ipnet::{IpNet, Ipv6Net};

use super::asked::{self, Answer, Asked, Question};
use super::found::{FoundError, Promised};
use crate::network::dhcp::acquire::Card;
use crate::network::dhcp::{FURTHER_PATIENCE, PATIENCE, taken};
use crate::network::dhcp6::NoAddress;
use crate::network::dhcp6::found::{Found, Wanted};
use crate::network::dhcp6::kept::Kept;
use crate::network::dhcp6::search::Search;
use crate::network::lending::seen::Seen;
use crate::network::links::{self, Asking};
use crate::report::under;
use crate::stages::{Advice, Problem, problem};

/// A further link that nobody has given an IPv6 address.
#[derive(Debug, thiserror::Error)]
#[error("the link {link} has no IPv6 address of a router or by DHCPv6 yet")]
struct NotYet {
    link: String,
    source: FoundError,
}

impl Advice for NotYet {
    fn advice(&self) -> String {
        match &self.source {
            FoundError::NoAddress(_) | FoundError::NoCarrier(_) => {
                "check cable, switch port, and what the router advertises; the service dhcp6 goes on asking"
                    .to_owned()
            }
            other => other.advice(),
        }
    }
}

/// What came of asking: further links as `fd00:8::50/64 on eth1 lent by fe80::1 for 3600 s`.
pub(super) type Leases = asked::Leases<Own>;

/// The node's address.
#[derive(Debug)]
pub(super) struct Own {
    pub found: Found,
    /// When it could be used.
    pub since: Instant,
}

/// Looks for addresses on all of the links, until `stop` at most.
///
/// # Errors
/// The node's address is not found, or cannot be used.
pub(super) fn ask(
    root: &Path,
    asking: Vec<Asking>,
    layer: &ClusterLayer,
    stop: &AtomicBool,
) -> Result<Leases, FoundError> {
    let asked = Asked::all(asking);
    let mut leases = Leases::default();
    let look = |Question { kept, card, end }: Question<'_, _>| {
        let wanted = Wanted::of(layer, &kept.described, kept.own);
        // Whether the node's own is another's in the cluster is the stage's to say, which ends the boot.
        let of_cluster = (!kept.own).then_some(layer);
        let usable = |address: Ipv6Net| taken::usable(address.into(), card.index, of_cluster);
        Search { root, card, wanted: &wanted, end, stop, usable: &usable }.run()
    };
    let answers = asked::search(&asked, stop, look, |kept, card, result| {
        let found = result.map_err(|seen| none(PATIENCE, card, &seen))?;
        let (mut kept, since) = (kept.clone(), Instant::now());
        let set = set(root, &mut kept, &found, layer)?;
        leases.take(&kept, &found, set);
        leases.own = Some(Own { found, since });
        Ok::<(), FoundError>(())
    })?;
    for (Asked { mut kept, .. }, answer) in asked.into_iter().zip(answers) {
        if kept.own {
            continue;
        }
        let described = kept.described.name.clone();
        let name = if described.is_empty() { kept.link.clone() } else { described };
        let result = match answer {
            Answer::Of(_, Ok(found)) => set(root, &mut kept, &found, layer).map(|set| Some((found, set))),
            Answer::Of(card, Err(seen)) => Err(none(FURTHER_PATIENCE, &card, &seen)),
            Answer::NoCarrier(card) => Err(FoundError::NoCarrier(card)),
            Answer::Nothing => Ok(None),
        };
        match result {
            Ok(Some((found, set))) => leases.take(&kept, &found, set),
            // Also without an address: the service asks for it.
            Ok(None) => write(root, &kept)?,
            Err(source) => {
                if !kept.described.optional {
                    leases.problems.push(problem(&NotYet { link: name, source }));
                }
                write(root, &kept)?;
            }
        }
    }
    Ok(leases)
}

/// What was seen of a link without an address.
fn none(patience: std::time::Duration, card: &Card, seen: &Seen) -> FoundError {
    NoAddress { patience, seen: format!("{card}: {seen}") }.into()
}

impl Leases {
    fn take(&mut self, kept: &Kept, found: &Found, set: Set) {
        self.time_servers.extend(found.told.time_servers.iter().cloned());
        if !kept.own {
            self.further.push(format!("{} on {} {}", found.address, kept.link, found.origin()));
        }
        self.mtus.push((kept.link.clone(), set.mtu));
        self.problems.extend(set.problems);
    }
}

/// An address that is taken.
pub(super) struct Set {
    /// Bytes, of the link.
    pub mtu: u16,
    /// What it is without.
    pub problems: Vec<Problem>,
}

/// Takes an address that was found, which the link has already: MTU and resolvers. It is written down for the service that
/// keeps it.
pub(super) fn set(
    root: &Path,
    kept: &mut Kept,
    found: &Found,
    layer: &ClusterLayer,
) -> Result<Set, FoundError> {
    let address = IpNet::V6(found.address);
    if let Some(owner) = taken::owner(address, layer) {
        return Err(FoundError::Taken { address, origin: found.origin(), owner });
    }
    let most = kept.described.mtu.unwrap_or(layer.file.network.mtu);
    let mut problems: Vec<Problem> =
        found.missing.iter().map(|missing| problem(&Promised(missing.clone()))).collect();
    let mut mtu = most;
    // Whoever set the link up gave it the most: only a router that says less makes a driver begin anew.
    if let Some(said) = found.mtu.and_then(|said| u16::try_from(said).ok()).filter(|said| *said < most) {
        let (taken, refused) = links::set_mtu(found.card.index, &found.card.name, said, Some(said))?;
        mtu = u16::try_from(taken).unwrap_or(most);
        problems.extend(refused.iter().map(problem));
    }
    kept.described.mtu = Some(mtu);
    kept.link.clone_from(&found.card.name);
    kept.held = Some(found.held());
    write(root, kept)?;
    let written = kept.write_resolvers(root, &layer.file.network.resolvers);
    written.map_err(|source| FoundError::Write { path: under(root, "/etc/resolv.conf"), source })?;
    Ok(Set { mtu, problems })
}

fn write(root: &Path, kept: &Kept) -> Result<(), FoundError> {
    let path = under(root, layout::LEASES_IPV6);
    kept.write(root).map_err(|source| FoundError::Write { path, source })
}
