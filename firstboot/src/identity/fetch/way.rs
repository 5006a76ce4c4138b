//! How a machine without an address reaches a server: it borrows one from a DHCP server, on each of its links in turn until
//! the server answers, and gives it back before the network is configured.

use std::path::Path;
use std::time::{Duration, Instant};

use super::AskError;
use crate::network::dhcp::acquire::{Card, Lent};
use crate::network::dhcp::apply::{self, ApplyError};
use crate::network::dhcp::lease::Lease;
use crate::network::dhcp::{self, NoLease};
use crate::network::links::{self, LinkError};

/// How long it is waited for a lease: clouds have no spanning tree, and the boot goes on without.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a service was not asked, or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum WayError {
    /// The links.
    #[error("the links cannot be set up")]
    Links(#[from] LinkError),
    /// Nobody lends an address.
    #[error(transparent)]
    NoLease(#[from] NoLease),
    /// The kernel.
    #[error("the borrowed address cannot be set")]
    Apply(#[from] ApplyError),
    /// The service.
    #[error(transparent)]
    Ask(#[from] AskError),
}

/// Asks with a borrowed address of each link until somebody answers, or until `end`.
pub fn through_any<T>(
    root: &Path,
    end: Instant,
    mut ask: impl FnMut(&Lease) -> Result<T, AskError>,
) -> Result<T, WayError> {
    let links = links::set_up(None, None)?;
    let answer = through_each(root, links.iter().filter_map(Card::of).collect(), end, &mut ask);
    // As it was: the network is configured from what is known then.
    let down: Vec<_> = links.iter().filter(|link| !link.up).map(links::set_down).collect();
    let answer = answer?;
    down.into_iter().collect::<Result<(), LinkError>>()?;
    Ok(answer)
}

fn through_each<T>(
    root: &Path,
    mut cards: Vec<Card>,
    end: Instant,
    ask: &mut impl FnMut(&Lease) -> Result<T, AskError>,
) -> Result<T, WayError> {
    let mut silence = None;
    loop {
        // Without a name: a server that makes DNS records would make one of what may be wrong.
        let patience = end.saturating_duration_since(Instant::now()).min(PATIENCE);
        let Lent { card, lease, .. } = match dhcp::first(root, &cards, "", patience) {
            Ok(lent) => lent,
            Err(error) => return Err(silence.unwrap_or(WayError::NoLease(error))),
        };
        match with_address(&card, &lease, ask) {
            Err(WayError::Ask(AskError::Fetch(error))) if error.is_silence() && cards.len() > 1 => {
                cards.retain(|other| other.index != card.index);
                silence = Some(WayError::Ask(AskError::Fetch(error)));
            }
            answer => return answer,
        }
    }
}

fn with_address<T>(
    card: &Card,
    lease: &Lease,
    ask: &mut impl FnMut(&Lease) -> Result<T, AskError>,
) -> Result<T, WayError> {
    let applied = apply::apply(card.index, lease, lease.seconds).map_err(WayError::from);
    let answer = applied.and_then(|_| Ok(ask(lease)?));
    let withdrawn = apply::withdraw(card.index, lease.address);
    let answer = answer?;
    withdrawn?;
    Ok(answer)
}
