//! Links, addresses, DHCP, the pod bridge and masquerading. Routes between nodes: the crate `pod-network`, or BIRD.

pub mod arp;
pub mod bird;
pub mod cni;
pub mod dhcp;
pub mod dhcp6;
pub mod given_range;
pub mod lending;
pub mod links;
pub mod masquerade;
pub mod netlink;
pub mod resolvers;

#[cfg(test)]
pub(crate) mod tests {
    use bootwright_model::node::NodeFacts;

    /// A node of a cluster of two.
    pub fn facts(pod_cidr: &str, mode: &str) -> NodeFacts {
        let text = serde_json::json!({
            "name": "cp1", "address": "10.20.0.10/24", "gateway": "10.20.0.1", "link": "eth0", "pod-cidr": pod_cidr,
            "layer": {
                "file": {
                    "cluster": {
                        "name": "harbor", "endpoint": "10.20.0.10", "pod-cidr": "10.10.0.0/16",
                        "service-cidr": "10.96.0.0/16",
                    },
                    "kubernetes": { "version": "1.20.2" },
                    "network": { "mode": mode },
                    "node": [
                        { "name": "cp1", "role": "all-in-one", "address": "10.20.0.10/24" },
                        { "name": "w1", "role": "worker", "address": "10.20.0.11/24" },
                    ],
                },
                "role": "all-in-one", "epoch": 0, "root-hash": "00",
            },
            "os": {
                "kernel-release": "6.1.0", "kubernetes": "1.20.2", "containerd": "1.6.20", "etcd": "3.4.23",
                "pause-image": "bootwright.local/pause:1", "images": [],
            },
        });
        serde_json::from_value(text).unwrap()
    }
}
