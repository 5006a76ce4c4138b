//! What keeps a link from being as described, and what to do about it.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use bootwright_model::families::PerFamily;
use ipnet::IpNet;

use crate::stages::Advice;

/// Why the network could not be configured.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// A request that the kernel refused.
    #[error("{what}")]
    Request {
        /// What was asked.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// No such link.
    #[error("no link has {wanted}; this machine has {seen}")]
    NoLink {
        /// What it is known by.
        wanted: String,
        /// Name and MAC of each link.
        seen: String,
    },
    /// Nothing to put the address on.
    #[error("this machine has no Ethernet link: {seen}")]
    None {
        /// Name and MAC of each link.
        seen: String,
    },
    /// No MAC given, and more than one link to choose from.
    #[error("no MAC address says which link carries {}; this machine has {seen}", address.map_or("the node's address".to_owned(), |address| format!("{address:#}")))]
    Ambiguous {
        /// The node's address, if it is known.
        address: Option<PerFamily<IpNet>>,
        /// Name and MAC of each link.
        seen: String,
    },
    /// A description that fits more than one card.
    #[error("more than one link has {wanted}: {fitting}")]
    Several {
        /// What it is known by.
        wanted: String,
        /// Name and MAC of each link that fits.
        fitting: String,
    },
    /// The cable is out.
    #[error("{link} ({mac}) has no carrier after {} s", patience.as_secs())]
    NoCarrier {
        /// Its name.
        link: String,
        /// Its MAC.
        mac: String,
        /// How long it was waited for.
        patience: Duration,
    },
    /// A device of another kind has the name.
    #[error("{link} is to be made, and there is another link of that name, {kind}")]
    Taken {
        /// The name.
        link: String,
        /// What there is.
        kind: String,
    },
    /// The kernel said yes, and did something else.
    #[error("{link} does not become what is described: {what}")]
    NotTaken {
        /// Its name.
        link: String,
        /// What was set last.
        what: String,
    },
    /// Somebody else has the address (RFC 5227).
    #[error("another machine, {mac}, has the address {address} that is meant for {link}")]
    Conflict {
        /// The address.
        address: IpAddr,
        /// The link.
        link: String,
        /// The other's MAC.
        mac: String,
    },
    /// Nobody is known to have the addresses, as nobody could be asked.
    #[error("the addresses of this node are used without asking by ARP who has them")]
    Unasked(#[source] io::Error),
    /// A description that contradicts itself.
    #[error("the description of the link {link}: {what}")]
    Description {
        /// Its name.
        link: String,
        /// What is wrong.
        what: String,
    },
    /// The kernel would keep one of them alone, the last.
    #[error("{later} has the metric of {first}, and gets {metric}")]
    SameMetric {
        /// The route that gets another: `the default route through 10.30.0.1 on eth1`.
        later: String,
        /// The route that keeps it.
        first: String,
        /// What it gets.
        metric: u32,
    },
    /// A member of a bond or bridge cannot have an address of its own.
    #[error("the link {link} asks for an address, and is a member of {master}, which has its packets")]
    MemberAsks {
        /// The member.
        link: String,
        /// The bond or bridge.
        master: String,
    },
    /// An address is to be lent, and on no link.
    #[error(
        "nobody gives this node an address, and none of the described links asks for one by {by}: {links}"
    )]
    NoneAsks {
        /// The key that would do so.
        by: &'static str,
        /// Their names.
        links: String,
    },
    /// An IPv6 address is asked for where no router is heard.
    #[error(
        "the link {link} is to get an IPv6 address, and is described with accept-ra = false: without router \
         advertisements there is none"
    )]
    NoRouters {
        /// The link.
        link: String,
    },
    /// Links are described, and none has the node's address.
    #[error("the node's address {address:#} is on none of the described links: {links}")]
    NoPlace {
        /// The node's address.
        address: PerFamily<IpNet>,
        /// Their names.
        links: String,
    },
}

impl Advice for LinkError {
    fn advice(&self) -> String {
        match self {
            LinkError::Request { .. } => "compare what is described for this link (addresses, gateway, MTU, options) with what it can",
            LinkError::NoLink { .. } => {
                "correct the node's mac or [[link]] in the cluster file or in node.toml on the seed partition; if the card is missing from the list, add its driver to the profile's kernel.modules"
            }
            LinkError::None { .. } => "give the machine a network card, or add its driver to the profile's kernel.modules",
            LinkError::Ambiguous { .. } => "set the node's mac in the cluster file or in node.toml on the seed partition",
            LinkError::Several { .. } => "say in [[link]] which one is meant, by mac",
            LinkError::NoCarrier { .. } => "check the cable and the switch port; the address is set and works as soon as there is a carrier",
            LinkError::Taken { .. } => "give the link of [[link]] another name",
            LinkError::NotTaken { .. } => "leave out the option that this kernel does not take, or correct its value",
            LinkError::Conflict { .. } => "switch the other machine off, or give one of the two another address",
            LinkError::Unasked(_) => "make sure that no other machine has them",
            LinkError::Description { .. } => "correct [[link]] in node.toml on the seed partition, or in the cluster file and build again",
            LinkError::SameMetric { later, first, .. } => return format!("give {later}, or {first}, a metric of its own"),
            LinkError::MemberAsks { .. } => "ask for DHCP on the bond or bridge, and not on its members",
            LinkError::NoRouters { .. } => "leave out accept-ra = false, or dhcp6",
            LinkError::NoneAsks { by, .. } => {
                return format!("give one of them {by} = true, or give the node an address in node.toml on the seed partition");
            }
            LinkError::NoPlace { .. } => "add the node's address to `addresses` of the link that carries it",
        }
        .to_owned()
    }
}

/// The error of a request to the kernel: `what` as in "the kernel did not …".
pub(super) fn request(what: &str, source: io::Error) -> LinkError {
    LinkError::Request { what: format!("the kernel did not {what}"), source }
}
