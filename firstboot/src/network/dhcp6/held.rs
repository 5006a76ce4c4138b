//! The IPv6 address that this machine has: written by PID 1 when it got it, kept up by `firstboot dhcp6`.

use std::fs;
use std::io;
use std::net::Ipv6Addr;
use std::path::Path;

use bootwright_model::layout;
use bootwright_model::links::Link;
use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};

use super::lease::{FOR_EVER, Lease, Told};
use crate::network::dhcp::held::Phase;
use crate::report::under;

/// An address, where it is from, and since when. Times are in milliseconds since the kernel's start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Held {
    /// Name of the link that has the address.
    pub link: String,
    /// The node's address with the prefix length of its network.
    pub address: Ipv6Net,
    /// Who advertised the network.
    pub router: Ipv6Addr,
    /// When the lease was asked for: its time counts from then.
    pub since_ms: u64,
    /// What a server lent; nothing if the kernel made the address.
    pub lease: Option<Lease>,
    /// What router and server said beside.
    pub told: Told,
    /// The link as node.toml or a cloud describes it; empty if nobody does.
    #[serde(default)]
    pub described: Link,
}

impl Held {
    /// Reads it; none if the address is from elsewhere.
    pub fn read(root: &Path) -> io::Result<Option<Held>> {
        match fs::read(under(root, layout::LEASE_IPV6)) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes it, whole or not at all.
    pub fn write(&self, root: &Path) -> io::Result<()> {
        crate::files::replace(&under(root, layout::LEASE_IPV6), &serde_json::to_vec(self)?, 0o644)
    }
}

/// What is to be done about a lease that counts from `since_ms`.
pub fn phase(lease: &Lease, since_ms: u64, now_ms: u64) -> Phase {
    let at = |seconds: u32| since_ms + u64::from(seconds) * 1000;
    if lease.seconds == FOR_EVER && lease.renewal_seconds == FOR_EVER {
        Phase::Rest(None)
    } else if now_ms < at(lease.renewal_seconds) {
        Phase::Rest(Some(at(lease.renewal_seconds)))
    } else if now_ms < at(lease.rebinding_seconds) {
        Phase::Renew(at(lease.rebinding_seconds))
    } else if now_ms < at(lease.seconds) {
        Phase::Rebind(at(lease.seconds))
    } else {
        Phase::Ended
    }
}

/// What is left of a time of a lease, seconds, or [`FOR_EVER`].
pub fn left(seconds: u32, since_ms: u64, now_ms: u64) -> u32 {
    if seconds == FOR_EVER {
        return FOR_EVER;
    }
    let end = since_ms + u64::from(seconds) * 1000;
    u32::try_from(end.saturating_sub(now_ms) / 1000).unwrap_or(FOR_EVER - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_lease_has_its_phases() {
        let lease = lease();
        let phases = [5_000, 54_999, 55_000, 85_000, 125_000].map(|now| phase(&lease, 5_000, now));
        assert_eq!(
            phases,
            [
                Phase::Rest(Some(55_000)),
                Phase::Rest(Some(55_000)),
                Phase::Renew(85_000),
                Phase::Rebind(125_000),
                Phase::Ended
            ]
        );
        assert_eq!([5_000, 124_500, 200_000].map(|now| left(120, 5_000, now)), [120, 0, 0]);
        assert_eq!(left(FOR_EVER, 5_000, 9_000), FOR_EVER);
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Held::read(root.path()).unwrap(), None);
        let held = Held {
            link: "eth0".into(),
            address: "fd00:9::50/64".parse().unwrap(),
            router: "fe80::1".parse().unwrap(),
            since_ms: 5,
            lease: Some(lease()),
            told: Told { time_servers: vec!["time.example".into()], ..Told::default() },
            described: Link::default(),
        };
        held.write(root.path()).unwrap();
        assert_eq!(Held::read(root.path()).unwrap(), Some(held));
        fs::write(root.path().join("run/bootwright/lease-ipv6.json"), "{").unwrap();
        assert!(Held::read(root.path()).is_err());
    }
}
