//! Messages to and from a DHCPv6 server (RFC 8415, section 8).
//!
//! Written and read here: a message is a header of four bytes and options, and of those a node needs a dozen. dhcproto
//! was not taken for the reasons that `network/dhcp/message.rs` gives, which hold for its half of DHCPv6 too: it asks
//! for random numbers in a way that waits early in a boot, and one option that is faulty loses all that follow.

use std::net::Ipv6Addr;

use super::lease::{Lease, Told, Unusable};
use super::options::{self, Options, Status};

/// What servers are asked for beside the address.
const WANTED: [u16; 4] = [options::RESOLVERS, options::SEARCH, options::SNTP_SERVERS, options::NTP_SERVERS];
/// Longest message that is taken, bytes: what fits in an Ethernet frame.
pub const LARGEST_MESSAGE: usize = 1452;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// DUID: which machine (section 11).
    pub duid: Vec<u8>,
    /// IAID: which of its links (section 12).
    pub iaid: [u8; 4],
}

/// What is said to servers; the numbers are those of section 7.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask<'a> {
    /// SOLICIT: who has an address?
    Solicit,
    /// REQUEST: the one that this server advertised.
    Request(&'a Lease),
    /// CONFIRM: is it still of this network?
    Confirm(&'a Lease),
    /// RENEW: for longer, of the server that lent it.
    Renew(&'a Lease),
    /// REBIND: for longer, of any server.
    Rebind(&'a Lease),
    /// DECLINE: another machine has it.
    Decline(&'a Lease),
    /// INFORMATION-REQUEST: resolvers and the like alone.
    Information,
}

impl Ask<'_> {
    /// `msg-type`
    pub fn number(&self) -> u8 {
        match self {
            Ask::Solicit => 1,
            Ask::Request(_) => 3,
            Ask::Confirm(_) => 4,
            Ask::Renew(_) => 5,
            Ask::Rebind(_) => 6,
            Ask::Decline(_) => 9,
            Ask::Information => 11,
        }
    }
}

/// `msg-type` of what servers say.
const ADVERTISE: u8 = 2;
const REPLY: u8 = 7;

/// What a server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// ADVERTISE, and no REPLY.
    pub is_advertisement: bool,
    /// Its DUID.
    pub server: Vec<u8>,
    /// How much it wants to be chosen.
    pub preference: u8,
    /// Of the message as a whole.
    pub status: Status,
    /// What it lends to this client.
    pub lease: Result<Lease, Unusable>,
    /// The rest.
    pub told: Told,
}

impl Client {
    /// From an identifier of RFC 4361, which has both in it: the machine is the same to DHCPv4 and DHCPv6 servers.
    pub fn from_identifier(identifier: &[u8]) -> Client {
        let mut iaid = [0; 4];
        // Its type is one byte.
        iaid.copy_from_slice(&identifier[1..5]);
        Client { iaid, duid: identifier[5..].to_vec() }
    }

    /// A message; `elapsed` hundredths of a second have passed since the first of its kind.
    pub fn write(&self, ask: Ask<'_>, transaction: [u8; 3], elapsed: u16) -> Vec<u8> {
        let [a, b, c] = transaction;
        let mut message = vec![ask.number(), a, b, c];
        options::write(&mut message, options::CLIENT, &self.duid);
        if let Ask::Request(lease) | Ask::Renew(lease) | Ask::Decline(lease) = ask {
            options::write(&mut message, options::SERVER, &lease.server);
        }
        options::write(&mut message, options::ELAPSED, &elapsed.to_be_bytes());
        match ask {
            Ask::Information => {}
            Ask::Solicit => self.association(&mut message, None),
            Ask::Request(lease)
            | Ask::Confirm(lease)
            | Ask::Renew(lease)
            | Ask::Rebind(lease)
            | Ask::Decline(lease) => self.association(&mut message, Some(lease.address)),
        }
        if !matches!(ask, Ask::Confirm(_) | Ask::Decline(_)) {
            let numbers: Vec<u8> = WANTED.iter().flat_map(|number| number.to_be_bytes()).collect();
            options::write(&mut message, options::REQUEST, &numbers);
        }
        message
    }

    /// Times are the server's to say: all zero.
    fn association(&self, message: &mut Vec<u8>, address: Option<Ipv6Addr>) {
        let mut value = [&self.iaid[..], &[0; 8]].concat();
        if let Some(address) = address {
            options::write(&mut value, options::IA_ADDRESS, &[&address.octets()[..], &[0; 8]].concat());
        }
        options::write(message, options::IA_NA, &value);
    }

    /// What a message says to this client in this transaction; nothing if it is not for it (section 16.3 and 16.10).
    pub fn read(&self, bytes: &[u8], transaction: [u8; 3], from: Ipv6Addr) -> Option<Answer> {
        let (&[kind, a, b, c], rest) = bytes.split_first_chunk::<4>()?;
        if ![ADVERTISE, REPLY].contains(&kind) || [a, b, c] != transaction {
            return None;
        }
        let options = Options::of(rest);
        let server = options.bytes(options::SERVER).filter(|duid| (3..=130).contains(&duid.len()))?;
        if options.bytes(options::CLIENT) != Some(&self.duid) {
            return None;
        }
        let preference = options.bytes(options::PREFERENCE).and_then(|value| value.first());
        Some(Answer {
            is_advertisement: kind == ADVERTISE,
            server: server.to_vec(),
            preference: preference.copied().unwrap_or(0),
            status: options.status(),
            lease: Lease::of(&options, self.iaid, server, from),
            told: Told::of(&options),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::lease::tests::{IAID, association};
    use super::*;

    fn client() -> Client {
        Client { duid: vec![0, 3, 0, 1, 0x52, 0x54, 0, 0, 0, 1], iaid: IAID }
    }

    fn reply() -> Vec<u8> {
        let mut message = vec![REPLY, 1, 2, 3];
        options::write(&mut message, options::CLIENT, &client().duid);
        options::write(&mut message, options::SERVER, &[0, 3, 0, 1, 9]);
        message.extend(association(30, 60, "fd00::50", 100, 120));
        message
    }

    fn read(bytes: &[u8]) -> Option<Answer> {
        client().read(bytes, [1, 2, 3], "fe80::1".parse().unwrap())
    }

    #[test]
    fn an_identifier_of_dhcpv4_names_the_machine_here_too() {
        let identifier = [255, 0, 0, 0, 1, 0, 3, 0, 1, 0x52, 0x54, 0, 0, 0, 1];
        assert_eq!(Client::from_identifier(&identifier), client());
    }

    #[test]
    fn what_is_asked_has_what_the_rfc_wants() {
        let lease = read(&reply()).unwrap().lease.unwrap();
        let numbers = |ask: Ask<'_>| -> Vec<u16> {
            let message = client().write(ask, [1, 2, 3], 7);
            let options = Options::of(&message[4..]);
            assert_eq!(options.bytes(options::ELAPSED), Some(&[0, 7][..]));
            [options::CLIENT, options::SERVER, options::IA_NA, options::REQUEST]
                .into_iter()
                .filter(|number| options.bytes(*number).is_some())
                .collect()
        };
        assert_eq!(numbers(Ask::Solicit), [1, 3, 6]);
        assert_eq!(numbers(Ask::Request(&lease)), [1, 2, 3, 6]);
        assert_eq!(numbers(Ask::Renew(&lease)), [1, 2, 3, 6]);
        assert_eq!(numbers(Ask::Rebind(&lease)), [1, 3, 6]);
        assert_eq!(numbers(Ask::Confirm(&lease)), [1, 3]);
        assert_eq!(numbers(Ask::Decline(&lease)), [1, 2, 3]);
        assert_eq!(numbers(Ask::Information), [1, 6]);
    }

    #[test]
    fn answers_to_others_are_passed_over() {
        let answer = read(&reply()).unwrap();
        assert!(!answer.is_advertisement);
        assert_eq!(answer.lease.unwrap().seconds, 120);
        let changed = |place: usize, byte: u8| {
            let mut message = reply();
            message[place] = byte;
            read(&message)
        };
        // Another kind, transaction, client.
        for place in [0, 3, 9] {
            assert_eq!(changed(place, 77), None, "{place}");
        }
        let of_nobody = [&[REPLY, 1, 2, 3][..], &association(30, 60, "fd00::50", 100, 120)].concat();
        assert_eq!(read(&of_nobody), None);
    }

    proptest! {
        #[test]
        fn no_message_is_too_odd(
            changes in proptest::collection::vec((0..80_usize, any::<u8>()), 0..8),
            length in 0..90_usize,
        ) {
            let mut message = reply();
            for (place, byte) in changes {
                if let Some(one) = message.get_mut(place) {
                    *one = byte;
                }
            }
            message.truncate(length);
            let _ = read(&message);
        }
    }
}
