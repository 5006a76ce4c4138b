//! Who else says that it has an address of this machine, and what is done about it (RFC 5227, section 2.4).
//!
//! Of the RFC's three ways this is (c): the address is defended, and kept even if the other machine does not yield. What
//! runs on a node was made from its address, and an address that goes would take the node with it; (a) and (b) are for
//! machines that can take another.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// At most one defence in this time (`DEFEND_INTERVAL`).
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);
/// A conflict that was not heard of for this long is a new one when it is.
const QUIET: Duration = Duration::from_secs(60);
/// Of so many machines each is told.
const MOST_TOLD: usize = 8;

/// What to do about a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Announce the address.
    pub defend: bool,
    /// Nobody was told yet.
    pub tell: bool,
}

#[derive(Debug)]
struct Conflict {
    told: Vec<[u8; 6]>,
    heard: Instant,
    defended: Option<Instant>,
}

/// The conflicts that were heard of, by address and index of its link.
#[derive(Debug, Default)]
pub(super) struct Conflicts(BTreeMap<(u32, Ipv4Addr), Conflict>);

impl Conflicts {
    /// Another machine, `mac`, says that it has an address of this one.
    pub fn hear(&mut self, index: u32, address: Ipv4Addr, mac: [u8; 6], now: Instant) -> Verdict {
        let new = || Conflict { told: Vec::new(), heard: now, defended: None };
        let conflict = self.0.entry((index, address)).or_insert_with(new);
        if now.saturating_duration_since(conflict.heard) >= QUIET {
            conflict.told.clear();
        }
        conflict.heard = now;
        let is_recent = |defended: Instant| now.saturating_duration_since(defended) < DEFEND_INTERVAL;
        let defend = !conflict.defended.is_some_and(is_recent);
        if defend {
            conflict.defended = Some(now);
        }
        let tell = !conflict.told.contains(&mac) && conflict.told.len() < MOST_TOLD;
        if tell {
            conflict.told.push(mac);
        }
        Verdict { defend, tell }
    }

    /// Forgets those of addresses that this machine does not have any more.
    pub fn keep(&mut self, has: impl Fn(u32, Ipv4Addr) -> bool) {
        self.0.retain(|(index, address), _| has(*index, *address));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 10);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_address_is_defended_once_in_ten_seconds_and_told_once() {
        let (mut conflicts, begin) = (Conflicts::default(), Instant::now());
        let mut hear = |seconds: u32, last: u8| {
            let verdict = conflicts.hear(2, ADDRESS, [2, 0, 0, 0, 0, last], begin + seconds * SECOND);
            (verdict.defend, verdict.tell)
        };
        let heard = [(0, 1), (1, 1), (9, 1), (10, 1), (15, 2), (16, 1), (20, 2), (90, 1)];
        let verdicts = heard.map(|(seconds, last)| hear(seconds, last));
        let expected = [
            (true, true),
            (false, false),
            (false, false),
            (true, false),
            (false, true),
            (false, false),
            (true, false),
            (true, true),
        ];
        assert_eq!(verdicts, expected);
    }

    #[test]
    fn machines_that_make_up_their_macs_fill_no_log() {
        let (mut conflicts, now) = (Conflicts::default(), Instant::now());
        let told = (0..100_u8).filter(|&last| conflicts.hear(2, ADDRESS, [2, 0, 0, 0, 0, last], now).tell);
        assert_eq!(told.count(), MOST_TOLD);
    }

    #[test]
    fn addresses_are_apart_and_forgotten_with_the_address() {
        let (mut conflicts, now) = (Conflicts::default(), Instant::now());
        let other = Ipv4Addr::new(10, 20, 0, 11);
        for (index, address) in [(2, ADDRESS), (3, ADDRESS), (2, other)] {
            assert!(conflicts.hear(index, address, [2; 6], now).defend, "{index} {address}");
        }
        conflicts.keep(|index, address| (index, address) != (2, other));
        assert!(!conflicts.hear(3, ADDRESS, [2; 6], now).defend);
        assert!(conflicts.hear(2, other, [2; 6], now).defend);
    }
}
