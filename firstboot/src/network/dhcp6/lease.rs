//! What a DHCPv6 server lends, checked: nothing here is taken from a message that cannot be so.

use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

use super::is_machines;
use super::options::{self, Options, Status};
use crate::network::lending::times::FOR_EVER;

/// One address, as a server lent it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Lease {
    /// This machine's address.
    pub address: Ipv6Addr,
    /// Who lent it: its DUID.
    pub server: Vec<u8>,
    /// Where its message came from: the server, or a relay on the link.
    pub from: Ipv6Addr,
    /// For how long it may be used for something new, or [`FOR_EVER`].
    pub preferred_seconds: u32,
    /// For how long it may be used, or [`FOR_EVER`].
    pub seconds: u32,
    /// T1: seconds until that server is asked for more.
    pub renewal_seconds: u32,
    /// T2: seconds until every server is asked for more.
    pub rebinding_seconds: u32,
}

/// What comes with it, or without an address if the router asks for no more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Told {
    /// In their order.
    pub resolvers: Vec<Ipv6Addr>,
    /// Domains that short names are looked up in.
    pub search: Vec<String>,
    /// NTP servers: addresses and names.
    pub time_servers: Vec<String>,
}

impl Told {
    /// Of a message.
    pub fn of(options: &Options<'_>) -> Told {
        Told {
            resolvers: options.addresses(options::RESOLVERS),
            search: options.search(),
            time_servers: options.time_servers(),
        }
    }

    /// With what another said behind, each once.
    pub fn and(mut self, other: Told) -> Told {
        add(&mut self.resolvers, other.resolvers);
        add(&mut self.search, other.search);
        add(&mut self.time_servers, other.time_servers);
        self
    }
}

fn add<T: PartialEq>(to: &mut Vec<T>, more: Vec<T>) {
    for one in more {
        if !to.contains(&one) {
            to.push(one);
        }
    }
}

/// Why a message lends nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// The server has none, or does not lend this one any more.
    #[error("{0}")]
    Status(Status),
    /// No association with our number, or no address in it that can be used.
    #[error("it lends no address that a machine can have")]
    NoAddress,
    /// They count one after the other.
    #[error("T1 of {renewal} s is after T2 of {rebinding} s")]
    Times {
        /// T1.
        renewal: u32,
        /// T2.
        rebinding: u32,
    },
}

impl Lease {
    /// What a message with these options lends for the association `iaid`; the first address that can be used.
    pub fn of(
        message: &Options<'_>,
        iaid: [u8; 4],
        server: &[u8],
        from: Ipv6Addr,
    ) -> Result<Lease, Unusable> {
        // Some servers have it there, though it is the association's (section 18.3.2).
        failed(message)?;
        let association = message.all(options::IA_NA).filter_map(|value| value.split_first_chunk::<12>());
        let ours =
            association.filter(|(head, _)| head[..4] == iaid).map(|(head, rest)| (head, Options::of(rest)));
        for (head, inner) in ours {
            failed(&inner)?;
            let (renewal, rebinding) = (word(&head[4..]), word(&head[8..]));
            // Section 21.4.
            if renewal > rebinding && rebinding > 0 {
                return Err(Unusable::Times { renewal, rebinding });
            }
            let Some((address, preferred, seconds)) = inner.all(options::IA_ADDRESS).find_map(lent) else {
                continue;
            };
            let (renewal_seconds, rebinding_seconds) = times(renewal, rebinding, preferred, seconds);
            let server = server.to_vec();
            return Ok(Lease {
                address,
                server,
                from,
                preferred_seconds: preferred,
                seconds,
                renewal_seconds,
                rebinding_seconds,
            });
        }
        Err(Unusable::NoAddress)
    }

    /// How long it lasts, for a person: `for 3600 s`.
    pub fn time(&self) -> String {
        match self.seconds {
            FOR_EVER => "for ever".to_owned(),
            seconds => format!("for {seconds} s"),
        }
    }
}

fn failed(options: &Options<'_>) -> Result<(), Unusable> {
    let status = options.status();
    if status.is_success() { Ok(()) } else { Err(Unusable::Status(status)) }
}

/// Address, preferred and valid lifetime of an option IA Address (section 21.6), if it can be used.
fn lent(value: &[u8]) -> Option<(Ipv6Addr, u32, u32)> {
    let (address, rest) = value.split_at_checked(16)?;
    let (times, inner) = rest.split_first_chunk::<8>()?;
    let address = options::address(address).filter(|address| is_machines(*address))?;
    let (preferred, seconds) = (word(times), word(&times[4..]));
    let is_good = seconds > 0 && preferred <= seconds && Options::of(inner).status().is_success();
    is_good.then_some((address, preferred, seconds))
}

/// T1 and T2: half and four fifths of the preferred time where the server leaves them to the client (section 14.2), and
/// never after the address is over.
fn times(renewal: u32, rebinding: u32, preferred: u32, seconds: u32) -> (u32, u32) {
    if seconds == FOR_EVER && renewal == 0 {
        return (FOR_EVER, FOR_EVER);
    }
    // One that is deprecated from the start is renewed by its valid time.
    let base = if preferred == 0 { seconds } else { preferred };
    let part = |tenths: u64| u32::try_from(u64::from(base) * tenths / 10).unwrap_or(FOR_EVER).max(1);
    let rebinding = if rebinding == 0 { part(8).max(renewal) } else { rebinding };
    let renewal = if renewal == 0 { part(5).min(rebinding) } else { renewal };
    // T1 that is over with the address, or after T2, would have it lost each time.
    match renewal < seconds && renewal <= rebinding && rebinding <= seconds {
        true => (renewal, rebinding),
        false => (part(5).min(seconds), part(8).min(seconds)),
    }
}

/// The first four bytes as a number; the caller has that many.
fn word(bytes: &[u8]) -> u32 {
    bytes.first_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const IAID: [u8; 4] = [0, 0, 0, 1];

    /// An association with one address.
    pub(crate) fn association(t1: u32, t2: u32, address: &str, preferred: u32, valid: u32) -> Vec<u8> {
        let address: Ipv6Addr = address.parse().unwrap();
        let inner = [&address.octets()[..], &preferred.to_be_bytes(), &valid.to_be_bytes()].concat();
        let mut value = [&IAID[..], &t1.to_be_bytes(), &t2.to_be_bytes()].concat();
        options::write(&mut value, options::IA_ADDRESS, &inner);
        let mut bytes = Vec::new();
        options::write(&mut bytes, options::IA_NA, &value);
        bytes
    }

    fn lease(bytes: &[u8]) -> Result<Lease, Unusable> {
        Lease::of(&Options::of(bytes), IAID, &[1, 2], "fe80::1".parse().unwrap())
    }

    #[test]
    fn times_that_the_server_leaves_open_are_the_rfcs() {
        let times = |t1, t2, preferred, valid| {
            let lease = lease(&association(t1, t2, "fd00::50", preferred, valid)).unwrap();
            (lease.renewal_seconds, lease.rebinding_seconds)
        };
        assert_eq!(times(0, 0, 100, 200), (50, 80));
        assert_eq!(times(30, 60, 100, 200), (30, 60));
        assert_eq!(times(30, 0, 100, 200), (30, 80));
        assert_eq!(times(0, 20, 100, 200), (20, 20));
        for (renewal, rebinding) in [(500, 900), (200, 200), (FOR_EVER, FOR_EVER)] {
            assert_eq!(times(renewal, rebinding, 100, 200), (50, 80));
        }
        assert_eq!(times(0, 0, 0, 200), (100, 160));
        assert_eq!(times(0, 0, FOR_EVER, FOR_EVER), (FOR_EVER, FOR_EVER));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let why = |bytes: &[u8]| lease(bytes).unwrap_err().to_string();
        for address in ["::", "::1", "ff02::1", "fe80::5"] {
            assert!(why(&association(0, 0, address, 1, 1)).contains("lends no address"), "{address}");
        }
        assert!(why(&association(0, 0, "fd00::50", 0, 0)).contains("lends no address"));
        assert!(why(&association(0, 0, "fd00::50", 9, 8)).contains("lends no address"));
        assert_eq!(why(&association(9, 8, "fd00::50", 10, 10)), "T1 of 9 s is after T2 of 8 s");
        assert!(why(&[]).contains("lends no address"));
        let mut status = Vec::new();
        options::write(&mut status, options::STATUS, b"\x00\x02none left");
        assert_eq!(why(&status), "NoAddrsAvail (none left)");
        let mut inner = [&IAID[..], &[0; 8]].concat();
        inner.extend(status);
        let mut bytes = Vec::new();
        options::write(&mut bytes, options::IA_NA, &inner);
        assert_eq!(why(&bytes), "NoAddrsAvail (none left)");
    }
}
