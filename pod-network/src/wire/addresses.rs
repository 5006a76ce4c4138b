//! Addresses of links: `struct ifaddrmsg` of linux/if_addr.h.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Messages;

/// Size of `struct ifaddrmsg`.
pub const ADDRESS_BYTES: usize = 8;
/// `IFA_F_NODAD`: usable at once, without a look whether another machine has it.
const IFA_F_NODAD: u8 = 2;

/// Number of an address' family, as messages have it.
pub fn family_number(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

/// Begins a message about an address of a link: `RTM_NEWADDR`, or `RTM_DELADDR`. Others are taken to be on the link as
/// far as the prefix length says.
pub fn begin_address(messages: &mut Messages, kind: u16, flags: u16, link: u32, address: IpNet) {
    messages.begin(kind, flags);
    let family = family_number(address.addr());
    messages.fixed(&[family, address.prefix_len(), IFA_F_NODAD, libc::RT_SCOPE_UNIVERSE]);
    messages.fixed(&link.to_ne_bytes());
    messages.address(libc::IFA_LOCAL, address.addr());
    messages.address(libc::IFA_ADDRESS, address.addr());
}
