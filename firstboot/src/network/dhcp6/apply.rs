//! A lent address on the machine, for as long as it is lent. The way to its network and the default route are the kernel's,
//! which has them of the router.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv6Net};
use pod_network::wire::Socket;
use pod_network::wire::addresses::{begin_address, family_number};

use crate::network::dhcp::apply::{ApplyError, absent_is_fine, refused};
use crate::network::netlink::{Ipv6Address, Netlink};

/// How long the kernel looks whether another machine has an address: it asks once, after up to a second of chance, and
/// listens for another (RFC 4862, section 5.4), which a busy machine stretches.
const DETECTION: Duration = Duration::from_secs(10);
/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(20);

/// Sets an address that may be used for `preferred` and `seconds`, or says how long an address that is there may be. The
/// kernel takes it away when they are over. One that is new is looked for at other machines before it is used.
pub fn set(link: u32, address: Ipv6Net, preferred: u32, seconds: u32) -> Result<(), ApplyError> {
    let set = Socket::open()?.request(|messages| {
        let flags = (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16;
        messages.begin(libc::RTM_NEWADDR, flags);
        // `struct ifaddrmsg` of linux/if_addr.h.
        let family = family_number(IpAddr::V6(address.addr()));
        messages.fixed(&[family, address.prefix_len(), 0, libc::RT_SCOPE_UNIVERSE]);
        messages.fixed(&link.to_ne_bytes());
        messages.address(libc::IFA_LOCAL, IpAddr::V6(address.addr()));
        messages.address(libc::IFA_ADDRESS, IpAddr::V6(address.addr()));
        // The router says for how long the network is on the link.
        messages.number(libc::IFA_FLAGS, libc::IFA_F_NOPREFIXROUTE);
        messages.attribute(libc::IFA_CACHEINFO, &[preferred, seconds, 0, 0].map(u32::to_ne_bytes).concat());
    });
    refused(set, || format!("set {address}"))
}

/// Takes an address from a link; fine if it is gone.
pub fn withdraw(link: u32, address: Ipv6Net) -> Result<(), ApplyError> {
    let gone = Socket::open()?
        .request(|messages| begin_address(messages, libc::RTM_DELADDR, 0, link, IpNet::V6(address)));
    let gone = absent_is_fine(gone, libc::ENODEV);
    refused(absent_is_fine(gone, libc::EADDRNOTAVAIL), || format!("remove {address}"))
}

/// The address as the link has it.
pub fn present(link: u32, address: Ipv6Addr) -> io::Result<Option<Ipv6Address>> {
    let all = Netlink::open()?.ipv6_addresses()?;
    Ok(all.into_iter().find(|one| one.index == link && one.address.addr() == address))
}

/// Waits, until `end` at most, for the kernel to have looked whether another machine has the address that was just set; false
/// if one has.
pub fn is_free(link: u32, address: Ipv6Addr, end: Instant) -> io::Result<bool> {
    let end = end.min(Instant::now() + DETECTION);
    loop {
        match present(link, address)? {
            // The kernel takes an address with a lifetime away at once, and marks one without.
            None => return Ok(false),
            Some(one) if one.duplicate => return Ok(false),
            Some(one) if !one.tentative => return Ok(true),
            // Without a carrier nobody is asked: the keeper, or a look at the report, finds out.
            Some(_) if Instant::now() >= end => return Ok(true),
            Some(_) => std::thread::sleep(LOOK),
        }
    }
}
