//! Which Node is given which range. No I/O.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use bootwright_model::addresses::{highest_free, overlaps};
use bootwright_model::cluster::ClusterFile;
use bootwright_model::families::{Family, PerFamily};
use ipnet::IpNet;

use crate::api::objects::Node;

/// Most overlaps that are told one by one.
const MOST_OVERLAPS: usize = 20;

/// The ranges that there are to give, and those that the cluster file gives already.
#[derive(Debug, Clone)]
pub struct Pools {
    whole: PerFamily<IpNet>,
    /// Prefix lengths of one node's range, of the families of `whole`.
    bits: [u8; 2],
    /// Ranges of the cluster file's nodes, whether or not they have joined, by name.
    inventory: Vec<(String, IpNet)>,
    names: BTreeSet<String>,
}

impl From<&ClusterFile> for Pools {
    fn from(file: &ClusterFile) -> Pools {
        let ranges = file.nodes.iter().flat_map(|node| {
            let ranges = node.pod_cidr.into_iter().flat_map(|ranges| ranges.iter());
            ranges.map(|range| (node.name.clone(), range.trunc()))
        });
        Pools {
            whole: file.cluster.pod_cidr.trunc(),
            bits: Family::ALL.map(|family| file.cluster.node_prefix_length(family)),
            inventory: ranges.collect(),
            names: file.nodes.iter().map(|node| node.name.clone()).collect(),
        }
    }
}

impl Pools {
    fn bits(&self, whole: IpNet) -> u8 {
        let [v4, v6] = self.bits;
        if whole.addr().is_ipv4() { v4 } else { v6 }
    }

    /// The highest range of each family; nothing if one has none left.
    fn free(&self, taken: &[IpNet]) -> Option<PerFamily<IpNet>> {
        self.whole.try_map(|whole| highest_free(whole, self.bits(whole), taken).ok_or(())).ok()
    }

    /// Whether these can be given: of the cluster's families, of the usual size, and nobody's.
    fn can_give(&self, ranges: &PerFamily<IpNet>, taken: &[IpNet]) -> bool {
        let is_free = |range: IpNet| {
            let whole = self.whole.iter().find(|whole| whole.contains(&range));
            whole.is_some_and(|whole| range.prefix_len() == self.bits(whole))
                && !taken.iter().any(|other| overlaps(other, &range))
        };
        ranges.same_families(&self.whole) && ranges.iter().all(is_free)
    }
}

/// What is read of a Node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Its name.
    pub name: String,
    /// The version that this was read in.
    pub version: String,
    /// What it asks for, if it does: any range, or those that it had.
    pub wish: Option<String>,
    /// It has ranges, which cannot be changed any more.
    pub served: bool,
    /// Its ranges.
    pub ranges: Vec<IpNet>,
}

impl Claim {
    /// Of a Node.
    pub fn of(node: &Node) -> Claim {
        Claim {
            name: node.metadata.name.clone().unwrap_or_default(),
            version: node.metadata.resource_version.clone().unwrap_or_default(),
            wish: node.wants_pod_cidr().map(str::to_owned),
            served: !node.spec.pod_cidrs.is_empty(),
            ranges: node.spec.pod_cidrs.iter().filter_map(|range| range.parse().ok()).collect(),
        }
    }

    /// Whether it waits for a range.
    pub fn waits(&self) -> bool {
        self.wish.is_some() && !self.served
    }
}

/// A range for a Node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gift {
    /// The Node's name.
    pub node: String,
    /// What it is given, of each family of the cluster.
    pub ranges: PerFamily<IpNet>,
}

/// As the Lease keeps it: `worker-5254002000a1 10.10.255.0/24`.
impl fmt::Display for Gift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.node, self.ranges)
    }
}

/// What the Lease keeps and no agent wrote. There is nothing to be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no name and ranges")]
pub struct NoGift;

impl FromStr for Gift {
    type Err = NoGift;

    fn from_str(text: &str) -> Result<Gift, NoGift> {
        let (node, ranges) = text.split_once(' ').ok_or(NoGift)?;
        let ranges = ranges.parse().map_err(|_| NoGift)?;
        Ok(Gift { node: node.to_owned(), ranges })
    }
}

/// What to give, and what a person should know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// In this order, each with the version of the Node that it is for.
    pub gifts: Vec<(Gift, String)>,
    /// Who gets none, and ranges that two have.
    pub lines: Vec<String>,
}

impl Plan {
    /// From all Nodes, and what an agent before was giving when it held the Lease last: its call may still be under way,
    /// so that this range is that Node's or nobody's for as long as the Node waits.
    pub fn make(pools: &Pools, claims: &[Claim], giving: Option<&Gift>) -> Plan {
        let giving = giving.filter(|gift| claims.iter().any(|one| one.waits() && one.name == gift.node));
        let mut taken: Vec<IpNet> = pools.inventory.iter().map(|(_, range)| *range).collect();
        taken.extend(claims.iter().flat_map(|claim| &claim.ranges));
        let mut plan = Plan { gifts: Vec::new(), lines: overlapping(pools, claims) };
        let begun = giving.filter(|gift| pools.can_give(&gift.ranges, &taken));
        taken.extend(giving.into_iter().flat_map(|gift| gift.ranges.iter()));
        let mut waiting: Vec<&Claim> = claims.iter().filter(|claim| claim.waits()).collect();
        // What was begun first, so that the Lease has to remember no more than one.
        waiting.sort_by_key(|claim| (begun.is_none_or(|gift| gift.node != claim.name), &claim.name));
        for claim in waiting {
            if pools.names.contains(&claim.name) {
                plan.lines.push(format!(
                    "node {} asks for a pod CIDR, and the cluster file has one for it: boot its image anew",
                    claim.name
                ));
                continue;
            }
            let own = begun.filter(|gift| gift.node == claim.name).map(|gift| gift.ranges);
            let ranges = own
                .or_else(|| wish(claim).filter(|wish| pools.can_give(wish, &taken)))
                .map(|ranges| ranges.ordered_as(&pools.whole))
                .or_else(|| pools.free(&taken));
            let Some(ranges) = ranges else {
                plan.lines.push(format!(
                    "node {} gets no pod CIDR: none is left in {:#}; delete Nodes that are gone, or build images with \
                     a larger pod-cidr",
                    claim.name, pools.whole
                ));
                continue;
            };
            taken.extend(ranges.iter());
            plan.gifts.push((Gift { node: claim.name.clone(), ranges }, claim.version.clone()));
        }
        plan
    }
}

/// The ranges that a Node had before, of an annotation that is not `true`.
fn wish(claim: &Claim) -> Option<PerFamily<IpNet>> {
    let wish: PerFamily<IpNet> = claim.wish.as_ref()?.parse().ok()?;
    Some(wish.trunc())
}

/// Ranges that two have. Nothing is taken away: pods run in both, and whose Node is older is reached.
fn overlapping(pools: &Pools, claims: &[Claim]) -> Vec<String> {
    let of_nodes = claims
        .iter()
        .flat_map(|claim| claim.ranges.iter().map(move |range| (range.trunc(), claim.name.as_str())));
    let of_inventory = pools.inventory.iter().map(|(name, range)| (*range, name.as_str()));
    let mut all: Vec<(IpNet, &str)> = of_nodes.chain(of_inventory).collect();
    all.sort_unstable_by_key(|(range, name)| (range.network(), range.prefix_len(), *name));
    all.dedup();
    let mut lines = Vec::new();
    let mut widest: Option<(IpNet, &str)> = None;
    for (range, name) in all {
        match widest.filter(|(earlier, _)| earlier.contains(&range)) {
            Some((earlier, other)) if other != name => lines.push(format!(
                "pod CIDRs {earlier} of node {other} and {range} of node {name} overlap: drain and delete the Node that \
                 is none of the cluster file's, or the younger, and restart its machine"
            )),
            Some(_) => {}
            None => widest = Some((range, name)),
        }
    }
    let more = lines.len().saturating_sub(MOST_OVERLAPS);
    lines.truncate(MOST_OVERLAPS);
    if more > 0 {
        lines.push(format!("{more} more pod CIDRs overlap"));
    }
    lines
}
