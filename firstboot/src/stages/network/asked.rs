//! Links that are asked on for addresses of one family: all at once. The node's own address must come, if it is asked for;
//! the others are left to the service that goes on asking.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::network::dhcp::acquire::Card;
use crate::network::dhcp::{FURTHER_PATIENCE, PATIENCE};
use crate::network::lending::kept::Kept;
use crate::network::lending::seen::Seen;
use crate::network::links::Asking;
use crate::stages::Problem;

/// A link that is asked on.
pub(super) struct Asked<H> {
    pub kept: Kept<H>,
    card: Option<Card>,
    carrier: bool,
}

/// What came of asking on a further link.
pub(super) enum Answer<T> {
    /// It was asked, and got something or did not.
    Of(Card, Result<T, Seen>),
    /// It could not be asked.
    NoCarrier(Card),
    /// It is missing, which is told already, or optional.
    Nothing,
}

/// What came of asking on all links of a family.
#[derive(Debug)]
pub(super) struct Leases<O> {
    /// The node's own address, if that is asked for.
    pub own: Option<O>,
    /// Those of further links, for the summary.
    pub further: Vec<String>,
    /// NTP servers of all.
    pub time_servers: Vec<String>,
    /// What the node goes on without.
    pub problems: Vec<Problem>,
    /// Name and MTU, bytes, of each link that has got an address.
    pub mtus: Vec<(String, u16)>,
}

impl<O> Default for Leases<O> {
    fn default() -> Self {
        let (further, time_servers, problems, mtus) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Leases { own: None, further, time_servers, problems, mtus }
    }
}

/// Where somebody is asked, as what, and until when.
pub(super) struct Question<'a, H> {
    pub kept: &'a Kept<H>,
    pub card: &'a Card,
    pub end: Instant,
}

impl<H> Asked<H> {
    /// All, in their order.
    pub fn all(asking: Vec<Asking>) -> Vec<Asked<H>> {
        let asked = asking.into_iter().enumerate().map(|(number, asking)| {
            let Asking { own, described, described_to, present } = asking;
            let card = present.as_ref().and_then(Card::of);
            let link = card.as_ref().map_or_else(String::new, |card| card.name.clone());
            let kept = Kept { number, own, link, described, described_to, held: None };
            Asked { kept, card, carrier: present.is_some_and(|link| link.carrier) }
        });
        asked.collect()
    }

    /// What is not there, or has no carrier, is not waited for, unless the node is none without.
    fn is_able(&self) -> bool {
        self.card.is_some() && (self.kept.own || self.carrier)
    }

    fn is_awaited(&self) -> bool {
        self.is_able() && (self.kept.own || !self.kept.described.optional)
    }

    fn patience(&self) -> Duration {
        if self.kept.own { PATIENCE } else { FURTHER_PATIENCE }
    }
}

/// Searches on all links at once, and has the node's `own` answer taken as soon as it is there. The answers of further links, in
/// their order.
///
/// Links that are optional are asked while others are waited for, and no longer.
///
/// # Errors
/// The node's own address could not be taken.
pub(super) fn search<H: Sync, T: Send, E>(
    asked: &[Asked<H>],
    stop: &AtomicBool,
    search: impl Fn(Question<'_, H>) -> Result<T, Seen> + Sync,
    mut own: impl FnMut(&Kept<H>, &Card, Result<T, Seen>) -> Result<(), E>,
) -> Result<Vec<Answer<T>>, E> {
    let silent = |one: &Asked<H>| match &one.card {
        Some(card) if !one.carrier => Answer::NoCarrier(card.clone()),
        _ => Answer::Nothing,
    };
    let mut answers: Vec<Answer<T>> = asked.iter().map(silent).collect();
    let mut awaited = asked.iter().filter(|one| one.is_awaited()).count();
    if awaited == 0 {
        return Ok(answers);
    }
    std::thread::scope(|scope| {
        let (sender, receiver) = channel();
        for (number, one) in asked.iter().enumerate().filter(|(_, one)| one.is_able()) {
            let Some(card) = &one.card else { continue };
            let (sender, search) = (sender.clone(), &search);
            let end = Instant::now() + one.patience();
            scope.spawn(move || {
                let result = search(Question { kept: &one.kept, card, end });
                // Nobody hears it if the node's own has failed.
                let _ = sender.send((number, card, result));
            });
        }
        drop(sender);
        for (number, card, result) in receiver {
            let one = &asked[number];
            awaited -= usize::from(one.is_awaited());
            if awaited == 0 {
                stop.store(true, Ordering::Relaxed);
            }
            if !one.kept.own {
                answers[number] = Answer::Of(card.clone(), result);
            } else if let Err(error) = own(&one.kept, card, result) {
                stop.store(true, Ordering::Relaxed);
                return Err(error);
            }
        }
        Ok(())
    })?;
    Ok(answers)
}
