//! Who the peers are: those of the cluster file, and over them the Nodes. No I/O.
//!
//! A node of the cluster file is a peer whether or not there is a Node of its name: first boot has laid the way to it
//! before the API could be read, and nothing that is read there, or not there yet, takes that way away. Only an image
//! of another cluster file does. What a Node of that name has, an `InternalIP` or a pod CIDR, takes the place of what
//! was baked. All other Nodes are peers for as long as they are there.
//!
//! Who has what two of them claim, the engine decides by who joined first ([`Peer::since`]).

use std::collections::BTreeMap;

use ipnet::IpNet;
use pod_network::{Family, Peer};

use crate::api::objects::Node;

/// Ranges of a Node that are kept: the API server takes one of each family.
const MOST_RANGES: usize = 2;

/// What is kept of a Node. What is no address or range is left out: the engine reports who lacks one.
pub fn peer(node: &Node) -> Peer {
    let internal = || node.status.addresses.iter().filter(|address| address.kind == "InternalIP");
    let first = |family| {
        internal().filter_map(|a| a.address.parse().ok()).find(|address| Family::of(*address) == family)
    };
    let created = node.metadata.creation_timestamp.as_ref();
    let ranges = node.spec.pod_cidrs.iter().filter_map(|range| range.parse().ok());
    Peer {
        since: created.and_then(|time| time.0.as_second().try_into().ok()).unwrap_or(Peer::EXPECTED),
        name: node.metadata.name.clone().unwrap_or_default(),
        addresses: Family::ALL.into_iter().filter_map(first).collect(),
        pod_cidrs: ranges.take(MOST_RANGES).collect(),
    }
}

/// Puts what a Node has in the place of what was baked of the same families.
fn over<T: Copy>(baked: &mut Vec<T>, node: &[T], family: impl Fn(&T) -> Family) {
    baked.retain(|one| node.iter().all(|other| family(other) != family(one)));
    baked.splice(0..0, node.iter().copied());
}

/// Nodes by name, over those of the cluster file.
pub struct Table {
    own: String,
    baked: BTreeMap<String, Peer>,
    nodes: BTreeMap<String, Peer>,
}

impl Table {
    /// Without Nodes yet. `own` is the name of this node, which is no peer.
    pub fn new(own: String, baked: Vec<Peer>) -> Table {
        let baked = baked.into_iter().map(|peer| (peer.name.clone(), peer)).collect();
        Table { own, baked, nodes: BTreeMap::new() }
    }

    /// Sets all Nodes. Counts as a change even if nothing differs: it is the first thing that is known.
    pub fn set_all(&mut self, peers: Vec<Peer>) -> bool {
        self.nodes = peers.into_iter().map(|peer| (peer.name.clone(), peer)).collect();
        true
    }

    /// Sets a Node; true if that changed a peer. Most news of Nodes are heartbeats.
    pub fn set(&mut self, peer: Peer) -> bool {
        self.nodes.get(&peer.name) != Some(&peer) && {
            self.nodes.insert(peer.name.clone(), peer);
            true
        }
    }

    /// Forgets a Node; true if there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        self.nodes.remove(name).is_some()
    }

    /// The ranges that this node's own Node has.
    pub fn own_ranges(&self) -> Vec<IpNet> {
        self.nodes.get(&self.own).map(|node| node.pod_cidrs.clone()).unwrap_or_default()
    }

    /// All peers by name, this node not among them.
    pub fn peers(&self) -> Vec<Peer> {
        let mut peers = self.baked.clone();
        for (name, node) in &self.nodes {
            peers
                .entry(name.clone())
                .and_modify(|peer| {
                    peer.since = node.since;
                    // A kubelet makes its Node before it has either, and with a cloud it may tell one family only.
                    over(&mut peer.addresses, &node.addresses, |address| Family::of(*address));
                    over(&mut peer.pod_cidrs, &node.pod_cidrs, |range| Family::of(range.addr()));
                })
                .or_insert_with(|| node.clone());
        }
        peers.remove(&self.own);
        peers.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str, address: &str, pod_cidr: &str) -> Peer {
        Peer {
            since: 1,
            name: name.to_owned(),
            addresses: address.parse().into_iter().collect(),
            pod_cidrs: pod_cidr.parse().into_iter().collect(),
        }
    }

    fn baked() -> Vec<Peer> {
        let peers = [
            peer("own", "10.0.0.1", "10.10.1.0/24"),
            peer("w2", "10.0.0.2", "10.10.2.0/24"),
            peer("w3", "10.0.0.3", "10.10.3.0/24"),
        ];
        peers.map(|peer| Peer { since: Peer::EXPECTED, ..peer }).to_vec()
    }

    #[test]
    fn a_peer_is_what_its_node_says() {
        let node: Node = serde_json::from_value(serde_json::json!({
            "metadata": {
                "name": "w1", "resourceVersion": "7", "labels": { "a": "b" },
                "creationTimestamp": "2026-11-25T00:00:00Z",
            },
            "spec": { "podCIDR": "10.10.1.0/24", "podCIDRs": ["10.10.1.0/24", "x", "fd00:10::/64"] },
            "status": {
                "addresses": [
                    { "type": "Hostname", "address": "w1" },
                    { "type": "ExternalIP", "address": "192.0.2.1" },
                    { "type": "InternalIP", "address": "x" },
                    { "type": "InternalIP", "address": "fd00::21" },
                    { "type": "InternalIP", "address": "10.20.0.21" },
                    { "type": "InternalIP", "address": "10.20.0.22" },
                ],
                "images": [{ "names": ["web"], "sizeBytes": 1 }],
            },
        }))
        .unwrap();
        let expected = Peer {
            since: 1_795_564_800,
            name: "w1".to_owned(),
            addresses: ["10.20.0.21", "fd00::21"].map(|address| address.parse().unwrap()).to_vec(),
            pod_cidrs: ["10.10.1.0/24", "fd00:10::/64"].map(|range| range.parse().unwrap()).to_vec(),
        };
        assert_eq!(super::peer(&node), expected);
        let bare: Node = serde_json::from_str(r#"{ "metadata": { "name": "w2" } }"#).unwrap();
        assert_eq!(super::peer(&bare), Peer { since: Peer::EXPECTED, ..peer("w2", "", "") });
    }

    #[test]
    fn nodes_join_change_and_leave_and_heartbeats_are_no_change() {
        let mut table = Table::new("own".to_owned(), Vec::new());
        assert!(table.set_all(vec![peer("own", "10.0.0.1", "10.10.0.0/24")]));
        assert!(table.set(peer("w1", "10.0.0.2", "10.10.1.0/24")));
        assert!(!table.set(peer("w1", "10.0.0.2", "10.10.1.0/24")));
        assert_eq!(table.own_ranges(), ["10.10.0.0/24".parse().unwrap()]);
        assert!(table.set(peer("w1", "10.0.0.3", "10.10.1.0/24")));
        assert_eq!(table.peers(), [peer("w1", "10.0.0.3", "10.10.1.0/24")], "and not this node itself");
        assert!(table.set(peer("w2", "10.0.0.4", "")));
        assert_eq!(table.peers().len(), 2, "that one has no range is the engine's to report");
        assert!(table.remove("w1") && !table.remove("w1"));
        assert!(table.set_all(Vec::new()));
        assert!(table.peers().is_empty());
    }

    #[test]
    fn peers_of_the_cluster_file_stay_and_what_their_nodes_have_counts() {
        let mut table = Table::new("own".to_owned(), baked());
        assert_eq!(table.peers(), baked()[1..]);
        table.set_all(vec![peer("own", "10.0.0.1", "10.10.1.0/24"), peer("x1", "10.0.0.9", "10.10.9.0/24")]);
        let names: Vec<String> = table.peers().into_iter().map(|peer| peer.name).collect();
        assert_eq!(names, ["w2", "w3", "x1"]);
        // Made by a kubelet, and with neither yet; then one after the other.
        table.set(peer("w2", "", ""));
        assert_eq!(table.peers()[0], peer("w2", "10.0.0.2", "10.10.2.0/24"));
        table.set(peer("w2", "10.0.0.77", ""));
        assert_eq!(table.peers()[0], peer("w2", "10.0.0.77", "10.10.2.0/24"));
        table.set(peer("w2", "10.0.0.77", "10.10.7.0/24"));
        assert_eq!(table.peers()[0], peer("w2", "10.0.0.77", "10.10.7.0/24"));
        // Of the other family only: what was baked of this one stays.
        table.set(peer("w2", "fd00::77", "fd00:10:7::/64"));
        let both = Peer {
            addresses: ["fd00::77", "10.0.0.2"].map(|address| address.parse().unwrap()).to_vec(),
            pod_cidrs: ["fd00:10:7::/64", "10.10.2.0/24"].map(|range| range.parse().unwrap()).to_vec(),
            ..peer("w2", "", "")
        };
        assert_eq!(table.peers()[0], both);
        // Gone again: as it was baked.
        table.remove("w2");
        table.remove("x1");
        assert_eq!(table.peers(), baked()[1..]);
    }
}
