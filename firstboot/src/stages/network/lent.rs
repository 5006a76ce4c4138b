//! An address that a DHCP server lends: found on one of the links, checked against the cluster, set, and written down
//! for the service that renews it.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bootwright_model::baked::ClusterLayer;
use bootwright_model::families::PerFamily;
use bootwright_model::layout;
use ipnet::{IpNet, Ipv4Net};

use super::Addressed;
use crate::identity::Identity;
use crate::network::arp;
use crate::network::dhcp::acquire::{Card, Lent};
use crate::network::dhcp::apply::{self, ApplyError};
use crate::network::dhcp::held::Held;
use crate::network::dhcp::lease::Lease;
use crate::network::dhcp::{self, NoLease};
use crate::network::links::{self, Configured, LinkError};
use crate::network::netlink::Link;
use crate::report::{under, uptime_ms};
use crate::stages::{Advice, Problem, identity, problem};

/// Between two rounds: one in which no card can be used ends at once.
const BREATH: Duration = Duration::from_millis(100);

/// Why there is no lent address.
#[derive(Debug, thiserror::Error)]
pub enum LentError {
    /// The links.
    #[error("the links cannot be set up")]
    Link(#[from] LinkError),
    /// Nobody lends one.
    #[error(transparent)]
    NoLease(#[from] NoLease),
    /// It is somebody else's in the cluster file.
    #[error("{server} lent {address}, which {owner}")]
    Taken {
        /// Who lent it.
        server: Ipv4Addr,
        /// What.
        address: Ipv4Net,
        /// Whose it is: `is the address of cp1 in the cluster file`.
        owner: String,
    },
    /// The kernel.
    #[error("the lease cannot be applied")]
    Apply(#[from] ApplyError),
    /// A file.
    #[error("{path}: cannot be written")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Advice for LentError {
    fn advice(&self) -> String {
        match self {
            LentError::Link(error) => error.advice(),
            LentError::NoLease(error) => error.advice(),
            LentError::Taken { .. } => {
                "take the cluster's addresses out of the range that the DHCP server lends from".to_owned()
            }
            LentError::Apply(error) => error.advice(),
            LentError::Write { .. } => "restart; /run must have room".to_owned(),
        }
    }
}

/// Gets a lease and applies it.
pub(super) fn configure(
    root: &Path,
    identity: &Identity,
    layer: &ClusterLayer,
) -> Result<Addressed, LentError> {
    let begin = Instant::now();
    // A card that is described without an address may have an MTU of its own.
    let described = identity.links.first().and_then(|link| link.mtu);
    let most = layer.file.network.mtu.min(described.unwrap_or(u16::MAX));
    let (links, Lent { card, lease, since_ms }) = search(root, identity, most)?;
    check(&lease, layer)?;

    let mtu = lease.mtu.map_or(most, |mtu| mtu.min(most));
    let mut problems = Vec::new();
    for link in &links {
        match link.index == card.index {
            // It has the other one already if it was down: then only a lease that says less makes a driver begin anew.
            true => links::set_mtu(link, mtu)?,
            // As it was: nothing is to be reached on a link that nobody speaks of.
            false if !link.up => problems.extend(links::set_down(link).err().map(|error| problem(&error))),
            false => {}
        }
    }
    let held = Held { link: card.name.clone(), since_ms, lease };
    let refused = apply::apply(card.index, &held.lease, held.seconds_left(uptime_ms()))?;
    problems.extend(refused.iter().map(problem));
    // Without it neighbours ask again a little later.
    let _ = arp::announce(&[card.candidate(held.lease.address.addr())]);
    write(root, identity, layer, &held)?;
    Ok(addressed(card, mtu, &held.lease, begin.elapsed(), problems))
}

/// Asks on all cards until one has a lease. Each round looks for more of them: the card of a slow driver may be the one
/// that the server is on. Returns the cards as they were when they were first seen.
fn search(root: &Path, identity: &Identity, mtu: u16) -> Result<(Vec<Link>, Lent), LentError> {
    let end = Instant::now() + dhcp::PATIENCE;
    let mut known: Vec<Link> = Vec::new();
    loop {
        let present = links::set_up(identity.mac.as_deref(), Some(mtu))?;
        let cards: Vec<Card> = present.iter().filter_map(Card::of).collect();
        for link in present {
            if known.iter().all(|one| one.index != link.index) {
                known.push(link);
            }
        }
        let left = end.saturating_duration_since(Instant::now());
        // The last one is not a short one, so that it can be said what was seen in it.
        let round = if left < 2 * dhcp::ROUND { left } else { dhcp::ROUND };
        match dhcp::first(root, &cards, &identity.name, round) {
            Ok(lent) => return Ok((known, lent)),
            Err(NoLease { seen, .. }) if Instant::now() >= end => {
                return Err(NoLease { patience: dhcp::PATIENCE, seen }.into());
            }
            Err(_) => std::thread::sleep(BREATH),
        }
    }
}

fn addressed(card: Card, mtu: u16, lease: &Lease, took: Duration, problems: Vec<Problem>) -> Addressed {
    let configured = Configured {
        mac: card.shown_mac(),
        link: card.name,
        mtu: mtu.into(),
        online: Some(took),
        changes: 0,
        problems,
    };
    Addressed {
        configured,
        address: PerFamily::from(IpNet::V4(lease.address)),
        gateway: lease.gateway().map(|gateway| PerFamily::from(IpAddr::V4(gateway))),
        time_servers: lease.time_servers.iter().map(ToString::to_string).collect(),
        origin: format!(", lent by {} {}", lease.server, lease.time()),
    }
}

/// An address that is another's in this cluster would take that one's traffic once it is switched on.
fn check(lease: &Lease, layer: &ClusterLayer) -> Result<(), LentError> {
    let address = IpAddr::V4(lease.address.addr());
    let cluster = &layer.file.cluster;
    let taken = |owner: String| Err(LentError::Taken { server: lease.server, address: lease.address, owner });
    if let Some(node) = layer.file.nodes.iter().find(|node| node.address.addrs().contains(&address)) {
        return taken(format!("is the address of {} in the cluster file", node.name));
    }
    if Some(address) == cluster.virtual_ip {
        return taken("is the cluster's virtual IP".to_owned());
    }
    let network = IpNet::V4(lease.address.trunc());
    for (what, ranges) in [("pods", cluster.pod_cidr), ("Services", cluster.service_cidr)] {
        if let Some(range) = ranges.iter().find(|range| range.contains(&network) || network.contains(range)) {
            return taken(format!("lies in a network of the range {range} of {what}"));
        }
    }
    Ok(())
}

fn write(root: &Path, identity: &Identity, layer: &ClusterLayer, held: &Held) -> Result<(), LentError> {
    let failed = |path: &str| {
        let path = under(root, path);
        move |source| LentError::Write { path, source }
    };
    held.write(root).map_err(failed(layout::LEASE))?;
    apply::write_resolvers(root, &held.lease, &layer.file.network.resolvers)
        .map_err(failed("/etc/resolv.conf"))?;
    let address = PerFamily::from(IpNet::V4(held.lease.address));
    let hosts = identity::hosts(&identity.name, Some(address), layer);
    crate::files::replace(&under(root, "/etc/hosts"), hosts.as_bytes(), 0o644).map_err(failed("/etc/hosts"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_the_cluster_is_refused() {
        let mut layer = crate::network::tests::facts("10.10.3.0/24", "vxlan").layer;
        layer.file.cluster.virtual_ip = "10.20.0.9".parse().ok();
        let refused = |address: &str| {
            let lease = Lease { address: address.parse().unwrap(), ..lease() };
            check(&lease, &layer).err().map(|error| error.to_string())
        };
        assert_eq!(refused("10.20.0.50/24"), None);
        insta::assert_snapshot!(
            refused("10.20.0.11/24").unwrap(),
            @"10.20.0.1 lent 10.20.0.11/24, which is the address of w1 in the cluster file"
        );
        insta::assert_snapshot!(
            refused("10.20.0.9/24").unwrap(),
            @"10.20.0.1 lent 10.20.0.9/24, which is the cluster's virtual IP"
        );
        insta::assert_snapshot!(
            refused("10.10.7.5/24").unwrap(),
            @"10.20.0.1 lent 10.10.7.5/24, which lies in a network of the range 10.10.0.0/16 of pods"
        );
        assert!(refused("10.96.1.1/8").is_some());
    }

    fn lease() -> Lease {
        Lease {
            address: "10.20.0.50/24".parse().unwrap(),
            server: "10.20.0.1".parse().unwrap(),
            seconds: 60,
            renewal_seconds: 30,
            rebinding_seconds: 50,
            routes: Vec::new(),
            mtu: None,
            resolvers: Vec::new(),
            search: Vec::new(),
            time_servers: Vec::new(),
        }
    }
}
