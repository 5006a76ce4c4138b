//! The IPv6 address that a link has, with its time.

use std::net::Ipv6Addr;

use bootwright_model::layout;
use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};

use super::lease::{Lease, Told};
use crate::network::lending::kept::Holding;
use crate::network::lending::times::{self, Phase, Times};
use crate::network::resolvers;

/// An address, where it is from, and since when. Times are in milliseconds since the kernel's start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Held {
    /// With the prefix length of its network.
    pub address: Ipv6Net,
    /// Who advertised the network.
    pub router: Ipv6Addr,
    /// When the lease was asked for: its time counts from then.
    pub since_ms: u64,
    /// What a server lent; nothing if the kernel made the address.
    pub lease: Option<Lease>,
    /// What router and server said beside.
    pub told: Told,
}

impl Holding for Held {
    const OWN: &'static str = layout::LEASE_IPV6;
    const FURTHER: &'static str = layout::LEASES_IPV6;

    fn resolvers(number: usize) -> String {
        resolvers::of_ipv6(number)
    }
}

impl Held {
    /// What is to be done about its lease, at a time.
    pub fn phase(&self, lease: &Lease, now_ms: u64) -> Phase {
        let Lease { renewal_seconds, rebinding_seconds, seconds, .. } = *lease;
        Times { since_ms: self.since_ms, renewal_seconds, rebinding_seconds, seconds }.phase(now_ms)
    }

    /// What is left of a time of its lease, seconds.
    pub fn left(&self, seconds: u32, now_ms: u64) -> u32 {
        times::left(seconds, self.since_ms, now_ms)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn held() -> Held {
        Held {
            address: "fd00:9::50/64".parse().unwrap(),
            router: "fe80::1".parse().unwrap(),
            since_ms: 5_000,
            lease: Some(lease()),
            told: Told { time_servers: vec!["time.example".into()], ..Told::default() },
        }
    }

    fn lease() -> Lease {
        Lease {
            address: "fd00:9::50".parse().unwrap(),
            server: vec![0, 3, 0, 1],
            from: "fe80::1".parse().unwrap(),
            preferred_seconds: 100,
            seconds: 120,
            renewal_seconds: 50,
            rebinding_seconds: 80,
        }
    }

    #[test]
    fn a_lease_counts_from_when_it_was_asked_for() {
        let (held, lease) = (held(), lease());
        assert_eq!(held.phase(&lease, 55_000), Phase::Renew(85_000));
        assert_eq!(held.left(lease.preferred_seconds, 15_000), 90);
    }
}
