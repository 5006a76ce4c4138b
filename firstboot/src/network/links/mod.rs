//! Brings the machine's links to the state that its identity asks for: wanted against present, so that doing it twice
//! changes nothing. What nobody described is left as it is.

mod apply;
mod asking;
mod autoconf;
mod awaited;
mod cards;
mod device;
mod error;
pub mod follow;
mod metrics;
mod online;
mod plan;
mod present;
mod traffic;

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use bootwright_model::families::PerFamily;
use bootwright_model::links::Link;
use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use crate::network::netlink::Link as Present;
use crate::stages::Problem;

pub use autoconf::set_accept_ra;
pub use awaited::{wait_for_any, wait_until_settled};
pub use cards::{Before, SetUp, find, set_down, set_mtu, set_up};
pub use device::module;
pub use error::LinkError;
pub use online::endpoint;
pub use present::{Card, cards};

/// How long a link may take to appear: drivers that probe in the background.
const LINK_PATIENCE: Duration = Duration::from_secs(10);
/// How long a carrier may take: a switch negotiates a few seconds.
const CARRIER_PATIENCE: Duration = Duration::from_secs(5);

/// The wanted state of the node's links.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Wanted {
    /// MAC of the link that carries the address, if none of `links` says that it does; the only Ethernet link if absent.
    pub mac: Option<String>,
    /// The node's address with prefix length, of each family; absent if all are missing.
    pub address: Option<PerFamily<IpNet>>,
    /// Default gateway on the link of the address, or one of each family.
    pub gateway: Option<PerFamily<IpAddr>>,
    /// Families of the node's address that nobody gives.
    #[serde(default)]
    pub missing: Missing,
    /// Bytes, of links that say no other.
    pub mtu: u16,
    /// The links as they are described; none: one, for the address.
    pub links: Vec<Link>,
}

/// Families of the node's address that are asked for on its link, as nobody gives them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Missing {
    /// A DHCPv4 server is to lend one.
    pub ipv4: bool,
    /// It is to come of what a router advertises, or of a DHCPv6 server.
    pub ipv6: bool,
}

/// The links as they are now.
#[derive(Debug)]
pub struct Configured {
    /// Name of the link that carries the node's address, or is to.
    pub link: String,
    /// Its MAC.
    pub mac: String,
    /// Bytes.
    pub mtu: u32,
    /// How long it took until the node's address could be used, or its link had a carrier if it is lent; absent if that has
    /// none.
    pub online: Option<Duration>,
    /// Requests that changed something.
    pub changes: usize,
    /// What the node goes on without: a carrier, a link of other purpose.
    pub problems: Vec<Problem>,
    /// Links that a DHCPv4 server is to be asked on: that of the node's address first, if it is to be lent, the others as
    /// they are described.
    pub asking: Vec<Asking>,
    /// Links that routers and DHCPv6 servers are to be asked on, in the same way.
    pub asking_ipv6: Vec<Asking>,
}

/// A link that somebody is to be asked on for an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asking {
    /// The node's own address is to come.
    pub own: bool,
    /// As described, with the MTU that it is given, and with the metric of the routes that come with the address.
    pub described: Link,
    /// Destinations of described IPv4 routes, on any link, that have the metric of the lease's.
    pub described_to: Vec<Ipv4Net>,
    /// The link as it is, if it is there.
    pub present: Option<Present>,
}

/// Makes, joins and sets up all links at once, gives each its addresses and routes as soon as it has a carrier, and waits
/// for those that are not optional, each at most as long as a carrier takes. What the node's own address does not
/// depend on is a problem of the report if it fails. `root` is where /sys and /proc are.
///
/// # Errors
/// The node's address cannot be used.
pub fn configure(root: &Path, wanted: &Wanted) -> Result<Configured, LinkError> {
    apply::apply(root, plan::plan(wanted)?)
}

#[cfg(test)]
mod tests;
