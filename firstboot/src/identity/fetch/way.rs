//! How a machine without an address reaches a server: it borrows one from a DHCP server, on each of its links in turn until
//! the server answers, and gives it back before the network is configured.

use std::path::Path;
use std::time::{Duration, Instant};

use super::AskError;
use crate::network::dhcp::NoLease;
use crate::network::dhcp::acquire::{Card, Lent};
use crate::network::dhcp::apply::{self, ApplyError, Place};
use crate::network::dhcp::lease::Lease;
use crate::network::dhcp::rounds::Rounds;
use crate::network::links::{self, Before, LinkError};

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

/// Asks with a borrowed address of each link until somebody answers, or until `end`. For each of the leases it is waited as
/// long as `patience`, but not longer than that.
pub fn through_any<T>(
    root: &Path,
    end: Instant,
    patience: Duration,
    mut ask: impl FnMut(&Lease) -> Result<T, AskError>,
) -> Result<T, WayError> {
    // Without a name: a server that makes DNS records would make one of what may be wrong.
    let mut rounds = Rounds::new(root, None, Before::default(), "");
    let answer = through_each(&mut rounds, end, patience, &mut ask);
    // As it was: the network is configured from what is known then.
    let down: Vec<_> = rounds.known.iter().filter(|link| !link.up).map(links::set_down).collect();
    let answer = answer?;
    down.into_iter().collect::<Result<(), LinkError>>()?;
    Ok(answer)
}

fn through_each<T>(
    rounds: &mut Rounds,
    end: Instant,
    patience: Duration,
    ask: &mut impl FnMut(&Lease) -> Result<T, AskError>,
) -> Result<T, WayError> {
    // Indices of cards by which nobody answers, and the last that was heard of it.
    let (mut silent, mut silence) = (Vec::new(), None);
    loop {
        let left = end.saturating_duration_since(Instant::now()).min(patience);
        let Lent { card, lease, .. } = match rounds.search::<WayError>(left, &silent) {
            Ok(lent) => lent,
            Err(error) => return Err(silence.unwrap_or(error)),
        };
        let answer = with_address(&card, &lease, ask);
        let is_silence = matches!(&answer, Err(WayError::Ask(AskError::Fetch(error))) if error.is_silence());
        silent.push(card.index);
        if !is_silence || rounds.known.iter().all(|link| silent.contains(&link.index)) {
            return answer;
        }
        silence = answer.err();
    }
}

fn with_address<T>(
    card: &Card,
    lease: &Lease,
    ask: &mut impl FnMut(&Lease) -> Result<T, AskError>,
) -> Result<T, WayError> {
    let place = Place { link: card.index, metric: None };
    let applied = apply::apply(place, lease, lease.seconds).map_err(WayError::from);
    let answer = applied.and_then(|_| Ok(ask(lease)?));
    let withdrawn = apply::withdraw(card.index, lease.address);
    let answer = answer?;
    withdrawn?;
    Ok(answer)
}
