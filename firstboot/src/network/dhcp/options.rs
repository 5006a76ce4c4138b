//! The options of a DHCP message (RFC 2132): foreign bytes, turned into values or passed over.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use smoltcp::wire::DhcpPacket;

use super::lease::Route;

/// Options have numbers (RFC 2132 unless another is named). The subnet mask.
pub const SUBNET_MASK: u8 = 1;
/// Routers on the link.
pub const ROUTERS: u8 = 3;
/// DNS servers.
pub const RESOLVERS: u8 = 6;
/// The client's host name.
pub const HOST_NAME: u8 = 12;
/// The client's domain.
pub const DOMAIN: u8 = 15;
/// MTU of the link.
pub const MTU: u8 = 26;
/// NTP servers.
pub const TIME_SERVERS: u8 = 42;
/// How long the address is lent.
pub const LEASE_SECONDS: u8 = 51;
/// The fields `sname` and `file` have options in them.
const OVERLOAD: u8 = 52;
/// What a message is.
pub const MESSAGE_TYPE: u8 = 53;
/// The server's address.
pub const SERVER: u8 = 54;
/// Why a server refuses.
pub const MESSAGE: u8 = 56;
/// T1.
pub const RENEWAL_SECONDS: u8 = 58;
/// T2.
pub const REBINDING_SECONDS: u8 = 59;
/// Who the client is.
pub const CLIENT_IDENTIFIER: u8 = 61;
/// RFC 3397.
pub const SEARCH: u8 = 119;
/// RFC 3442.
pub const CLASSLESS_ROUTES: u8 = 121;
/// The same, from before RFC 3442: Microsoft's servers send it.
pub const CLASSLESS_ROUTES_OF_MICROSOFT: u8 = 249;

/// Where the fields `sname` and `file` lie in a message, and the options (RFC 2131, section 2).
const SNAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;
const OPTIONS: usize = 240;

/// Longest domain name, characters, and most of them that are taken.
const LONGEST_DOMAIN: usize = 253;
const MOST_DOMAINS: usize = 6;
/// Most addresses or routes that are taken of one option.
const MOST_VALUES: usize = 64;

/// The options of one message by number, as bytes.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Options(BTreeMap<u8, Vec<u8>>);

impl Options {
    /// Those of a whole message, also in fields that the server put options into (option 52). What is cut off is left
    /// out.
    pub fn of(message: &[u8]) -> Options {
        let mut options = Options::default();
        if message.len() < OPTIONS {
            return options;
        }
        options.gather(message);
        let overload = options.bytes(OVERLOAD).and_then(|bytes| bytes.first()).copied().unwrap_or(0);
        for (flag, field) in [(1, FILE), (2, SNAME)] {
            if overload & flag != 0 {
                // The reader of options reads those of a whole message.
                let mut other = vec![0; OPTIONS];
                other.extend_from_slice(&message[field]);
                options.gather(&other);
            }
        }
        options
    }

    /// An option that comes more than once is one in pieces (RFC 3396).
    fn gather(&mut self, message: &[u8]) {
        for option in DhcpPacket::new_unchecked(message).options() {
            self.0.entry(option.kind).or_default().extend_from_slice(option.data);
        }
    }

    /// As it is.
    pub fn bytes(&self, number: u8) -> Option<&[u8]> {
        self.0.get(&number).map(Vec::as_slice)
    }

    /// A number of four bytes.
    pub fn word(&self, number: u8) -> Option<u32> {
        self.bytes(number)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// A number of two bytes.
    pub fn half(&self, number: u8) -> Option<u16> {
        self.bytes(number)?.try_into().ok().map(u16::from_be_bytes)
    }

    /// One address.
    pub fn address(&self, number: u8) -> Option<Ipv4Addr> {
        self.word(number).map(Ipv4Addr::from_bits)
    }

    /// Addresses that machines can be reached at, without those that are there twice.
    pub fn addresses(&self, number: u8) -> Vec<Ipv4Addr> {
        let mut addresses = Vec::new();
        for bytes in self.bytes(number).unwrap_or_default().chunks_exact(4).take(MOST_VALUES) {
            let address = Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]);
            if is_host(address) && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }

    /// Words for a person.
    pub fn text(&self, number: u8) -> Option<String> {
        let text = String::from_utf8_lossy(self.bytes(number)?);
        let text: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
        (!text.trim().is_empty()).then(|| text.trim().to_owned())
    }

    /// Routes of RFC 3442; nothing if one of them cannot be.
    pub fn routes(&self, number: u8) -> Option<Vec<Route>> {
        let mut rest = self.bytes(number)?;
        let mut routes = Vec::new();
        while let Some((&length, after)) = rest.split_first() {
            let significant = usize::from(length.checked_add(7)? / 8);
            let (prefix, after) = after.split_at_checked(significant)?;
            let (hop, after) = after.split_at_checked(4)?;
            let mut octets = [0; 4];
            octets.get_mut(..significant)?.copy_from_slice(prefix);
            // Bits beyond the length are to be taken off (section "Classless Route Option Format").
            let to = Ipv4Net::new(octets.into(), length).ok()?.trunc();
            let hop = Ipv4Addr::new(hop[0], hop[1], hop[2], hop[3]);
            routes.push(Route { to, via: (!hop.is_unspecified()).then_some(hop) });
            if routes.len() > MOST_VALUES {
                return None;
            }
            rest = after;
        }
        (!routes.is_empty()).then_some(routes)
    }

    /// Domains that short names are looked up in: the list of RFC 3397, or the one domain, in which servers also write
    /// several with spaces between.
    pub fn search(&self) -> Vec<String> {
        let listed = self.bytes(SEARCH).map(domains).unwrap_or_default();
        if !listed.is_empty() {
            return listed;
        }
        let text = self.text(DOMAIN).unwrap_or_default();
        text.split_whitespace().filter_map(domain).take(MOST_DOMAINS).collect()
    }
}

/// An address that a machine may be reached at. A link-local one (169.254.0.0/16) too: clouds have their DHCP server,
/// resolver and NTP server there, 169.254.169.254 at Google and Oracle, and some routers.
pub fn is_host(address: Ipv4Addr) -> bool {
    // 240.0.0.0/4 is reserved (RFC 1112, section 4).
    let reserved = address.octets()[0] >= 240 || address.octets()[0] == 0;
    !reserved && !address.is_loopback() && !address.is_multicast()
}

/// Names one after the other, as in DNS (RFC 1035, section 4.1.4). What follows a faulty one is left out.
pub(crate) fn domains(bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let mut place = 0;
    while place < bytes.len() && found.len() < MOST_DOMAINS {
        let Some((name, next)) = dns_name(bytes, place) else { break };
        found.extend(domain(&name));
        place = next;
    }
    found
}

/// The name at `place`, and where it ends.
fn dns_name(bytes: &[u8], mut place: usize) -> Option<(String, usize)> {
    let mut name = String::new();
    let mut end = None;
    loop {
        let length = *bytes.get(place)?;
        match length {
            0 => return Some((name, end.unwrap_or(place + 1))),
            1..=63 => {
                let label = bytes.get(place + 1..place + 1 + usize::from(length))?;
                if !name.is_empty() {
                    name.push('.');
                }
                name.push_str(std::str::from_utf8(label).ok()?);
                if name.len() > LONGEST_DOMAIN {
                    return None;
                }
                place += 1 + usize::from(length);
            }
            0xc0.. => {
                let target = usize::from(length & 0x3f) << 8 | usize::from(*bytes.get(place + 1)?);
                end.get_or_insert(place + 2);
                // Backwards only, so that it comes to an end.
                place = Some(target).filter(|target| *target < place)?;
            }
            _ => return None,
        }
    }
}

/// A domain as resolv.conf(5) may have it: nothing in it ends the line.
fn domain(text: &str) -> Option<String> {
    let text = text.trim_end_matches('.').to_ascii_lowercase();
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    (text.len() <= LONGEST_DOMAIN && text.split('.').all(is_label)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(number: u8, bytes: &[u8]) -> Options {
        Options([(number, bytes.to_vec())].into())
    }

    #[test]
    fn routes_have_as_many_bytes_as_their_prefix() {
        // The examples of RFC 3442, with host bits in one of them.
        let bytes = [0, 10, 0, 0, 1, 24, 10, 229, 0, 10, 0, 0, 2, 25, 10, 229, 0, 129, 0, 0, 0, 0];
        let routes = options(CLASSLESS_ROUTES, &bytes).routes(CLASSLESS_ROUTES).unwrap();
        let shown: Vec<String> = routes.iter().map(|route| format!("{} {:?}", route.to, route.via)).collect();
        assert_eq!(
            shown,
            ["0.0.0.0/0 Some(10.0.0.1)", "10.229.0.0/24 Some(10.0.0.2)", "10.229.0.128/25 None"]
        );
        for faulty in [&[33, 1, 2, 3, 4, 5, 6, 7, 8, 9][..], &[24, 10, 0], &[255], &[]] {
            assert_eq!(options(CLASSLESS_ROUTES, faulty).routes(CLASSLESS_ROUTES), None, "{faulty:?}");
        }
    }

    #[test]
    fn search_domains_may_point_back() {
        // The example of RFC 3397, section 2: eng.apple.com. marketing.apple.com.
        let bytes = b"\x03eng\x05apple\x03com\x00\x09marketing\xc0\x04";
        assert_eq!(options(SEARCH, bytes).search(), ["eng.apple.com", "marketing.apple.com"]);
        for faulty in [&b"\xc0\x00"[..], b"\x03a b\x00", b"\x05ab", b"\x80\x00", b"\x01a\xc0\x02"] {
            assert_eq!(options(SEARCH, faulty).search(), [""; 0], "{faulty:?}");
        }
        assert_eq!(options(DOMAIN, b"Example.COM. lab.example.\0").search(), ["example.com", "lab.example"]);
        // Nothing ends the line in resolv.conf.
        assert_eq!(options(DOMAIN, b"a\nnameserver 1.2.3.4").search(), ["anameserver", "1.2.3.4"]);
    }

    #[test]
    fn pieces_are_put_together_and_other_fields_are_read() {
        let mut message = vec![0; OPTIONS];
        message[FILE.start..FILE.start + 6].copy_from_slice(&[RESOLVERS, 4, 10, 0, 0, 9]);
        message[SNAME.start..SNAME.start + 4].copy_from_slice(&[MTU, 2, 5, 120]);
        message.extend([RESOLVERS, 2, 10, 0, 0, RESOLVERS, 2, 0, 3, OVERLOAD, 1, 3, 255, MTU, 2, 9, 9]);
        let options = Options::of(&message);
        assert_eq!(options.addresses(RESOLVERS), [Ipv4Addr::new(10, 0, 0, 3), Ipv4Addr::new(10, 0, 0, 9)]);
        assert_eq!(options.half(MTU), Some(1400));
        assert_eq!(Options::of(&message[..100]), Options::default());
    }
}
