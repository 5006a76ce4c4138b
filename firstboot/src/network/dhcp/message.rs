//! Messages to and from a DHCP server (RFC 2131).
//!
//! The wire formats of BOOTP, UDP and IPv4 are those of smoltcp. dhcproto knows more options by name, but could not
//! be used: each message that it makes asks the crate rand for a number, which in a static program waits for
//! /dev/random; an accessor panics on a length that a server may send; one option that is faulty loses all that follow;
//! and it brings 40 crates along, ICU's tables among them. mozim, a whole client, is built on it.

use std::net::Ipv4Addr;

use smoltcp::wire::{DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr, EthernetAddress};

use super::lease::{Lease, Unusable};
use super::options::{self, Options};

/// Smallest BOOTP message, bytes (RFC 1542, section 2.1): some relays drop less.
const SMALLEST_MESSAGE: usize = 300;
/// Longest message that is taken, bytes: what fits in an Ethernet frame.
pub const LARGEST_MESSAGE: u16 = 1472;
/// In front of the options (RFC 2132, section 2).
const MAGIC: u32 = 0x6382_5363;

/// What servers are asked for. Classless routes stand before the router, as RFC 3442 asks.
const WANTED: [u8; 11] = [
    options::SUBNET_MASK,
    options::CLASSLESS_ROUTES,
    options::CLASSLESS_ROUTES_OF_MICROSOFT,
    options::ROUTERS,
    options::RESOLVERS,
    options::DOMAIN,
    options::SEARCH,
    options::MTU,
    options::TIME_SERVERS,
    options::RENEWAL_SECONDS,
    options::REBINDING_SECONDS,
];

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Of the link.
    pub mac: [u8; 6],
    /// Option 61, see [`super::identifier`].
    pub identifier: Vec<u8>,
    /// For the server's list, and for DNS if it writes there.
    pub host_name: String,
}

/// What is said to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Who has an address?
    Discover,
    /// The one that this server offered.
    Take {
        /// Who offered.
        server: Ipv4Addr,
        /// What.
        address: Ipv4Addr,
    },
    /// The address that this machine has, for longer: RENEWING and REBINDING.
    Keep {
        /// Which.
        address: Ipv4Addr,
    },
    /// Another machine has it.
    Decline {
        /// Who lent it.
        server: Ipv4Addr,
        /// What.
        address: Ipv4Addr,
    },
}

/// What a server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// DHCPOFFER.
    Offer(Lease),
    /// DHCPACK.
    Acknowledgement(Lease),
    /// DHCPNAK.
    Refusal {
        /// Who.
        server: Ipv4Addr,
        /// Its words.
        message: Option<String>,
    },
}

impl Client {
    /// A message; `seconds` have passed since the first of them.
    pub fn write(&self, ask: Ask, transaction: u32, seconds: u16) -> Vec<u8> {
        let none = Ipv4Addr::UNSPECIFIED;
        let (message_type, current, requested, server) = match ask {
            Ask::Discover => (DhcpMessageType::Discover, none, None, None),
            Ask::Take { server, address } => (DhcpMessageType::Request, none, Some(address), Some(server)),
            Ask::Keep { address } => (DhcpMessageType::Request, address, None, None),
            Ask::Decline { server, address } => (DhcpMessageType::Decline, none, Some(address), Some(server)),
        };
        let name = self.host_name.as_bytes();
        let mut own = vec![DhcpOption { kind: options::CLIENT_IDENTIFIER, data: &self.identifier }];
        // A decline has neither (RFC 2131, table 5).
        let asks = !matches!(ask, Ask::Decline { .. });
        if asks && !name.is_empty() {
            own.push(DhcpOption { kind: options::HOST_NAME, data: name });
        }
        let message = DhcpRepr {
            message_type,
            transaction_id: transaction,
            secs: seconds,
            client_hardware_address: EthernetAddress(self.mac),
            client_ip: current,
            your_ip: none,
            server_ip: none,
            router: None,
            subnet_mask: None,
            relay_agent_ip: none,
            // The answer may come to the address that is not set yet: a packet socket hears it.
            broadcast: false,
            requested_ip: requested,
            client_identifier: None,
            server_identifier: server,
            parameter_request_list: asks.then_some(&WANTED),
            dns_servers: None,
            max_size: asks.then_some(LARGEST_MESSAGE),
            lease_duration: None,
            renew_duration: None,
            rebind_duration: None,
            additional_options: &own,
        };
        let mut bytes = vec![0; message.buffer_len().max(SMALLEST_MESSAGE)];
        let written = message.emit(&mut DhcpPacket::new_unchecked(&mut bytes[..]));
        debug_assert!(written.is_ok(), "an identifier or a name of more than 255 bytes");
        bytes
    }

    /// What a message says to this client in this transaction; nothing if it is not for it.
    pub fn read(&self, bytes: &[u8], transaction: u32) -> Result<Option<Answer>, Unusable> {
        let Ok(packet) = DhcpPacket::new_checked(bytes) else { return Ok(None) };
        let is_ours = packet.magic_number() == MAGIC
            && packet.transaction_id() == transaction
            && packet.client_hardware_address() == EthernetAddress(self.mac);
        if !is_ours {
            return Ok(None);
        }
        let options = Options::of(bytes);
        let Some(&[number]) = options.bytes(options::MESSAGE_TYPE) else { return Ok(None) };
        Ok(match DhcpMessageType::from(number) {
            DhcpMessageType::Offer => Some(Answer::Offer(Lease::read(packet.your_ip(), &options)?)),
            DhcpMessageType::Ack => Some(Answer::Acknowledgement(Lease::read(packet.your_ip(), &options)?)),
            DhcpMessageType::Nak => {
                let server = options.address(options::SERVER).ok_or(Unusable::NoServer)?;
                Some(Answer::Refusal { server, message: options.text(options::MESSAGE) })
            }
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client() -> Client {
        Client {
            mac: [0x52, 0x54, 0, 0, 0, 1],
            identifier: vec![255, 0, 0, 0, 1, 0, 4],
            host_name: "w1".into(),
        }
    }

    /// An answer as a server would write it.
    fn answer(kind: u8, more: &[u8]) -> Vec<u8> {
        let mut bytes = client().write(Ask::Discover, 7, 0);
        bytes.truncate(240);
        bytes[0] = 2;
        bytes[16..20].copy_from_slice(&[10, 9, 0, 50]);
        bytes.extend([53, 1, kind, 54, 4, 10, 9, 0, 1, 1, 4, 255, 255, 255, 0, 51, 4, 0, 0, 0, 120]);
        bytes.extend(more);
        bytes.push(255);
        bytes
    }

    #[test]
    fn requests_say_who_asks_for_what() {
        let bytes = client().write(
            Ask::Take { server: Ipv4Addr::new(10, 9, 0, 1), address: Ipv4Addr::new(10, 9, 0, 50) },
            7,
            3,
        );
        assert_eq!(bytes.len(), SMALLEST_MESSAGE);
        let options = Options::of(&bytes);
        assert_eq!(options.bytes(options::MESSAGE_TYPE), Some(&[3][..]));
        assert_eq!(options.address(50), Some(Ipv4Addr::new(10, 9, 0, 50)));
        assert_eq!(options.address(options::SERVER), Some(Ipv4Addr::new(10, 9, 0, 1)));
        assert_eq!(options.bytes(options::CLIENT_IDENTIFIER), Some(&client().identifier[..]));
        assert_eq!(options.text(options::HOST_NAME).as_deref(), Some("w1"));
        // RFC 2131, table 5: a machine that keeps its address names it in the header, and no server.
        let keep = client().write(Ask::Keep { address: Ipv4Addr::new(10, 9, 0, 50) }, 7, 0);
        assert_eq!(keep[12..16], [10, 9, 0, 50]);
        assert_eq!(Options::of(&keep).bytes(options::SERVER), None);
        let decline =
            Ask::Decline { server: Ipv4Addr::new(10, 9, 0, 1), address: Ipv4Addr::new(10, 9, 0, 50) };
        let decline = Options::of(&client().write(decline, 7, 0));
        assert_eq!((decline.bytes(55), decline.bytes(options::HOST_NAME)), (None, None));
    }

    #[test]
    fn answers_are_read_and_those_to_others_are_not() {
        let read = |bytes: &[u8]| client().read(bytes, 7);
        assert!(matches!(read(&answer(2, &[])), Ok(Some(Answer::Offer(_)))));
        let Ok(Some(Answer::Acknowledgement(lease))) = read(&answer(5, &[3, 4, 10, 9, 0, 1])) else {
            panic!()
        };
        assert_eq!(lease, super::super::lease::tests::lease());
        let refusal = Answer::Refusal { server: Ipv4Addr::new(10, 9, 0, 1), message: Some("no".into()) };
        assert_eq!(read(&answer(6, &[56, 2, b'n', b'o'])), Ok(Some(refusal)));
        assert_eq!(client().read(&answer(2, &[]), 8), Ok(None));
        let mut other = answer(2, &[]);
        other[33] = 9;
        assert_eq!(read(&other), Ok(None));
        assert_eq!(read(b"short"), Ok(None));
    }

    proptest! {
        /// Nothing that comes from the network ends the program.
        #[test]
        fn no_message_is_too_odd(
            kind in 0..9_u8,
            more in proptest::collection::vec(any::<u8>(), 0..600),
            changes in proptest::collection::vec((0..900_usize, any::<u8>()), 0..12),
            length in 0..900_usize,
        ) {
            let mut bytes = answer(kind, &more);
            for (place, byte) in changes {
                // Header fields that say whom it is for stay, or nothing else would be read.
                let place = place % bytes.len();
                if !(4..8).contains(&place) && !(28..34).contains(&place) {
                    bytes[place] = byte;
                }
            }
            bytes.truncate(length.max(1));
            if let Ok(Some(Answer::Offer(lease) | Answer::Acknowledgement(lease))) = client().read(&bytes, 7) {
                prop_assert!(0 < lease.renewal_seconds && lease.renewal_seconds <= lease.rebinding_seconds);
                prop_assert!(lease.rebinding_seconds <= lease.seconds);
                prop_assert!(lease.search.iter().all(|domain| !domain.contains(char::is_whitespace)));
            }
        }

        /// Options alone, so that every parser of one sees any bytes.
        #[test]
        fn no_option_is_too_odd(number in any::<u8>(), value in proptest::collection::vec(any::<u8>(), 0..255)) {
            let mut more = vec![number, value.len() as u8];
            more.extend(&value);
            let _ = client().read(&answer(5, &more), 7);
            let options = Options::of(&answer(5, &more));
            let _ = (options.search(), options.routes(number), options.addresses(number), options.text(number));
        }
    }
}
