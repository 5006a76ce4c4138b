//! A lease that is held: how long nothing is to be done about it, asking for more time, and asking whether it is of the network
//! that the card is plugged into (RFC 8415, section 18.2).

use std::io;
use std::net::Ipv6Addr;
use std::time::Duration;

use super::apply;
use super::exchange::{Exchange, Take};
use super::lease::{Lease, Told};
use super::message::Ask;
use super::options::Status;
use crate::network::dhcp::acquire::Card;
use crate::network::lending::carrier::{Rest, Rested};
use crate::network::netlink::LinkChanges;

/// Pauses between two requests for more time, milliseconds (section 7.6: `REN_TIMEOUT`, `REN_MAX_RT`).
const RENEW_PAUSES: [u64; 7] = [10_000, 20_000, 40_000, 80_000, 160_000, 320_000, 600_000];
/// Pauses of CONFIRM: 10 s in all (`CNF_TIMEOUT`, `CNF_MAX_RT`, `CNF_MAX_RD`).
const CONFIRM_PAUSES: [u64; 4] = [1_000, 2_000, 4_000, 3_000];
/// Longest time without a look at the address, should a word of the kernel be lost.
pub(super) const LOOK: Duration = Duration::from_secs(60);

/// How a server answers who asks for more time.
pub(super) enum More {
    /// It lends the address for longer.
    Lease(Lease, Told),
    /// It does not.
    Lost(String),
}

/// Waits until a time, milliseconds since the kernel's start, or for ever; or until something becomes of the card, which
/// `find` finds, or of the address.
pub(super) fn rest(
    card: &Card,
    address: Ipv6Addr,
    until_ms: Option<u64>,
    carriers: &mut Option<u32>,
    find: &mut dyn FnMut() -> Option<Card>,
) -> io::Result<Rested> {
    let changes = LinkChanges::open_with_ipv6_addresses()?;
    let has_address = || Ok(apply::present(card.index, address)?.is_some());
    Rest { card, changes, look: LOOK, find, has_address: &has_address }.until(until_ms, carriers)
}

/// Asks until the end of the exchange; nothing if no server answers.
pub(super) fn ask_for_more(exchange: Exchange<'_>, ask: Ask<'_>, lease: &Lease) -> io::Result<Option<More>> {
    let last = RENEW_PAUSES[RENEW_PAUSES.len() - 1];
    let pauses = RENEW_PAUSES.into_iter().chain(std::iter::repeat(last));
    let mut more = None;
    exchange.ask(ask, pauses, &mut |answer| {
        if answer.is_advertisement {
            return Take::No;
        }
        more = Some(match answer.lease {
            Ok(longer) if longer.address == lease.address => More::Lease(longer, answer.told),
            // Nobody has looked whether another machine has that one: a search does.
            Ok(_) => More::Lost("the server lends another address".to_owned()),
            Err(why) => More::Lost(format!("the server does not lend it any more: {why}")),
        });
        Take::Best
    })?;
    Ok(more)
}

/// Whether the address is still of the network that the card is plugged into. Without an answer it is taken to be
/// (section 18.2.3).
pub(super) fn confirm(exchange: Exchange<'_>, lease: &Lease) -> io::Result<bool> {
    let mut is_good = true;
    exchange.ask(Ask::Confirm(lease), CONFIRM_PAUSES, &mut |answer| {
        if answer.is_advertisement {
            return Take::No;
        }
        is_good = answer.status.code != Status::NOT_ON_LINK;
        Take::Best
    })?;
    Ok(is_good)
}
