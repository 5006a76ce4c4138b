//! Who the node is that the programs run as.

use bootwright_model::baked::{ClusterLayer, OsRelease};
use bootwright_model::node::NodeFacts;

/// The all-in-one node of a cluster with a worker.
pub fn facts() -> NodeFacts {
    let file = r#"{
        "cluster": { "name": "harbor", "endpoint": "10.20.0.10", "pod-cidr": "10.10.0.0/16", "service-cidr": "10.96.0.0/16" },
        "kubernetes": { "version": "1.20.2" },
        "cloud": { "provider": "external" },
        "node": [{ "name": "cp1", "role": "all-in-one", "address": "10.20.0.10/24", "pod-cidr": "10.10.3.0/24", "labels": { "zone": "north" } },
                 { "name": "w1", "role": "worker", "address": "10.20.0.11/24", "pod-cidr": "10.10.4.0/24", "labels": { "disk": "fast" } }]
    }"#;
    NodeFacts {
        name: "cp1".to_owned(),
        address: "10.20.0.10/24".parse().unwrap(),
        gateway: None,
        link: "lo".to_owned(),
        pod_cidr: "10.10.3.0/24".parse().ok(),
        admitted: false,
        provider_id: Some("harbor://cp1".to_owned()),
        time_servers: Vec::new(),
        layer: ClusterLayer {
            file: serde_json::from_str(file).unwrap(),
            role: "all-in-one".to_owned(),
            epoch: 1_700_000_000,
            root_hash: "00".repeat(32),
            second_slot: Default::default(),
        },
        os: OsRelease {
            kernel_release: String::new(),
            kubernetes: "1.20.2".to_owned(),
            containerd: "1.6.20".to_owned(),
            etcd: "3.4.23".to_owned(),
            pause_image: "bootwright.local/pause:1".to_owned(),
            images: Vec::new(),
        },
    }
}
