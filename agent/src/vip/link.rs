//! The one link that gets the address, over rtnetlink(7).

use std::net::IpAddr;

use pod_network::wire::addresses::begin_address;
use pod_network::wire::attributes::{Attributes, word};
use pod_network::wire::{Messages, Socket, WireError};

/// Size of `struct ifinfomsg` of linux/rtnetlink.h.
const LINK_BYTES: usize = 16;

/// A link that is there.
pub struct Link {
    socket: Socket,
    index: u32,
    mac: Option<[u8; 6]>,
}

impl Link {
    /// Looks for it by name, in the network namespace of this thread.
    pub fn find(name: &str) -> Result<Link, WireError> {
        let mut socket = Socket::open()?;
        let ask = |messages: &mut Messages| {
            messages.begin(libc::RTM_GETLINK, 0);
            messages.fixed(&[0; LINK_BYTES]);
            messages.text(libc::IFLA_IFNAME, name);
        };
        let (index, mac) = socket.get(ask, |payload| {
            let mut all = Attributes::after(payload, LINK_BYTES);
            let mac = all.find(|(kind, _)| *kind == libc::IFLA_ADDRESS);
            (word(payload, 4), mac.and_then(|(_, bytes)| bytes.try_into().ok()))
        })?;
        let index = index.ok_or(WireError::Malformed("a link without an index"))?;
        Ok(Link { socket, index, mac })
    }

    /// In the kernel.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Its Ethernet address.
    pub fn mac(&self) -> Option<[u8; 6]> {
        self.mac
    }

    /// Gives it an address that the kernel takes away after `seconds`, not 0, or up to a second later, unless this is
    /// called again before.
    pub fn lend_address(&mut self, address: IpAddr, seconds: u32) -> Result<(), WireError> {
        let index = self.index;
        self.socket.request(|messages| {
            // Only the address itself, not its network: what leads there is there already. Whether another machine has
            // it says the Lease.
            let flags = (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16;
            begin_address(messages, libc::RTM_NEWADDR, flags, index, address.into());
            // `struct ifa_cacheinfo` of linux/if_addr.h: preferred, valid, and two times that the kernel fills in. An IPv6
            // address of 128 bits would be preferred to the machine's own as the source of connections (RFC 6724,
            // rule 8), which break when it moves; one that is deprecated is not. IPv4's source stands in the route.
            let preferred = if address.is_ipv6() { 0 } else { seconds };
            let lifetime = [preferred, seconds, 0, 0].map(u32::to_ne_bytes).concat();
            messages.attribute(libc::IFA_CACHEINFO, &lifetime);
        })
    }

    /// Takes an address from it; fine if it has none.
    pub fn remove_address(&mut self, address: IpAddr) -> Result<(), WireError> {
        let index = self.index;
        match self
            .socket
            .request(|messages| begin_address(messages, libc::RTM_DELADDR, 0, index, address.into()))
        {
            Err(error) if error.refusal() == Some(libc::EADDRNOTAVAIL) => Ok(()),
            result => result,
        }
    }
}
