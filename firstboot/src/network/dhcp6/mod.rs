//! IPv6 addresses that nobody gives a node: made from what a router advertises (SLAAC, RFC 4862), or lent by a DHCPv6
//! server (RFC 8415), as the router says.
//!
//! The kernel makes addresses and routes from advertisements, and keeps them up; [`advertisement`] reads the same
//! messages for what the kernel passes over: whether there is a DHCPv6 server, resolvers, the MTU. [`search`] looks on one
//! card, [`cards`] on all at once, for PID 1. [`keep`] is the service: it renews leases, and tells what becomes of addresses
//! that the kernel made.
//!
//! Nothing is released when the machine stops, as with IPv4.

pub mod advertisement;
pub mod apply;
pub mod autoconf;
pub mod cards;
pub mod exchange;
pub mod found;
pub mod health;
pub mod held;
pub mod keep;
pub mod kept;
pub mod lease;
pub mod message;
pub mod options;
mod renew;
pub mod search;
mod solicitation;

use std::net::Ipv6Addr;
use std::time::Duration;

use crate::stages::Advice;

/// Nobody gave this machine an IPv6 address.
#[derive(Debug, thiserror::Error)]
#[error("no router or DHCPv6 server gave this machine an IPv6 address within {} s; {seen}", .patience.as_secs())]
pub struct NoAddress {
    /// How long it was asked.
    pub patience: Duration,
    /// What was seen on each link.
    pub seen: String,
}

impl Advice for NoAddress {
    fn advice(&self) -> String {
        "check cable, switch port, and what the router advertises (RFC 4861: a lifetime, and a prefix of /64 to make \
         addresses from or the flag M with a DHCPv6 server), or write the node's address into node.toml on the seed \
         partition"
            .to_owned()
    }
}

/// An address that one machine may have, and that others can reach: not link-local. Site-local ones (RFC 3879) are taken
/// as those that are unique.
pub fn is_machines(address: Ipv6Addr) -> bool {
    let is_mapped = address.to_ipv4_mapped().is_some();
    let is_none = address.is_unspecified() || address.is_loopback() || address.is_multicast();
    !is_none && !is_mapped && !address.is_unicast_link_local()
}
