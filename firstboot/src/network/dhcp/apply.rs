//! A lease on the machine: the address for as long as it is lent, and its routes. Doing it twice changes nothing.

use std::io;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use pod_network::wire::addresses::{begin_address, family_number};
use pod_network::wire::constants::RTNH_F_ONLINK;
use pod_network::wire::{Messages, Socket, WireError};

use super::lease::{Lease, Route};
use crate::stages::Advice;

/// `RTPROT_DHCP` of linux/rtnetlink.h: `proto dhcp` in what `ip route` shows.
const ROUTE_PROTOCOL: u8 = 16;

/// A request that the kernel refused.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// No socket.
    #[error("no netlink socket")]
    Socket(#[from] io::Error),
    /// One of the steps.
    #[error("the kernel did not {what}")]
    Refused {
        /// Which.
        what: String,
        /// Why.
        source: WireError,
    },
}

impl Advice for ApplyError {
    fn advice(&self) -> String {
        "compare what the DHCP server says (address, routers, classless routes) with this link".to_owned()
    }
}

/// Where a lease is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Index of the link.
    pub link: u32,
    /// Metric of the lease's routes; none, 0, if absent.
    pub metric: Option<u32>,
}

/// Gives a link an address that it does not have yet for `seconds`, and the routes. The kernel takes the address away
/// when they are over, with the routes: also if nobody is left to do it, as another machine may get it then.
///
/// Returns the routes that the kernel refused and that can be done without: all but the default route.
///
/// # Errors
/// The address or the default route is refused; nothing of the lease is left then.
pub fn apply(place: Place, lease: &Lease, seconds: u32) -> Result<Vec<ApplyError>, ApplyError> {
    extend(place, lease, seconds).inspect_err(|_| {
        // The first error is the one to tell.
        let _ = withdraw(place.link, lease.address);
    })
}

/// The same for an address that the link has: it stays, whatever is refused.
///
/// # Errors
/// The address or the default route is refused.
pub fn extend(place: Place, lease: &Lease, seconds: u32) -> Result<Vec<ApplyError>, ApplyError> {
    let mut socket = Socket::open()?;
    let address = lease.address;
    let lent = socket.request(|messages| {
        let flags = (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16;
        begin_address(messages, libc::RTM_NEWADDR, flags, place.link, IpNet::V4(address));
        if address.prefix_len() < 31 {
            messages.address(libc::IFA_BROADCAST, address.broadcast().into());
        }
        // `struct ifa_cacheinfo` of linux/if_addr.h: preferred, valid, and two times that the kernel fills in.
        messages.attribute(libc::IFA_CACHEINFO, &[seconds, seconds, 0, 0].map(u32::to_ne_bytes).concat());
    });
    refused(lent, || format!("set {address}"))?;
    let mut without = Vec::new();
    for route in routes(lease) {
        let flags = (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16;
        let set =
            socket.request(|messages| write_route(messages, libc::RTM_NEWROUTE, flags, place, lease, route));
        match refused(set, || format!("set the route to {}{}", route.to, through(route))) {
            Err(error) if route.to.prefix_len() == 0 => return Err(error),
            result => without.extend(result.err()),
        }
    }
    Ok(without)
}

/// Takes the routes of an earlier lease away that the present one of the same address does not have.
pub fn forget_routes(place: Place, before: &Lease, now: &Lease) -> Result<(), ApplyError> {
    let mut socket = Socket::open()?;
    for route in routes(before).filter(|route| routes(now).all(|kept| kept.to != route.to)) {
        let gone =
            socket.request(|messages| write_route(messages, libc::RTM_DELROUTE, 0, place, before, route));
        refused(absent_is_fine(gone, libc::ESRCH), || format!("remove the route to {}", route.to))?;
    }
    Ok(())
}

/// Takes an address from a link, and with it the routes that have it as their source; fine if either is gone.
pub fn withdraw(link: u32, address: Ipv4Net) -> Result<(), ApplyError> {
    let gone = Socket::open()?
        .request(|messages| begin_address(messages, libc::RTM_DELADDR, 0, link, IpNet::V4(address)));
    let gone = absent_is_fine(gone, libc::ENODEV);
    refused(absent_is_fine(gone, libc::EADDRNOTAVAIL), || format!("remove {address}"))
}

/// Without that to the network of the address, which comes with it.
fn routes(lease: &Lease) -> impl Iterator<Item = &Route> {
    lease.routes.iter().filter(|route| route.to != lease.address.trunc())
}

/// ` through 10.9.0.1`, for a person.
fn through(route: &Route) -> String {
    route.via.map_or(String::new(), |via| format!(" through {via}"))
}

fn write_route(messages: &mut Messages, kind: u16, flags: u16, place: Place, lease: &Lease, route: &Route) {
    let scope = if route.via.is_some() { libc::RT_SCOPE_UNIVERSE } else { libc::RT_SCOPE_LINK };
    // A server may name a next hop that no address says to be on the link.
    let on_link = route.via.is_some_and(|via| !lease.is_neighbour(via));
    messages.begin(kind, flags);
    // `struct rtmsg` of linux/rtnetlink.h.
    let family = family_number(IpAddr::V4(route.to.addr()));
    messages.fixed(&[family, route.to.prefix_len(), 0, 0]);
    messages.fixed(&[libc::RT_TABLE_MAIN, ROUTE_PROTOCOL, scope, libc::RTN_UNICAST]);
    messages.fixed(&if on_link { RTNH_F_ONLINK } else { 0 }.to_ne_bytes());
    if route.to.prefix_len() > 0 {
        messages.address(libc::RTA_DST, route.to.network().into());
    }
    if let Some(via) = route.via {
        messages.address(libc::RTA_GATEWAY, via.into());
    }
    messages.address(libc::RTA_PREFSRC, lease.address.addr().into());
    if let Some(metric) = place.metric {
        messages.number(libc::RTA_PRIORITY, metric);
    }
    messages.number(libc::RTA_OIF, place.link);
}

pub(crate) fn absent_is_fine(result: Result<(), WireError>, absent: i32) -> Result<(), WireError> {
    match result {
        Err(error) if error.refusal() == Some(absent) => Ok(()),
        result => result,
    }
}

pub(crate) fn refused(
    result: Result<(), WireError>,
    what: impl FnOnce() -> String,
) -> Result<(), ApplyError> {
    result.map_err(|source| ApplyError::Refused { what: what(), source })
}
