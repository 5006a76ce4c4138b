//! All cards of a machine at once: cards that come late are asked too, as the one of a slow driver may be the one that the
//! router is on.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use super::NoAddress;
use super::found::{Found, Wanted};
use super::search::Search;
use crate::network::dhcp::acquire::Card;
use crate::network::lending::seen::Seen;
use crate::network::links::{self, Before, LinkError, SetUp};
use crate::network::netlink::Link;

/// How often it is looked for more cards.
const NEW_CARDS: Duration = Duration::from_secs(1);
/// How often it is looked at what somebody else has chosen.
const LOOK: Duration = Duration::from_millis(50);

/// Which card the address is to be on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The first that has one.
    First,
    /// It will be said.
    Later,
    /// The one with this index: it has the IPv4 address.
    Card(u32),
    /// On none: there is no other address.
    Nowhere,
}

/// The cards, and what came of them so far.
pub struct Cards<'a> {
    /// Where `/proc` and `/sys` are.
    pub root: &'a Path,
    /// MAC address of the only card that is asked on.
    pub mac: Option<&'a str>,
    /// What cards get before they are set up.
    pub before: Before,
    /// What is looked for.
    pub wanted: &'a Wanted,
    /// The cards as they were when they were first seen; they are up now.
    pub known: Vec<Link>,
    /// What could not be set up in the last look.
    pub refused: Vec<LinkError>,
}

type Outcome = (Card, Result<Found, Seen>);

impl Cards<'_> {
    /// Looks for an address for as long as `patience`, on the card that is chosen in the end.
    pub fn search<E>(&mut self, patience: Duration, choice: &Mutex<Choice>) -> Result<Found, E>
    where
        E: From<LinkError> + From<NoAddress>,
    {
        let end = Instant::now() + patience;
        let stop = AtomicBool::new(false);
        let mut outcomes: Vec<Outcome> = Vec::new();
        let result = std::thread::scope(|scope| {
            let (sender, receiver) = channel();
            let (root, wanted, stop) = (self.root, self.wanted, &stop);
            let spawn = |card: Card, sender: Sender<Outcome>| {
                scope.spawn(move || {
                    // Whether it can be used is the stage's to say, which ends the boot if not.
                    let search = Search { root, card: &card, wanted, end, stop, usable: &|_| Ok(()) };
                    let outcome = search.run();
                    // Nobody hears it once there is a winner.
                    let _ = sender.send((card, outcome));
                });
            };
            let (mut asked, mut next_look) = (BTreeSet::new(), Instant::now());
            let result = loop {
                let chosen = chosen(choice);
                // The search for IPv4 ends at about the same time, and says then which card it is.
                let is_over =
                    chosen != Choice::Later && Instant::now() >= end && outcomes.len() == asked.len();
                if is_settled(chosen, &outcomes) || is_over {
                    break Ok(());
                }
                if Instant::now() >= next_look && Instant::now() < end {
                    next_look = Instant::now() + NEW_CARDS;
                    let SetUp { cards, refused } = match links::set_up(self.root, self.mac, self.before) {
                        Ok(set_up) => set_up,
                        Err(error) => break Err(error),
                    };
                    self.refused = refused;
                    for link in cards {
                        let Some(card) = Card::of(&link) else { continue };
                        if asked.insert(link.index) {
                            spawn(card, sender.clone());
                            self.known.push(link);
                        }
                    }
                }
                outcomes.extend(receiver.recv_timeout(LOOK).ok());
            };
            stop.store(true, Ordering::Relaxed);
            drop(sender);
            outcomes.extend(receiver);
            result
        });
        let (found, lost) = pick(chosen(choice), outcomes);
        result?;
        found.ok_or_else(|| NoAddress { patience, seen: told(&lost) }.into())
    }
}

fn chosen(choice: &Mutex<Choice>) -> Choice {
    *choice.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Nothing that is still to come would change anything.
fn is_settled(choice: Choice, outcomes: &[Outcome]) -> bool {
    match choice {
        Choice::First => outcomes.iter().any(|(_, outcome)| outcome.is_ok()),
        Choice::Later => false,
        Choice::Card(index) => outcomes.iter().any(|(card, _)| card.index == index),
        Choice::Nowhere => true,
    }
}

/// The address on the chosen card; all others are given up.
fn pick(choice: Choice, outcomes: Vec<Outcome>) -> (Option<Found>, Vec<(Card, Seen)>) {
    let (mut won, mut lost) = (None, Vec::new());
    for (card, outcome) in outcomes {
        let is_meant = match choice {
            Choice::First | Choice::Later => true,
            Choice::Card(index) => card.index == index,
            Choice::Nowhere => false,
        };
        match outcome {
            Ok(found) if is_meant && won.is_none() => won = Some(found),
            Ok(found) => found.give_up(),
            Err(seen) => lost.push((card, seen)),
        }
    }
    (won, lost)
}

/// For a person: what is on the line cannot be used, or nobody is there.
fn told(cards: &[(Card, Seen)]) -> String {
    let lines: Vec<String> = cards.iter().map(|(card, seen)| format!("{card}: {seen}")).collect();
    if lines.is_empty() { "no card was asked on".to_owned() } else { lines.join("; ") }
}
