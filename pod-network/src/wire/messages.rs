//! Messages one after the other in a buffer (netlink(7)).

use std::net::IpAddr;

/// `struct nlmsghdr`.
pub const HEADER_BYTES: usize = 16;
/// Messages and attributes begin at multiples of this.
const ALIGNMENT: usize = 4;

/// A buffer of messages. One is begun, gets its fixed part and attributes, and is ended.
#[derive(Debug, Default)]
pub struct Messages {
    bytes: Vec<u8>,
    /// Where the last message begins.
    last: usize,
}

/// A nested attribute that was begun.
#[must_use]
pub struct Nest(usize);

impl Messages {
    /// All of them, ready to be sent.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets them.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.last = 0;
    }

    /// Begins a message.
    pub fn begin(&mut self, kind: u16, flags: u16) {
        self.last = self.bytes.len();
        let flags = flags | libc::NLM_F_REQUEST as u16;
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend([0; 8]);
    }

    /// The fixed part that follows the header, or a piece of it.
    pub fn fixed(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// One attribute, 65,531 bytes at most.
    pub fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(4 + value.len()).expect("attributes are small");
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.pad();
    }

    /// An attribute of 32 bits in the machine's order.
    pub fn number(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_ne_bytes());
    }

    /// An attribute that is an address, 4 or 16 bytes.
    pub fn address(&mut self, kind: u16, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.attribute(kind, &address.octets()),
            IpAddr::V6(address) => self.attribute(kind, &address.octets()),
        }
    }

    /// An attribute that is text with a final zero.
    pub fn text(&mut self, kind: u16, text: &str) {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes);
    }

    /// Begins an attribute of attributes.
    pub fn nest(&mut self, kind: u16) -> Nest {
        let place = self.bytes.len();
        self.attribute(kind, &[]);
        Nest(place)
    }

    /// Ends it.
    pub fn end_nest(&mut self, Nest(place): Nest) {
        let length = u16::try_from(self.bytes.len() - place).expect("attributes are small");
        self.bytes[place..place + 2].copy_from_slice(&length.to_ne_bytes());
    }

    /// Ends the last message, which gets a number that answers carry, and an acknowledgement if asked for.
    pub fn end(&mut self, sequence: u32, acknowledge: bool) {
        let length = u32::try_from(self.bytes.len() - self.last).expect("messages are small");
        let header = &mut self.bytes[self.last..self.last + HEADER_BYTES];
        header[..4].copy_from_slice(&length.to_ne_bytes());
        if acknowledge {
            let flags = u16::from_ne_bytes([header[6], header[7]]) | libc::NLM_F_ACK as u16;
            header[6..8].copy_from_slice(&flags.to_ne_bytes());
        }
        header[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_lie_one_after_the_other_and_lengths_count_no_padding_of_attributes() {
        let mut messages = Messages::default();
        messages.begin(24, 0x400);
        messages.fixed(&[1; 12]);
        let nest = messages.nest(7);
        messages.attribute(1, &[9; 6]);
        messages.end_nest(nest);
        messages.end(5, false);
        messages.begin(25, 0);
        messages.end(6, true);
        let bytes = messages.as_bytes();
        assert_eq!(bytes.len(), 16 + 12 + 4 + 12 + 16);
        assert_eq!(u32::from_ne_bytes(bytes[..4].try_into().unwrap()), 44);
        // The nest has 4 bytes of its own and 12 of the padded attribute, which counts 10 itself.
        assert_eq!((bytes[28], bytes[32]), (16, 10));
        assert_eq!(u16::from_ne_bytes([bytes[44 + 6], bytes[44 + 7]]), 5);
    }
}
