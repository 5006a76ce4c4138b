//! Attributes of an answer, read where they lie.

use std::net::IpAddr;

use super::constants::NLA_TYPE_MASK;

/// Attributes one after the other: kind without its flag bits, and value. What is cut off ends them.
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// Those after a fixed part of `fixed` bytes.
    pub fn after(payload: &'a [u8], fixed: usize) -> Attributes<'a> {
        Attributes(payload.get(fixed..).unwrap_or_default())
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(half(self.0, 0)?);
        let kind = half(self.0, 2)? & NLA_TYPE_MASK;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// 16 bits in the machine's order at a place.
pub fn half(bytes: &[u8], place: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(place..place + 2)?.try_into().ok()?))
}

/// 32 bits in the machine's order at a place.
pub fn word(bytes: &[u8], place: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(place..place + 4)?.try_into().ok()?))
}

/// An address of 4 or 16 bytes.
pub fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(octets));
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

/// Text without its final zero.
pub fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        /// Whatever comes, it is read to an end.
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>, fixed in 0_usize..40) {
            let read: usize = Attributes::after(&bytes, fixed).map(|(_, value)| 4 + value.len()).sum();
            proptest::prop_assert!(read <= bytes.len());
        }
    }

    #[test]
    fn attributes_are_padded_and_flags_are_no_part_of_the_kind() {
        let bytes = [5, 0, 1, 0x80, 7, 0, 0, 0, 4, 0, 2, 0];
        let read: Vec<_> = Attributes::after(&bytes, 0).collect();
        assert_eq!(read, [(1, &[7][..]), (2, &[][..])]);
    }
}
