//! Address arithmetic: pod CIDRs cut from the cluster range, Service addresses.
//!
//! Everything works on both families by way of `u128`; an IPv4 address is its 32 low bits.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::cluster::{Cluster, Node};
use crate::families::{Family, PerFamily};
use crate::kubernetes::is_node;

/// Position of the API server's Service (`kubernetes.default`) in the Service range. The API server
/// takes it itself: <https://kubernetes.io/docs/reference/networking/virtual-ips/>.
const API_SERVICE_OFFSET: u128 = 1;
/// Position of the cluster's DNS Service, by the convention that kubeadm started.
const DNS_SERVICE_OFFSET: u128 = 10;

/// Why an address or a range cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// A node's share would be as large as the whole, larger, or too small to hold a pod.
    #[error("a pod CIDR of /{bits} cannot be cut from {cluster}")]
    PrefixOutOfRange {
        /// Range of the cluster.
        cluster: IpNet,
        /// Prefix length asked for.
        bits: u8,
    },
    /// An explicit pod CIDR is not part of the cluster's.
    #[error("pod CIDR {pod_cidr} is outside {cluster}")]
    Outside {
        /// Range of the cluster.
        cluster: IpNet,
        /// The explicit pod CIDR.
        pod_cidr: IpNet,
    },
    /// Two explicit pod CIDRs share addresses.
    #[error("pod CIDRs {first} and {second} overlap")]
    Overlap {
        /// The one that came first.
        first: IpNet,
        /// The other.
        second: IpNet,
    },
    /// Not enough ranges of that size are left.
    #[error("{cluster} has no /{bits} left for node number {node}")]
    Exhausted {
        /// Range of the cluster.
        cluster: IpNet,
        /// Prefix length asked for.
        bits: u8,
        /// Position of the node that got none, counted from one.
        node: usize,
    },
    /// The range ends before the address asked for.
    #[error("{range} has no address number {offset}")]
    RangeTooSmall {
        /// The range.
        range: IpNet,
        /// Position asked for, counted from the network address.
        offset: u128,
    },
}

/// Gives every node a pod CIDR: explicit ones as they are, the others the lowest range of prefix
/// length `bits` that overlaps none, in order of appearance. Deterministic; adding a node at the end
/// changes no other node's range.
pub fn allocate_pod_cidrs(
    cluster: IpNet,
    bits: u8,
    explicit: &[Option<IpNet>],
) -> Result<Vec<IpNet>, AddressError> {
    if bits < cluster.prefix_len() || bits > cluster.max_prefix_len() {
        return Err(AddressError::PrefixOutOfRange { cluster, bits });
    }
    let fixed: Vec<IpNet> = explicit.iter().flatten().map(IpNet::trunc).collect();
    check_explicit(cluster, &fixed)?;

    let (mut next, end) = bounds(&cluster);
    let mut exhausted = false;
    let mut allocated = Vec::with_capacity(explicit.len());
    for (index, wanted) in explicit.iter().enumerate() {
        if let Some(pod_cidr) = wanted {
            allocated.push(pod_cidr.trunc());
            continue;
        }
        loop {
            if exhausted || next > end {
                return Err(AddressError::Exhausted { cluster, bits, node: index + 1 });
            }
            let candidate = network(&cluster, next, bits);
            // Jump over the whole obstacle: an explicit range can hold more candidates than can be tried.
            let obstacle = fixed.iter().find(|range| overlaps(range, &candidate));
            let behind =
                obstacle.map_or(bounds(&candidate).1, |range| bounds(range).1.max(bounds(&candidate).1));
            match behind.checked_add(1) {
                Some(address) => next = address,
                None => exhausted = true,
            }
            if obstacle.is_none() {
                allocated.push(candidate);
                break;
            }
        }
    }
    Ok(allocated)
}

/// [`allocate_pod_cidrs`] for every family of the cluster, each by itself: the ranges of the nodes in their order, in the
/// cluster's order of families. Machines of etcd have no pods, get nothing, and move no node wherever in the file they are.
pub fn allocate_node_ranges(
    cluster: &Cluster,
    nodes: &[Node],
) -> Result<Vec<Option<PerFamily<IpNet>>>, AddressError> {
    let with_pods: Vec<usize> = (0..nodes.len()).filter(|index| is_node(&nodes[*index].role)).collect();
    let of_family = |whole: IpNet| {
        let family = Family::of(whole.addr());
        let explicit: Vec<_> = with_pods.iter().map(|index| nodes[*index].pod_cidr?.of(family)).collect();
        allocate_pod_cidrs(whole, cluster.node_prefix_length(family), &explicit).map_err(
            |error| match error {
                AddressError::Exhausted { cluster, bits, node } => {
                    AddressError::Exhausted { cluster, bits, node: with_pods[node - 1] + 1 }
                }
                other => other,
            },
        )
    };
    let ranges = cluster.pod_cidr.iter().map(of_family).collect::<Result<Vec<_>, _>>()?;
    let mut of_nodes = vec![None; nodes.len()];
    for (place, index) in with_pods.iter().enumerate() {
        let of_node = PerFamily::new(ranges.iter().map(|ranges| ranges[place]));
        of_nodes[*index] = Some(of_node.expect("as many as the cluster has families"));
    }
    Ok(of_nodes)
}

/// The highest range of prefix length `bits` in `whole` that overlaps none of `taken`; nothing if there is none.
///
/// The highest, where [`allocate_pod_cidrs`] takes the lowest: whoever is given one later than the nodes of the cluster
/// file leaves what follows those free, for a cluster file with more of them.
pub fn highest_free(whole: IpNet, bits: u8, taken: &[IpNet]) -> Option<IpNet> {
    if bits < whole.prefix_len() || bits > whole.max_prefix_len() {
        return None;
    }
    let (first, mut last) = bounds(&whole);
    let of_family = taken.iter().filter(|range| overlaps(range, &whole));
    let mut obstacles: Vec<(u128, u128)> = of_family.map(bounds).collect();
    obstacles.sort_unstable_by_key(|(_, last)| std::cmp::Reverse(*last));
    for (begin, end) in obstacles {
        let candidate = bounds(&network(&whole, last, bits)).0;
        if end < candidate {
            // So do all that follow, and those before it begin above.
            break;
        }
        if begin <= last {
            last = begin.min(candidate).checked_sub(1).filter(|last| *last >= first)?;
        }
    }
    Some(network(&whole, last, bits))
}

/// Address of the Service `kubernetes.default`: the first of the range.
pub fn api_service_address(service_cidr: IpNet) -> Result<IpAddr, AddressError> {
    address_at(service_cidr, API_SERVICE_OFFSET)
}

/// Address of the cluster's DNS Service: the tenth of the range.
pub fn dns_service_address(service_cidr: IpNet) -> Result<IpAddr, AddressError> {
    address_at(service_cidr, DNS_SERVICE_OFFSET)
}

/// Address of the node's bridge in its pod CIDR: the first host address.
pub fn pod_gateway(pod_cidr: IpNet) -> Result<IpAddr, AddressError> {
    address_at(pod_cidr, 1)
}

/// The address `offset` after the network address. An IPv4 broadcast address is not handed out.
pub fn address_at(range: IpNet, offset: u128) -> Result<IpAddr, AddressError> {
    let (first, last) = bounds(&range);
    let usable = if matches!(range, IpNet::V4(_)) && range.prefix_len() < 31 { last - 1 } else { last };
    match first.checked_add(offset) {
        Some(address) if address <= usable => Ok(from_bits(&range, address)),
        _ => Err(AddressError::RangeTooSmall { range, offset }),
    }
}

/// How many ranges of prefix length `bits` fit into `cluster`; `None` if `bits` is shorter or impossible.
pub fn capacity(cluster: IpNet, bits: u8) -> Option<u128> {
    if bits > cluster.max_prefix_len() {
        return None;
    }
    let free = bits.checked_sub(cluster.prefix_len())?;
    Some(1_u128.checked_shl(u32::from(free)).unwrap_or(u128::MAX))
}

/// Whether two ranges share an address; never across families.
pub fn overlaps(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

fn check_explicit(cluster: IpNet, fixed: &[IpNet]) -> Result<(), AddressError> {
    for (index, range) in fixed.iter().enumerate() {
        if !cluster.contains(range) {
            return Err(AddressError::Outside { cluster, pod_cidr: *range });
        }
        if let Some(first) = fixed[..index].iter().find(|other| overlaps(other, range)) {
            return Err(AddressError::Overlap { first: *first, second: *range });
        }
    }
    Ok(())
}

/// First and last address.
fn bounds(range: &IpNet) -> (u128, u128) {
    (to_bits(range.network()), to_bits(range.broadcast()))
}

fn to_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// `bits` as an address of `like`'s family.
fn from_bits(like: &IpNet, bits: u128) -> IpAddr {
    match like {
        IpNet::V4(_) => {
            let low = u32::try_from(bits).expect("bounded by the last address of an IPv4 range");
            IpAddr::V4(Ipv4Addr::from_bits(low))
        }
        IpNet::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(bits)),
    }
}

/// The range of prefix length `bits` around `address`, of `like`'s family.
fn network(like: &IpNet, address: u128, bits: u8) -> IpNet {
    let range = match from_bits(like, address) {
        IpAddr::V4(v4) => IpNet::V4(Ipv4Net::new_assert(v4, bits)),
        IpAddr::V6(v6) => IpNet::V6(Ipv6Net::new_assert(v6, bits)),
    };
    range.trunc()
}

#[cfg(test)]
mod tests;
