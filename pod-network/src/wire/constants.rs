//! Numbers of the kernel's interface that the crate libc lacks, named as in its headers.

/// `NLM_F_DUMP_INTR` of linux/netlink.h: what is dumped changed meanwhile.
pub const NLM_F_DUMP_INTR: u16 = 0x10;
/// `NLM_F_ACK_TLVS` of linux/netlink.h: attributes follow an error.
pub const NLM_F_ACK_TLVS: u16 = 0x200;
/// `NLMSGERR_ATTR_MSG` of linux/netlink.h: what the kernel says about an error.
pub const NLMSGERR_ATTR_MSG: u16 = 1;
/// `NLA_TYPE_MASK` of linux/netlink.h.
pub const NLA_TYPE_MASK: u16 = 0x3fff;
/// `NLA_F_NESTED` of linux/netlink.h.
pub const NLA_F_NESTED: u16 = 0x8000;

/// `RTNH_F_ONLINK` of linux/rtnetlink.h: the gateway is on the link, whatever the addresses say.
pub const RTNH_F_ONLINK: u32 = 4;

/// `IFLA_INFO_KIND` and `IFLA_INFO_DATA` of linux/if_link.h.
pub const IFLA_INFO_KIND: u16 = 1;
/// See [`IFLA_INFO_KIND`].
pub const IFLA_INFO_DATA: u16 = 2;

/// `IFLA_VXLAN_*` of linux/if_link.h.
pub mod vxlan {
    /// VNI, 24 bits.
    pub const ID: u16 = 1;
    /// Outer IPv4 source address.
    pub const LOCAL: u16 = 4;
    /// Whether forwarding entries are learnt from what comes in.
    pub const LEARNING: u16 = 7;
    /// UDP port, big-endian.
    pub const PORT: u16 = 15;
    /// Outer IPv6 source address.
    pub const LOCAL6: u16 = 17;
}
