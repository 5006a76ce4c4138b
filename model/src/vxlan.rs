//! VXLAN (RFC 7348): what it takes of a link.

use crate::families::{Family, OfFamily, PerFamily};

/// Ethernet 14, UDP 8 and VXLAN 8 bytes (RFC 7348, section 5).
const HEADERS_BYTES: u16 = 30;

/// Bytes that are added to a packet, by the family of the addresses between which it travels: with an IPv4 header of
/// 20 bytes or an IPv6 header of 40.
pub const fn overhead_bytes(family: Family) -> u16 {
    match family {
        Family::V4 => HEADERS_BYTES + 20,
        Family::V6 => HEADERS_BYTES + 40,
    }
}

/// That of the families which nodes have addresses of, where it is most: packets of each family travel in VXLAN of that
/// family, and a pod has one link for all.
pub fn most_overhead_bytes<T: OfFamily>(addresses: &PerFamily<T>) -> u16 {
    addresses.families().map(overhead_bytes).max().unwrap_or(0)
}
