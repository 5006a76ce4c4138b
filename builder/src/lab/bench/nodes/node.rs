//! A node that has no machine: the objects that its kubelet writes.

use std::net::IpAddr;

use bootwright_model::cluster::ClusterFile;
use bootwright_model::families::Family;
use ipnet::IpNet;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::super::Error;

/// Of the range of pods' networks and of the nodes' addresses these many are left to the nodes of the cluster file.
const LEFT_OUT: usize = 100;
/// Container images that a node has; kubelets tell of 50 at most.
const IMAGES: u32 = 20;
/// `nodeLeaseDurationSeconds` of kubelet.config.k8s.io/v1beta1.
const LEASE_SECONDS: u32 = 40;
/// What the conditions of a healthy node are, with the reasons that a kubelet gives.
const CONDITIONS: [(&str, &str, &str); 4] = [
    ("MemoryPressure", "False", "KubeletHasSufficientMemory"),
    ("DiskPressure", "False", "KubeletHasNoDiskPressure"),
    ("PIDPressure", "False", "KubeletHasSufficientPID"),
    ("Ready", "True", "KubeletReady"),
];

/// Its name and addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Simulated {
    /// Name of the node.
    pub name: String,
    address: IpAddr,
    pod_cidr: IpNet,
}

impl Simulated {
    /// So many nodes of a cluster, in its ranges.
    ///
    /// # Errors
    /// There is no room for them.
    pub fn nodes(cluster: &ClusterFile, count: u16) -> Result<Vec<Simulated>, Error> {
        // In a cluster of two families those of the first, which its Nodes' addresses are of.
        let whole = cluster.cluster.pod_cidr.primary();
        let family = Family::of(whole.addr());
        let network = cluster.nodes.first().and_then(|node| node.address.of(family));
        let ranges = whole.subnets(cluster.cluster.node_prefix_length(family)).ok();
        let (Some(network), Some(ranges)) = (network, ranges) else {
            return Err(Error::State("the cluster file has no node, or no room for one's pods".to_owned()));
        };
        let places = network.hosts().skip(LEFT_OUT).zip(ranges.skip(LEFT_OUT)).take(usize::from(count));
        let nodes: Vec<Simulated> = (1..=count)
            .zip(places)
            .map(|(number, (address, pod_cidr))| Simulated {
                name: format!("simulated-{number}"),
                address,
                pod_cidr,
            })
            .collect();
        if nodes.len() < usize::from(count) {
            return Err(Error::State(format!(
                "in {network} and {whole} there is room for {} simulated nodes, not {count}",
                nodes.len()
            )));
        }
        Ok(nodes)
    }

    /// The Node, as a kubelet registers it.
    pub fn node(&self) -> Value {
        let images: Vec<Value> = (0..IMAGES).map(image).collect();
        let room = json!({
            "cpu": "4", "memory": "8139524Ki", "pods": "110", "ephemeral-storage": "40454684Ki",
            "hugepages-1Gi": "0", "hugepages-2Mi": "0",
        });
        let labels = json!({
            "kubernetes.io/hostname": self.name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
            "beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "amd64",
        });
        json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {
                "name": self.name, "labels": labels,
                "annotations": { "volumes.kubernetes.io/controller-managed-attach-detach": "true" },
            },
            "spec": { "podCIDR": self.pod_cidr, "podCIDRs": [self.pod_cidr] },
            "status": {
                "addresses": [
                    { "type": "InternalIP", "address": self.address }, { "type": "Hostname", "address": self.name },
                ],
                "capacity": room, "allocatable": room, "conditions": conditions(),
                "daemonEndpoints": { "kubeletEndpoint": { "Port": 10250 } },
                "images": images,
                "nodeInfo": {
                    "architecture": "amd64", "operatingSystem": "linux", "osImage": "simulated",
                    "bootID": self.name, "machineID": self.name, "systemUUID": self.name,
                    "kernelVersion": "6.1.0", "containerRuntimeVersion": "containerd://1.6.20",
                    "kubeletVersion": "v1.20.2", "kubeProxyVersion": "v1.20.2",
                },
            },
        })
    }

    /// The Lease; `before` is the one there is, with the name and version that an update needs.
    pub fn lease(&self, before: Option<&Value>) -> Value {
        let metadata = before.map_or_else(
            || json!({ "name": self.name, "namespace": "kube-node-lease" }),
            |lease| lease["metadata"].clone(),
        );
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata,
            "spec": {
                "holderIdentity": self.name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now(true),
            },
        })
    }
}

/// What a kubelet writes again when nothing changed: the times.
pub fn heartbeat() -> Value {
    json!({ "status": { "conditions": conditions() } })
}

fn conditions() -> Vec<Value> {
    let now = now(false);
    let condition = |(kind, status, reason): &(&str, &str, &str)| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": format!("simulated: {reason}"),
            "lastHeartbeatTime": now, "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    CONDITIONS.iter().map(condition).collect()
}

fn image(number: u32) -> Value {
    let name = format!("registry.example.com/team-{number}/program");
    json!({ "names": [format!("{name}@sha256:{number:064x}"), format!("{name}:v1.{number}.0")], "sizeBytes": 50_000_000 })
}

/// As Kubernetes writes times; a Lease's has exactly six digits after the second.
fn now(micro: bool) -> String {
    let now = OffsetDateTime::now_utc();
    let (date, (hour, minute, second)) = (now.date(), now.to_hms());
    let fraction = if micro { format!(".{:06}", now.microsecond()) } else { String::new() };
    format!("{date}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> ClusterFile {
        serde_json::from_value(json!({
            "cluster": {
                "name": "four", "endpoint": "10.20.0.10", "pod-cidr": "10.10.0.0/16", "service-cidr": "10.96.0.0/16",
            },
            "kubernetes": { "version": "1.20.2" },
            "node": [{ "name": "cp1", "role": "control-plane", "address": "10.20.0.10/24" }],
        }))
        .unwrap()
    }

    #[test]
    fn nodes_have_ranges_and_addresses_of_their_own_or_there_is_no_room() {
        let nodes = Simulated::nodes(&cluster(), 50).unwrap();
        assert_eq!(nodes.len(), 50);
        assert_eq!(
            (nodes[0].address.to_string(), nodes[0].pod_cidr.to_string()),
            ("10.20.0.101".to_owned(), "10.10.100.0/24".to_owned())
        );
        assert_eq!(nodes[49].pod_cidr.to_string(), "10.10.149.0/24");
        let error = Simulated::nodes(&cluster(), 200).unwrap_err().to_string();
        assert!(error.contains("room for 154 simulated nodes, not 200"), "{error}");
    }

    #[test]
    fn a_lease_is_renewed_in_the_version_that_was_read() {
        let node = &Simulated::nodes(&cluster(), 1).unwrap()[0];
        let first = node.lease(None);
        assert_eq!(first["metadata"]["name"], "simulated-1");
        let read = json!({ "metadata": { "name": "simulated-1", "resourceVersion": "7" } });
        assert_eq!(node.lease(Some(&read))["metadata"]["resourceVersion"], "7");
        let time = first["spec"]["renewTime"].as_str().unwrap();
        assert_eq!((time.len(), &time[19..20], &time[26..]), (27, ".", "Z"), "{time}");
    }
}
