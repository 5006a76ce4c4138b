//! The pod CIDR that the cluster gave a machine that nobody described, kept on the state partition: with it the next boot
//! needs no API to give pods their network.

use std::fs;
use std::io;
use std::path::Path;

use bootwright_model::families::PerFamily;
use bootwright_model::layout;
use bootwright_model::node::NodeFacts;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::report::under;

/// What is kept. A disk may have been another machine's, or another cluster's.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Kept {
    cluster: String,
    node: String,
    pod_cidr: PerFamily<IpNet>,
}

impl Kept {
    /// Reads the file's contents.
    ///
    /// # Errors
    /// They are damaged.
    pub fn read(text: &[u8]) -> io::Result<Kept> {
        Ok(serde_json::from_slice(text)?)
    }

    /// The range, if it was given to this machine and its cluster still has it.
    pub fn of(&self, facts: &NodeFacts) -> Option<PerFamily<IpNet>> {
        let is_ours = self.cluster == facts.layer.file.cluster.name && self.node == facts.name;
        check(facts, self.pod_cidr).ok().filter(|_| is_ours)
    }
}

/// Keeps the range for the next boot.
pub fn keep(root: &Path, facts: &NodeFacts, pod_cidr: PerFamily<IpNet>) -> io::Result<()> {
    let (cluster, node) = (facts.layer.file.cluster.name.clone(), facts.name.clone());
    let text = serde_json::to_vec(&Kept { cluster, node, pod_cidr })?;
    crate::files::replace(&under(root, layout::GIVEN_POD_CIDR), &text, 0o600)
}

/// The range that is kept for this machine, if it is one that asks for its range and was given one that its cluster
/// still has.
///
/// # Errors
/// The file cannot be read, or is damaged.
pub fn recall(root: &Path, facts: &NodeFacts) -> io::Result<Option<PerFamily<IpNet>>> {
    if !facts.admitted {
        return Ok(None);
    }
    let text = match fs::read(under(root, layout::GIVEN_POD_CIDR)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    Ok(Kept::read(&text)?.of(facts))
}

/// Whether a machine of this cluster can have these ranges; in the cluster's order.
///
/// # Errors
/// It cannot: why, a phrase about the ranges.
pub fn check(facts: &NodeFacts, ranges: PerFamily<IpNet>) -> Result<PerFamily<IpNet>, String> {
    let whole = &facts.layer.file.cluster.pod_cidr;
    if !ranges.same_families(whole) {
        return Err(format!("is not of the families of the cluster's {whole:#}"));
    }
    match ranges.iter().find(|range| !whole.iter().any(|whole| whole.contains(range))) {
        Some(range) => Err(format!("lies with {range} outside the cluster's {whole:#}")),
        None => Ok(ranges.trunc().ordered_as(whole)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted() -> NodeFacts {
        NodeFacts { admitted: true, pod_cidr: None, ..crate::network::tests::facts("10.10.3.0/24", "vxlan") }
    }

    #[test]
    fn a_range_is_kept_for_the_machine_that_it_was_given_to() {
        let root = tempfile::tempdir().unwrap();
        let facts = admitted();
        let recalled = |facts: &NodeFacts| recall(root.path(), facts).unwrap();
        assert_eq!(recalled(&facts), None);
        let range = "10.10.255.0/24".parse().unwrap();
        keep(root.path(), &facts, range).unwrap();
        assert_eq!(recalled(&facts), Some(range));
        assert_eq!(recalled(&NodeFacts { name: "other".into(), ..facts.clone() }), None);
        assert_eq!(recalled(&NodeFacts { admitted: false, ..facts.clone() }), None, "it is described now");
        let mut moved = facts.clone();
        moved.layer.file.cluster.pod_cidr = "10.11.0.0/16".parse().unwrap();
        assert_eq!(recalled(&moved), None, "the cluster has other pods now");
        fs::write(under(root.path(), layout::GIVEN_POD_CIDR), "{").unwrap();
        assert!(recall(root.path(), &facts).is_err());
    }

    #[test]
    fn ranges_are_of_the_cluster_and_in_its_order() {
        let mut facts = admitted();
        let checked = |facts: &NodeFacts, text: &str| {
            check(facts, text.parse().unwrap()).map(|ranges| ranges.to_string()).unwrap_or_else(|why| why)
        };
        assert_eq!(checked(&facts, "10.10.9.7/24"), "10.10.9.0/24");
        assert_eq!(
            checked(&facts, "10.11.9.0/24"),
            "lies with 10.11.9.0/24 outside the cluster's 10.10.0.0/16"
        );
        assert_eq!(checked(&facts, "fd00::/64"), "is not of the families of the cluster's 10.10.0.0/16");
        facts.layer.file.cluster.pod_cidr = "10.10.0.0/16,fd00:10::/48".parse().unwrap();
        assert_eq!(checked(&facts, "fd00:10::/64,10.10.9.0/24"), "10.10.9.0/24,fd00:10::/64");
    }
}
