//! What became of an address that the kernel made from advertisements.

use std::net::Ipv6Addr;

use super::held::Held;
use crate::network::dhcp::acquire::Card;
use crate::network::netlink::Ipv6Address;

/// As far as it is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Of the address itself.
    pub state: State,
    /// What the kernel made of other networks that the router advertises.
    pub others: Vec<Ipv6Addr>,
}

/// An address, in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is there.
    Good,
    /// It is used for nothing new any more.
    Deprecated,
    /// It is not.
    Gone,
}

impl Health {
    /// Of an address on the link with an index; `here` are all addresses of the machine.
    pub fn of(address: Ipv6Addr, index: u32, here: &[Ipv6Address]) -> Health {
        let on_link = || here.iter().filter(|one| one.index == index);
        let state = match on_link().find(|one| one.address.addr() == address) {
            Some(one) if one.deprecated => State::Deprecated,
            // Also while the kernel looks whether another machine has it, as after the cable was out.
            Some(one) if !one.duplicate => State::Good,
            _ => State::Gone,
        };
        let mut others: Vec<Ipv6Addr> = on_link()
            .filter(|one| one.is_made() && !one.tentative && !one.deprecated)
            .map(|one| one.address.addr())
            .filter(|one| *one != address)
            .collect();
        others.sort();
        Health { state, others }
    }

    /// What a person should know of it; nothing if it is no worse than before. `own`: it is the node's own address.
    pub fn told(&self, before: &Health, held: &Held, card: &Card, own: bool) -> Option<String> {
        let (address, router) = (held.address.addr(), held.router);
        let others: Vec<String> = self.others.iter().map(Ipv6Addr::to_string).collect();
        let others = others.join(", ");
        let what = match self.state {
            State::Good if before.state != State::Good => {
                return Some(format!("{address} on {card} is in order again"));
            }
            State::Good if self.others.iter().any(|one| !before.others.contains(one)) => {
                return Some(format!(
                    "{card} has got {others} of another network too; {} goes on with {address}",
                    if own { "this node" } else { "the link" }
                ));
            }
            State::Good => return None,
            State::Deprecated => "is used for nothing new any more",
            State::Gone => "is gone",
        };
        if before.state == self.state && before.others == self.others {
            return None;
        }
        let others = match others.as_str() {
            "" => String::new(),
            others => format!(", but another, of which {others} was made"),
        };
        let (whose, next) = match own {
            true => (
                "this node's address",
                ". What runs here has no other: let the router advertise the network again, or restart the machine",
            ),
            false => ("the address", ""),
        };
        Some(format!(
            "{whose} {address} on {card} {what}: {router} does not advertise its network any more{others}{next}"
        ))
    }
}
