//! What a router advertises (RFC 4861, section 4.2): foreign bytes, turned into values or refused as a whole.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::lease::Told;
use super::{is_machines, options};
use crate::network::dhcp::options::domains;

/// `type` of ICMPv6.
pub const ADVERTISEMENT: u8 = 134;
/// Bytes before the options.
const HEADER: usize = 16;
/// Flags of the header: M and O.
const MANAGED: u8 = 0x80;
const OTHER: u8 = 0x40;
/// Options, RFC 4861 section 4.6 and RFC 8106.
const PREFIX: u8 = 3;
const MTU: u8 = 5;
const RESOLVERS: u8 = 25;
const SEARCH: u8 = 31;
/// Flags of a prefix: L and A.
const ON_LINK: u8 = 0x80;
const AUTONOMOUS: u8 = 0x40;
/// Smallest MTU of IPv6, bytes (RFC 8200, section 5).
const SMALLEST_MTU: u32 = 1280;
/// Most values that are taken of one kind.
const MOST_VALUES: usize = 16;

/// A router's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertisement {
    /// Its link-local address.
    pub router: Ipv6Addr,
    /// M: a DHCPv6 server lends addresses.
    pub managed: bool,
    /// O: a DHCPv6 server knows resolvers and the like.
    pub other: bool,
    /// How long it is a default router; 0: it is none.
    pub seconds: u16,
    /// Of the link, bytes.
    pub mtu: Option<u32>,
    /// Networks.
    pub prefixes: Vec<Prefix>,
    /// Resolvers and domains (RFC 8106); no NTP servers.
    pub told: Told,
}

/// A network of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// Which.
    pub network: Ipv6Net,
    /// L: its addresses are on the link.
    pub on_link: bool,
    /// A: machines make addresses of it.
    pub autonomous: bool,
    /// How long it counts.
    pub seconds: u32,
}

/// Why an advertisement is passed over (RFC 4861, section 6.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is something else.
    #[error("no router advertisement")]
    Other,
    /// Not of the link: a router would have taken one off.
    #[error("a hop limit of {0}, so that it is not from this link")]
    HopLimit(u8),
    /// Not of a router's own address.
    #[error("it comes from {0}, which is no link-local address")]
    Source(Ipv6Addr),
    /// An option of no length, or one that goes beyond the end.
    #[error("an option with a length that cannot be")]
    Length,
}

impl Advertisement {
    /// Of an ICMPv6 message, whose checksum the kernel has compared.
    pub fn of(bytes: &[u8], router: Ipv6Addr, hop_limit: u8) -> Result<Advertisement, Refused> {
        let (head, mut rest) = bytes.split_first_chunk::<HEADER>().ok_or(Refused::Other)?;
        if head[0] != ADVERTISEMENT || head[1] != 0 {
            return Err(Refused::Other);
        }
        if hop_limit != u8::MAX {
            return Err(Refused::HopLimit(hop_limit));
        }
        if !router.is_unicast_link_local() {
            return Err(Refused::Source(router));
        }
        let mut read = Advertisement {
            router,
            managed: head[5] & MANAGED != 0,
            other: head[5] & OTHER != 0,
            seconds: u16::from_be_bytes([head[6], head[7]]),
            mtu: None,
            prefixes: Vec::new(),
            told: Told::default(),
        };
        while let Some((kind, after)) = rest.split_first() {
            // Units of eight bytes, type and length among them.
            let length = after.first().map_or(0, |units| usize::from(*units) * 8);
            if length == 0 {
                return Err(Refused::Length);
            }
            let (option, after) = rest.split_at_checked(length).ok_or(Refused::Length)?;
            read.take(*kind, &option[2..]);
            rest = after;
        }
        Ok(read)
    }

    /// An option without type and length. One that is too short for its kind, or beyond what a link needs, is passed over.
    fn take(&mut self, kind: u8, value: &[u8]) {
        match kind {
            PREFIX if self.prefixes.len() < MOST_VALUES => self.prefixes.extend(prefix(value)),
            MTU => {
                let mtu = value.get(2..6).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
                self.mtu = mtu.filter(|mtu| *mtu >= SMALLEST_MTU).or(self.mtu);
            }
            RESOLVERS | SEARCH if seconds(value).is_some_and(|seconds| seconds > 0) => {
                let list = &value[6..];
                let told = if kind == SEARCH {
                    Told { search: domains(list), ..Told::default() }
                } else {
                    let addresses = list.chunks_exact(16).filter_map(options::address);
                    let resolvers =
                        addresses.filter(|address| is_machines(*address)).take(MOST_VALUES).collect();
                    Told { resolvers, ..Told::default() }
                };
                self.told = std::mem::take(&mut self.told).and(told);
                self.told.resolvers.truncate(MOST_VALUES);
                self.told.search.truncate(MOST_VALUES);
            }
            _ => {}
        }
    }

    /// Prefixes that the kernel makes addresses of: an interface identifier is 64 bits long (RFC 4291, section 2.5.1).
    pub fn autonomous(&self) -> impl Iterator<Item = Ipv6Net> + '_ {
        let usable = self.prefixes.iter().filter(|prefix| prefix.autonomous && prefix.seconds > 0);
        usable.map(|prefix| prefix.network).filter(|network| network.prefix_len() == 64)
    }

    /// The network around an address that is lent without one: what the router says is on the link.
    pub fn network_of(&self, address: Ipv6Addr) -> Option<Ipv6Net> {
        let around = self.prefixes.iter().filter(|prefix| prefix.on_link && prefix.seconds > 0);
        let around = around.map(|prefix| prefix.network).filter(|network| network.contains(&address));
        around.max_by_key(Ipv6Net::prefix_len)
    }
}

/// The time in front of the list of resolvers or domains.
fn seconds(value: &[u8]) -> Option<u32> {
    value.get(2..6)?.try_into().ok().map(u32::from_be_bytes)
}

fn prefix(value: &[u8]) -> Option<Prefix> {
    let (&length, flags) = (value.first()?, *value.get(1)?);
    let address = options::address(value.get(14..30)?).filter(|address| is_machines(*address))?;
    let network = Ipv6Net::new(address, length).ok()?.trunc();
    Some(Prefix {
        network,
        on_link: flags & ON_LINK != 0,
        autonomous: flags & AUTONOMOUS != 0,
        seconds: seconds(value)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTER: &str = "fe80::1";

    fn option(kind: u8, value: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind, 0];
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes[1] = u8::try_from(bytes.len() / 8).unwrap();
        bytes
    }

    fn network(length: u8, flags: u8, seconds: u32, address: &str) -> Vec<u8> {
        let address: Ipv6Addr = address.parse().unwrap();
        let head = [&[length, flags][..], &seconds.to_be_bytes(), &[0; 8]].concat();
        option(PREFIX, &[&head[..], &address.octets()].concat())
    }

    fn message(flags: u8, options: &[Vec<u8>]) -> Vec<u8> {
        let head = [ADVERTISEMENT, 0, 0, 0, 64, flags, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
        [&head[..], &options.concat()].concat()
    }

    fn read(bytes: &[u8]) -> Result<Advertisement, Refused> {
        Advertisement::of(bytes, ROUTER.parse().unwrap(), 255)
    }

    #[test]
    fn all_that_a_node_needs_is_read() {
        let resolvers: Vec<u8> = ["fd00::53", "fe80::53"]
            .iter()
            .flat_map(|one| one.parse::<Ipv6Addr>().unwrap().octets())
            .collect();
        let options = [
            network(64, ON_LINK | AUTONOMOUS, 3600, "fd00:9::"),
            network(60, AUTONOMOUS, 3600, "fd00:9:0:10::"),
            network(64, AUTONOMOUS, 0, "fd00:8::"),
            option(MTU, &[0, 0, 0, 0, 5, 120]),
            option(RESOLVERS, &[&[0, 0, 0, 0, 0, 9][..], &resolvers].concat()),
            option(SEARCH, b"\0\0\0\0\0\x09\x03lab\x07example\x00"),
            option(SEARCH, b"\0\0\0\0\0\x00\x03old\x07example\x00"),
            // One that is not known.
            option(200, &[1; 40]),
        ];
        let read = read(&message(MANAGED | OTHER, &options)).unwrap();
        assert_eq!((read.managed, read.other, read.seconds, read.mtu), (true, true, 0x0708, Some(1400)));
        assert_eq!(read.told.resolvers, ["fd00::53".parse::<Ipv6Addr>().unwrap()]);
        assert_eq!(read.told.search, ["lab.example"]);
        assert_eq!(read.autonomous().collect::<Vec<_>>(), ["fd00:9::/64".parse().unwrap()]);
        assert_eq!(read.network_of("fd00:9::50".parse().unwrap()), "fd00:9::/64".parse().ok());
        assert_eq!(read.network_of("fd00:9:0:10::50".parse().unwrap()), None, "it is not on the link");
    }

    #[test]
    fn what_is_not_of_a_router_on_the_link_is_refused() {
        let bytes = message(0, &[network(64, AUTONOMOUS, 3600, "fd00:9::")]);
        let of = |router: &str, hops| Advertisement::of(&bytes, router.parse().unwrap(), hops).map(drop);
        assert_eq!(of(ROUTER, 255), Ok(()));
        assert_eq!(of(ROUTER, 254), Err(Refused::HopLimit(254)));
        assert!(matches!(of("fd00:9::1", 255), Err(Refused::Source(_))));
        assert_eq!(read(&bytes[..15]), Err(Refused::Other));
        assert_eq!(read(&[&[133, 0][..], &bytes[2..]].concat()), Err(Refused::Other));
        // No length, and more than there is.
        for length in [0, 5, 255] {
            let mut bytes = bytes.clone();
            bytes[HEADER + 1] = length;
            assert_eq!(read(&bytes), Err(Refused::Length), "{length}");
        }
        assert_eq!(read(&bytes[..bytes.len() - 1]), Err(Refused::Length));
    }

    #[test]
    fn short_options_and_small_mtus_are_passed_over() {
        let options = [
            vec![PREFIX, 1, 64, 0xc0, 0, 0, 0, 9],
            vec![MTU, 1, 0, 0, 0, 0, 2, 0],
            vec![RESOLVERS, 1, 0, 0, 0, 0, 0, 9],
        ];
        let read = read(&message(0, &options)).unwrap();
        assert_eq!((read.prefixes.len(), read.mtu, read.told), (0, None, Told::default()));
    }
}
