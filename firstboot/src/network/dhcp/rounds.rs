//! All cards of a machine, asked in rounds: each looks for more of them, as the card of a slow driver may be the one that
//! the server is on.

use std::path::Path;
use std::time::{Duration, Instant};

use super::acquire::{Card, Lent};
use super::{NoLease, ROUND, first};
use crate::network::links::{self, Before, LinkError, SetUp};
use crate::network::netlink::Link;

/// Between two rounds: one in which no card can be used ends at once.
const BREATH: Duration = Duration::from_millis(100);

/// Whom to ask for, and what came of it so far.
pub struct Rounds<'a> {
    root: &'a Path,
    mac: Option<&'a str>,
    before: Before,
    host_name: &'a str,
    /// The cards as they were when they were first seen; they are up now.
    pub known: Vec<Link>,
    /// What could not be set up in the last round.
    pub refused: Vec<LinkError>,
}

impl<'a> Rounds<'a> {
    /// On the card with a MAC address, or on all; nobody is asked yet. Servers are told the host name unless it is empty.
    pub fn new(root: &'a Path, mac: Option<&'a str>, before: Before, host_name: &'a str) -> Rounds<'a> {
        Rounds { root, mac, before, host_name, known: Vec::new(), refused: Vec::new() }
    }

    /// Asks until a card has a lease, for as long as `patience`; not on cards with an index of `without`.
    pub fn search<E>(&mut self, patience: Duration, without: &[u32]) -> Result<Lent, E>
    where
        E: From<LinkError> + From<NoLease>,
    {
        let end = Instant::now() + patience;
        loop {
            let SetUp { cards: mut present, refused } = links::set_up(self.root, self.mac, self.before)?;
            self.refused = refused;
            present.retain(|link| !without.contains(&link.index));
            let cards: Vec<Card> = present.iter().filter_map(Card::of).collect();
            for link in present {
                if self.known.iter().all(|one| one.index != link.index) {
                    self.known.push(link);
                }
            }
            let left = end.saturating_duration_since(Instant::now());
            // The last one is not a short one, so that it can be said what was seen in it.
            let round = if left < 2 * ROUND { left } else { ROUND };
            match first(self.root, &cards, self.host_name, round) {
                Ok(lent) => return Ok(lent),
                Err(NoLease { seen, .. }) if Instant::now() >= end => {
                    return Err(NoLease { patience, seen }.into());
                }
                Err(_) => std::thread::sleep(BREATH),
            }
        }
    }
}
