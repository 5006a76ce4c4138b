//! The options of a DHCPv6 message (RFC 8415, section 21): foreign bytes, turned into values or passed over.

use std::net::Ipv6Addr;

use bootwright_model::clock::is_server;

use super::is_machines;
use crate::network::dhcp::options::domains;

/// Options have numbers (RFC 8415 unless another is named). Who the client is.
pub const CLIENT: u16 = 1;
/// Who the server is.
pub const SERVER: u16 = 2;
/// An association of addresses that stay.
pub const IA_NA: u16 = 3;
/// An address of an association.
pub const IA_ADDRESS: u16 = 5;
/// Numbers of the options that are asked for.
pub const REQUEST: u16 = 6;
/// How much a server wants to be chosen.
pub const PREFERENCE: u16 = 7;
/// Hundredths of a second since the first message.
pub const ELAPSED: u16 = 8;
/// How it went.
pub const STATUS: u16 = 13;
/// DNS servers (RFC 3646).
pub const RESOLVERS: u16 = 23;
/// Domains that short names are looked up in (RFC 3646).
pub const SEARCH: u16 = 24;
/// SNTP servers (RFC 4075).
pub const SNTP_SERVERS: u16 = 31;
/// NTP servers (RFC 5908).
pub const NTP_SERVERS: u16 = 56;

/// Options within [`NTP_SERVERS`]: an address, and a name.
const NTP_ADDRESS: u16 = 1;
const NTP_NAME: u16 = 3;
/// Most values that are taken of one kind.
const MOST_VALUES: usize = 16;
/// Most options that are looked at: a message has a dozen.
const MOST_OPTIONS: usize = 128;
/// Longest words of a server that are shown, characters.
const MOST_WORDS: usize = 200;

/// Options in their order. What is cut off, or beyond a number that no server needs, is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options<'a>(Vec<(u16, &'a [u8])>);

impl<'a> Options<'a> {
    /// Those of a message without its header, or of an option.
    pub fn of(mut bytes: &'a [u8]) -> Options<'a> {
        let mut options = Vec::new();
        while let Some((&[a, b, c, d], rest)) = bytes.split_first_chunk::<4>() {
            let length = usize::from(u16::from_be_bytes([c, d]));
            let Some((value, rest)) = rest.split_at_checked(length) else { break };
            if options.len() == MOST_OPTIONS {
                break;
            }
            options.push((u16::from_be_bytes([a, b]), value));
            bytes = rest;
        }
        Options(options)
    }

    /// All with a number.
    pub fn all(&self, number: u16) -> impl Iterator<Item = &'a [u8]> + '_ {
        self.0.iter().filter(move |option| option.0 == number).map(|option| option.1)
    }

    /// The first with a number.
    pub fn bytes(&self, number: u16) -> Option<&'a [u8]> {
        self.all(number).next()
    }

    /// Addresses that a machine can be reached at, each once.
    pub fn addresses(&self, number: u16) -> Vec<Ipv6Addr> {
        let mut found = Vec::new();
        for bytes in self.all(number).flat_map(|value| value.chunks_exact(16)) {
            let address = address(bytes).filter(|address| is_machines(*address) && !found.contains(address));
            found.extend(address);
        }
        found.truncate(MOST_VALUES);
        found
    }

    /// Domains that short names are looked up in.
    pub fn search(&self) -> Vec<String> {
        let mut found = Vec::new();
        for domain in self.all(SEARCH).flat_map(domains) {
            if !found.contains(&domain) {
                found.push(domain);
            }
        }
        found
    }

    /// NTP servers, addresses and names, then SNTP servers: chrony asks both in the same way.
    pub fn time_servers(&self) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for inner in self.all(NTP_SERVERS).map(Options::of) {
            for (number, value) in &inner.0 {
                match *number {
                    NTP_ADDRESS => found
                        .extend(address(value).filter(|one| is_machines(*one)).map(|one| one.to_string())),
                    NTP_NAME => found.extend(domains(value).into_iter().filter(|name| is_server(name))),
                    _ => {}
                }
            }
        }
        found.extend(self.addresses(SNTP_SERVERS).iter().map(Ipv6Addr::to_string));
        let mut seen = Vec::new();
        found.retain(|server| {
            let is_new = !seen.contains(server);
            seen.push(server.clone());
            is_new
        });
        found.truncate(MOST_VALUES);
        found
    }

    /// The status, with the server's words; success if there is none (section 21.13).
    pub fn status(&self) -> Status {
        let Some((&[high, low], words)) = self.bytes(STATUS).and_then(|bytes| bytes.split_first_chunk::<2>())
        else {
            return Status::default();
        };
        let words = String::from_utf8_lossy(words);
        let words: String = words.chars().filter(|c| !c.is_control()).take(MOST_WORDS).collect();
        Status { code: u16::from_be_bytes([high, low]), words: words.trim().to_owned() }
    }
}

/// How a server says that it went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Section 21.13.
    pub code: u16,
    /// For people, in the server's language.
    pub words: String,
}

impl Status {
    /// `NotOnLink`: the address is of another network.
    pub const NOT_ON_LINK: u16 = 4;

    /// Nothing went wrong.
    pub fn is_success(&self) -> bool {
        self.code == 0
    }
}

/// `NoAddrsAvail (all are lent)`
impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.code {
            0 => write!(f, "Success")?,
            1 => write!(f, "UnspecFail")?,
            2 => write!(f, "NoAddrsAvail")?,
            3 => write!(f, "NoBinding")?,
            Status::NOT_ON_LINK => write!(f, "NotOnLink")?,
            5 => write!(f, "UseMulticast")?,
            code => write!(f, "status {code}")?,
        }
        if self.words.is_empty() { Ok(()) } else { write!(f, " ({})", self.words) }
    }
}

/// An address of 16 bytes.
pub fn address(bytes: &[u8]) -> Option<Ipv6Addr> {
    <[u8; 16]>::try_from(bytes).ok().map(Ipv6Addr::from)
}

/// Appends an option.
pub fn write(message: &mut Vec<u8>, number: u16, value: &[u8]) {
    message.extend(number.to_be_bytes());
    // What is written here is a few dozen bytes.
    message.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
    message.extend(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(number: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&mut bytes, number, value);
        bytes
    }

    fn v6(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_cut_off_is_left_out() {
        let mut bytes = one(RESOLVERS, &v6("fd00::53").octets());
        bytes.extend(one(RESOLVERS, &[v6("fd00::53").octets(), v6("fd00::54").octets()].concat()));
        assert_eq!(Options::of(&bytes).addresses(RESOLVERS), [v6("fd00::53"), v6("fd00::54")]);
        for cut in [1, 16, 17, 33] {
            let options = Options::of(&bytes[..bytes.len() - cut]);
            assert_eq!(options.addresses(RESOLVERS), [v6("fd00::53")], "{cut}");
        }
        assert_eq!(Options::of(&[0, 23, 255, 255, 1]), Options::default());
        assert_eq!(Options::of(&[0; 4 * 300]).0.len(), MOST_OPTIONS);
    }

    #[test]
    fn addresses_of_nobody_are_passed_over() {
        let none = ["::", "::1", "ff02::1", "fe80::1", "::ffff:10.0.0.1"];
        let bytes = one(RESOLVERS, &none.map(|one| v6(one).octets()).concat());
        assert_eq!(Options::of(&bytes).addresses(RESOLVERS), [Ipv6Addr::UNSPECIFIED; 0]);
    }

    #[test]
    fn time_servers_are_of_both_options() {
        let inner = [
            one(NTP_NAME, b"\x04time\x07example\x00"),
            one(NTP_ADDRESS, &v6("fd00::7b").octets()),
            // Multicast is nothing that chrony is given.
            one(2, &v6("ff05::101").octets()),
            one(NTP_NAME, b"\x03a b\x00"),
        ];
        let sntp = one(SNTP_SERVERS, &[v6("fd00::7b").octets(), v6("fd00::7c").octets()].concat());
        let bytes = [one(NTP_SERVERS, &inner.concat()), sntp].concat();
        assert_eq!(Options::of(&bytes).time_servers(), ["time.example", "fd00::7b", "fd00::7c"]);
    }

    #[test]
    fn a_status_is_told_in_the_words_of_the_field() {
        let status = |value: &[u8]| Options::of(&one(STATUS, value)).status();
        assert_eq!(status(b"\x00\x02all\nlent").to_string(), "NoAddrsAvail (alllent)");
        assert_eq!(status(&[0, 99]).to_string(), "status 99");
        assert!(status(&[]).is_success() && Options::default().status().is_success());
    }
}
