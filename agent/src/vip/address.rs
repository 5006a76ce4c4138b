//! The address on this machine's link, lent to it by the kernel for as long as the Lease is good.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use pod_network::announce::{AnnounceError, announce};
use pod_network::wire::WireError;
use tokio::time::Instant;

use super::link::Link;

/// How late the kernel may be to take a lent address away (`ADDRCONF_TIMER_FUZZ_MAX` of linux/include/net/addrconf.h).
const LATEST: Duration = Duration::from_secs(1);
/// Taken off the time of the Lease: that, and one more as the kernel counts whole seconds.
const MARGIN: Duration = Duration::from_secs(2);
/// Times that the address is announced in a row: an announcement may be lost, and Linux ignores one that comes within
/// a second of the neighbour's own last answer (`locktime` of arp(7)).
const ANNOUNCEMENTS: u32 = 4;

/// Why the address is not set.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// The Lease is almost over already.
    #[error("the Lease was written too late to be of use")]
    Late,
    /// The kernel's answer.
    #[error("cannot {what} {address} ({link})")]
    Kernel {
        /// What was tried.
        what: &'static str,
        /// The virtual address.
        address: IpAddr,
        /// Where.
        link: String,
        /// Why.
        source: WireError,
    },
    /// Neighbours keep sending to the machine that had it before.
    #[error("{address} is set, and the neighbours cannot be told")]
    Announce {
        /// The virtual address.
        address: IpAddr,
        /// Why.
        source: AnnounceError,
    },
}

/// The virtual address and the link that it is for.
#[derive(Debug)]
pub struct Address {
    address: IpAddr,
    link: String,
    /// Until when this machine has it at most.
    until: Option<Instant>,
    announced: u32,
    /// One may be there from an agent before this one.
    fresh: bool,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)
    }
}

impl Address {
    /// Changes nothing yet.
    pub fn new(address: IpAddr, link: &str) -> Address {
        Address { address, link: link.to_owned(), until: None, announced: 0, fresh: true }
    }

    /// Has the kernel keep the address for a Lease that is good until then, and tells the neighbours about it.
    pub fn hold(&mut self, until: Instant) -> Result<(), AddressError> {
        let now = Instant::now();
        let seconds = until.saturating_duration_since(now).saturating_sub(MARGIN).as_secs();
        let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
        if seconds == 0 {
            return Err(AddressError::Late);
        }
        let mut link = self.find()?;
        link.lend_address(self.address, seconds).map_err(|source| self.kernel("set", source))?;
        // The kernel counts from when it was told, which on a machine that was held up may be late.
        if Instant::now() + Duration::from_secs(seconds.into()) + LATEST > until {
            link.remove_address(self.address).map_err(|source| self.kernel("remove", source))?;
            self.until = None;
            return Err(AddressError::Late);
        }
        if self.until.is_none_or(|end| end <= now) {
            self.announced = 0;
        }
        self.until = Some(now + Duration::from_secs(seconds.into()));
        if self.announced < ANNOUNCEMENTS {
            announce(link.index(), link.mac(), self.address)
                .map_err(|source| AddressError::Announce { address: self.address, source })?;
            self.announced += 1;
        }
        Ok(())
    }

    /// Takes the address off the link, if it may be there.
    pub fn give_back(&mut self) -> Result<(), AddressError> {
        if self.until.is_none() && !self.fresh {
            return Ok(());
        }
        self.find()?.remove_address(self.address).map_err(|source| self.kernel("remove", source))?;
        (self.until, self.fresh) = (None, false);
        Ok(())
    }

    fn find(&self) -> Result<Link, AddressError> {
        Link::find(&self.link).map_err(|source| self.kernel("find the link for", source))
    }

    fn kernel(&self, what: &'static str, source: WireError) -> AddressError {
        AddressError::Kernel { what, address: self.address, link: self.link.clone(), source }
    }
}

impl Drop for Address {
    /// The agent ends: a moment earlier than the kernel would do it.
    fn drop(&mut self) {
        if self.until.is_some() {
            let _ = self.give_back();
        }
    }
}
