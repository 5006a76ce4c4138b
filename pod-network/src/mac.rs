//! MAC addresses of VXLAN devices.

use std::fmt;
use std::net::Ipv6Addr;

use ring::digest;

/// A MAC address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

/// Keeps these digests apart from others of a node's name.
const PURPOSE: &[u8] = b"bootwright pod network, VXLAN device of node ";

impl Mac {
    /// That of a node's VXLAN devices, by its name alone: every node knows it of every other, and it survives
    /// restarts, a new address and a new pod CIDR. A MAC that changed would leave stale entries on all peers.
    ///
    /// 46 bits of SHA-256, as a locally administered unicast address (IEEE 802, section 8.4). Among 5,000 nodes,
    /// two have the same with a probability of 2 in 10 million; that is noticed and said.
    pub fn of_node(name: &str) -> Mac {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(PURPOSE);
        context.update(name.as_bytes());
        let digest = context.finish();
        let mut bytes = [0; 6];
        bytes.copy_from_slice(&digest.as_ref()[..6]);
        bytes[0] = bytes[0] & !0b01 | 0b10;
        Mac(bytes)
    }

    /// The link-local address that the kernel gives a device with this MAC (RFC 4291, appendix A).
    pub fn link_local(self) -> Ipv6Addr {
        let [a, b, c, d, e, g] = self.0;
        Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 0b10, b, c, 0xff, 0xfe, d, e, g])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_the_same_mac_for_ever() {
        // Nodes of different releases have to agree.
        assert_eq!(Mac::of_node("w1").to_string(), "92:2d:6b:02:cb:38");
    }

    #[test]
    fn the_link_local_address_is_the_kernels() {
        let mac = Mac([0x02, 0, 0x5e, 0x10, 0, 0x01]);
        assert_eq!(mac.link_local().to_string(), "fe80::5eff:fe10:1");
    }

    proptest::proptest! {
        #[test]
        fn it_is_local_and_unicast(name: String) {
            proptest::prop_assert_eq!(Mac::of_node(&name).0[0] & 0b11, 0b10);
        }
    }
}
