//! kubelet: flags and `KubeletConfiguration` (`kubelet.config.k8s.io/v1beta1`).

use ipnet::IpNet;
use serde_json::json;

use super::containerd::SOCKET;
use super::render::{Arguments, Document};
use super::{Component, KubernetesError, NodeContext, gates, pki};
use crate::addresses;

/// Flex volume drivers. The default lies in `/usr`, which is read-only.
pub(super) const VOLUME_PLUGINS: &str = "/var/lib/kubelet/volumeplugins";
/// Kubernetes' own limit of pods on a node.
const MAX_PODS: u128 = 110;
/// Kept from pods on a control plane, whose programs live outside the pods' cgroup.
const CONTROL_PLANE_MEMORY: &str = "384Mi";

pub(super) fn render(node: &NodeContext) -> Result<Component, KubernetesError> {
    let config = node.etc("kubelet.json");
    let endpoint = format!("unix://{}", node.path(SOCKET));
    let arguments = Arguments::new(node.version)
        .set("--config", &config)
        .set("--kubeconfig", node.node_pki(&pki::kubeconfig(pki::KUBELET_CLIENT)))
        .set("--hostname-override", &node.facts.name)
        .set("--node-ip", node.address())
        .set("--root-dir", node.path("/var/lib/kubelet"))
        .gated(&gates::CONTAINER_RUNTIME, "remote")
        .gated(&gates::CONTAINER_RUNTIME_ENDPOINT_FLAG, &endpoint)
        .gated(&gates::POD_INFRA_CONTAINER_IMAGE, &node.facts.os.pause_image);
    // No `--node-labels`: they count only when the kubelet creates the Node, and those of roles are
    // forbidden to it. First boot's `apply` sets labels.
    let document = Document::new(node.version, "kubelet.config.k8s.io/v1beta1", "KubeletConfiguration");
    let document = images_and_disk(runtime(identity(document, node)?, node, &endpoint));
    Ok(arguments.with_files(vec![document.file(config)]))
}

/// Who may talk to the kubelet, and how it shows who it is.
fn identity(document: Document, node: &NodeContext) -> Result<Document, KubernetesError> {
    let cluster = &node.facts.layer.file.cluster;
    Ok(document
        .set(
            "authentication",
            json!({
                "anonymous": { "enabled": false },
                "webhook": { "enabled": true },
                "x509": { "clientCAFile": node.cluster_pki(&pki::certificate(pki::CA)) },
            }),
        )
        .set("authorization", json!({ "mode": "Webhook" }))
        .set("tlsCertFile", node.node_pki(&pki::certificate(pki::KUBELET_SERVER)))
        .set("tlsPrivateKeyFile", node.node_pki(&pki::key(pki::KUBELET_SERVER)))
        // First boot renews both certificates from the authority's key, which a control plane has.
        .set("rotateCertificates", false)
        .set("serverTLSBootstrap", false)
        .set("address", node.any_address())
        .set("readOnlyPort", 0)
        .set("healthzBindAddress", "127.0.0.1")
        .set("clusterDomain", cluster.domain.as_str())
        .set("clusterDNS", json!([addresses::dns_service_address(cluster.service_cidr)?])))
}

/// Pods, cgroups, and how soon the API server hears of a change.
fn runtime(document: Document, node: &NodeContext, endpoint: &str) -> Document {
    let document = document
        .gated(&gates::CONTAINER_RUNTIME_ENDPOINT, endpoint)
        .set("cgroupDriver", "cgroupfs")
        .set("cgroupRoot", "/")
        .set("failSwapOn", false)
        .set("protectKernelDefaults", false)
        .set("resolvConf", node.path("/etc/resolv.conf"))
        .set("volumePluginDir", node.path(VOLUME_PLUGINS))
        .set("maxPods", max_pods(node.facts.pod_cidr))
        // Seen at most this late when containerd or the network plugin turns ready; a full status is
        // still sent every five minutes only, as the lease carries the heartbeat.
        .set("nodeStatusUpdateFrequency", "4s")
        .set("nodeStatusReportFrequency", "5m0s")
        // The defaults of 1.27: 5 requests a second hold back a node that starts many pods.
        .set("kubeAPIQPS", 50)
        .set("kubeAPIBurst", 100)
        .set("eventRecordQPS", 50)
        .set("serializeImagePulls", true);
    if super::CONTROL_PLANE_ROLES.contains(&node.facts.layer.role.as_str()) {
        document.set("systemReserved", json!({ "memory": CONTROL_PLANE_MEMORY }))
    } else {
        document
    }
}

/// What is deleted when.
fn images_and_disk(document: Document) -> Document {
    document
        // 100 turns the image collector off: a baked image cannot be pulled again once it is gone.
        .set("imageGCHighThresholdPercent", 100)
        .gated(&gates::IMAGE_MAXIMUM_GC_AGE, "0s")
        // Still on, low enough for a disk of a few gigabytes: a full disk stops etcd. It has a price: before
        // it evicts pods, the kubelet deletes images that no container uses, baked ones too.
        .set(
            "evictionHard",
            json!({
                "memory.available": "50Mi",
                "nodefs.available": "3%",
                "nodefs.inodesFree": "3%",
                "imagefs.available": "3%",
            }),
        )
        .set("containerLogMaxSize", "10Mi")
        .set("containerLogMaxFiles", 3)
}

/// No more pods than their range has addresses for, besides network, bridge and broadcast.
fn max_pods(pod_cidr: IpNet) -> u64 {
    let bits = u32::from(pod_cidr.max_prefix_len() - pod_cidr.prefix_len());
    let usable = 1u128.checked_shl(bits).unwrap_or(u128::MAX).saturating_sub(3).max(1);
    u64::try_from(usable.min(MAX_PODS)).expect("at most 110")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_fit_their_range() {
        let pods = |text: &str| max_pods(text.parse().unwrap());
        assert_eq!(pods("10.10.0.0/24"), 110);
        assert_eq!(pods("10.10.0.0/26"), 61);
        assert_eq!(pods("10.10.0.0/30"), 1);
        assert_eq!(pods("10.10.0.0/32"), 1);
        assert_eq!(pods("fd00::/64"), 110);
        assert_eq!(pods("::/0"), 110);
    }
}
