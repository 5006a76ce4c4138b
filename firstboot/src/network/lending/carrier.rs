//! A link's carrier: waited for before anybody is asked, and watched while an address is held.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::network::dhcp::acquire::Card;
use crate::network::netlink::{LinkChanges, Netlink};
use crate::report::uptime_ms;

/// How often it is looked whether another link was faster.
const STOP_LOOK: Duration = Duration::from_millis(50);

/// Waits until the card with an index has a carrier. False if there is none until the end, or until it is to stop.
///
/// # Errors
/// The card is gone, or the kernel does not answer.
pub fn wait_for_carrier(index: u32, end: Instant, stop: &AtomicBool) -> io::Result<bool> {
    let mut changes = LinkChanges::open()?;
    let mut netlink = Netlink::open()?;
    loop {
        match netlink.links()?.iter().find(|link| link.index == index) {
            Some(link) if link.carrier => return Ok(true),
            Some(_) => {}
            None => return Err(io::Error::other("the card is gone")),
        }
        if Instant::now() >= end || stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
        changes.wait(end.min(Instant::now() + STOP_LOOK))?;
    }
}

/// What ended a rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rested {
    /// Its time is over.
    Time,
    /// The cable is in again, and may lead to another network.
    Carrier,
    /// The card has a carrier, and not its address any more.
    Gone,
    /// The card was gone and is back, or its driver began anew: what it had is gone.
    Another,
}

/// A rest, in which nothing is to be done about an address that is held, on a card.
pub struct Rest<'a> {
    /// Where.
    pub card: &'a Card,
    /// Hears what becomes of the card, and of the address if that is looked for.
    pub changes: LinkChanges,
    /// Longest time between two looks.
    pub look: Duration,
    /// Finds the card, whatever it is called by now.
    pub find: &'a mut dyn FnMut() -> Option<Card>,
    /// Whether the card has the address.
    pub has_address: &'a dyn Fn() -> io::Result<bool>,
}

impl Rest<'_> {
    /// Waits until a time, milliseconds since the kernel's start, or for ever; or until something becomes of the card.
    /// `carriers` is how often its carrier had come when it was last looked at, if that is known.
    pub fn until(mut self, until_ms: Option<u64>, carriers: &mut Option<u32>) -> io::Result<Rested> {
        let mut netlink = Netlink::open()?;
        let mut had_carrier = true;
        loop {
            let now = uptime_ms();
            if until_ms.is_some_and(|until| now >= until) {
                return Ok(Rested::Time);
            }
            // Without the card there is nothing to do until it is back, or time is over.
            if (self.find)().is_some_and(|found| found.index != self.card.index) {
                return Ok(Rested::Another);
            }
            if let Some(link) = netlink.links()?.iter().find(|link| link.index == self.card.index) {
                // It may have been gone and back between two looks: the kernel tells of a lost carrier up to a second late.
                let is_new = carriers.replace(link.carriers).is_some_and(|before| before != link.carriers);
                let has_carrier = link.up && link.carrier;
                if has_carrier && (!had_carrier || is_new) {
                    return Ok(Rested::Carrier);
                }
                had_carrier = has_carrier;
                if has_carrier && !(self.has_address)()? {
                    return Ok(Rested::Gone);
                }
            }
            let left = until_ms.map_or(self.look, |until| Duration::from_millis(until - now));
            self.changes.wait(Instant::now() + left.min(self.look))?;
        }
    }
}
