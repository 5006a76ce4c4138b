//! The node's links as they are described, and the addresses that are asked for on them.

use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bootwright_model::baked::ClusterLayer;
use bootwright_model::families::{Family, OfFamily, PerFamily};
use ipnet::IpNet;

use super::found::FoundError;
use super::lent::LentError;
use super::{Addressed, NetworkError, leases, leases_ipv6, mtu, write_hosts};
use crate::identity::Identity;
use crate::network::dhcp::{NoLease, PATIENCE};
use crate::network::dhcp6::NoAddress;
use crate::network::links::follow::Kept;
use crate::network::links::{self, Configured, Missing, Wanted};

/// Makes the links, with the addresses that somebody gave, and gets the others: those of the node that are missing, all on its
/// link, and those of further links.
pub(super) fn configure(
    root: &Path,
    identity: Identity,
    missing: &[Family],
    layer: &ClusterLayer,
) -> Result<Addressed, NetworkError> {
    let began = Instant::now();
    let Identity { name, address, gateway, mac, links, .. } = identity;
    let missing = Missing { ipv4: missing.contains(&Family::V4), ipv6: missing.contains(&Family::V6) };
    let wanted = Wanted { mac, address, gateway, missing, mtu: layer.file.network.mtu, links };
    let mut configured = links::configure(root, &wanted)?;
    let kept = Kept::of(wanted, &configured);
    let (four, six) = ask(root, &name, missing, &mut configured, layer)?;
    configured.problems.extend(four.problems.into_iter().chain(six.problems));
    mtu::settle(root, &[four.mtus, six.mtus].concat(), &mut configured)?;
    let four_since = four.own.as_ref().map(|own| own.since);
    // The node waited for all of them.
    let since = four_since.into_iter().chain(six.own.as_ref().map(|own| own.since)).max();
    configured.online = since.map(|since| since.duration_since(began)).or(configured.online);
    let mut node = Node { address, gateway, origin: String::new() };
    if let Some(own) = four.own {
        let gateway = own.lease.gateway().map(IpAddr::V4);
        node.add(own.lease.address.into(), gateway, layer);
        node.origin += &format!(", lent by {} {}", own.lease.server, own.lease.time());
    }
    if let Some(own) = six.own {
        node.add(own.found.address.into(), Some(own.found.router.into()), layer);
        node.origin += &format!(", {}", own.found.origin());
    }
    let Node { address, gateway, origin } = node;
    let address = address.ok_or_else(|| LentError::from(no_lease(&configured)))?;
    let further = four.further.into_iter().chain(six.further).collect();
    let time_servers = [four.time_servers, six.time_servers].concat();
    if missing != Missing::default() {
        write_hosts(root, &name, address, layer)?;
    }
    Ok(Addressed { configured, kept, address, gateway, time_servers, origin, further })
}

/// Asks on the links, for addresses of both families at once.
fn ask(
    root: &Path,
    name: &str,
    missing: Missing,
    configured: &mut Configured,
    layer: &ClusterLayer,
) -> Result<(leases::Leases, leases_ipv6::Leases), NetworkError> {
    let asking = std::mem::take(&mut configured.asking);
    let asking_ipv6 = std::mem::take(&mut configured.asking_ipv6);
    let stop = AtomicBool::new(false);
    let (four, six) = std::thread::scope(|scope| {
        let six = scope.spawn(|| leases_ipv6::ask(root, asking_ipv6, layer, &stop));
        let four = leases::ask(root, name, asking, layer);
        if four.is_err() {
            stop.store(true, Ordering::Relaxed);
        }
        (four, six.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let (four, six) = match (four, six) {
        (Ok(four), Ok(six)) => (four, six),
        (Err(ipv4 @ LentError::NoLease(_)), Err(FoundError::NoAddress(ipv6))) => {
            return Err(FoundError::Neither { ipv4, ipv6 }.into());
        }
        (Err(error), _) => return Err(error.into()),
        (Ok(_), Err(error)) => return Err(error.into()),
    };
    // The plan has such a link, or there is none.
    if missing.ipv4 && four.own.is_none() {
        return Err(LentError::from(no_lease(configured)).into());
    }
    if missing.ipv6 && six.own.is_none() {
        let seen = configured.link.clone();
        return Err(FoundError::from(NoAddress { patience: PATIENCE, seen }).into());
    }
    Ok((four, six))
}

fn no_lease(configured: &Configured) -> NoLease {
    NoLease { patience: PATIENCE, seen: configured.link.clone() }
}

/// What is known of the node's address so far.
struct Node {
    address: Option<PerFamily<IpNet>>,
    gateway: Option<PerFamily<IpAddr>>,
    origin: String,
}

impl Node {
    /// One more, of another family.
    fn add(&mut self, address: IpNet, gateway: Option<IpAddr>, layer: &ClusterLayer) {
        self.address = with(self.address, address, layer);
        if let Some(gateway) = gateway {
            self.gateway = with(self.gateway, gateway, layer);
        }
    }
}

/// With one of another family, in the order of the cluster's.
fn with<T: OfFamily>(known: Option<PerFamily<T>>, one: T, layer: &ClusterLayer) -> Option<PerFamily<T>> {
    let both = known.iter().flat_map(PerFamily::iter).chain([one]);
    PerFamily::new(both).ok().map(|both| both.ordered_as(&layer.file.cluster.pod_cidr)).or(known)
}
