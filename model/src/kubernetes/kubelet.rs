//! kubelet: flags and `KubeletConfiguration` (`kubelet.config.k8s.io/v1beta1`).

use ipnet::IpNet;
use serde_json::{Value, json};

use super::containerd::SOCKET;
use super::node_object::{self, EFFECT};
use super::render::{Arguments, Document};
use super::{Component, KubernetesError, NodeContext, gates, pki};
use crate::cluster::ClusterFile;
use crate::families::PerFamily;
use crate::{addresses, layout};

/// Flex volume drivers. The default lies in `/usr`, which is read-only.
pub(super) const VOLUME_PLUGINS: &str = "/var/lib/kubelet/volumeplugins";
/// Name of a cloud that a cloud controller manager stands for.
pub(super) const EXTERNAL: &str = "external";
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
        .set("--node-ip", node_ip(node))
        .set("--root-dir", node.path("/var/lib/kubelet"));
    let arguments = taints(cloud(bootstrap(arguments, node), node), node)
        .gated(&gates::CONTAINER_RUNTIME, "remote")
        .gated(&gates::CONTAINER_RUNTIME_ENDPOINT_FLAG, &endpoint)
        .gated(&gates::POD_INFRA_CONTAINER_IMAGE, &node.facts.os.pause_image);
    // No `--node-labels`: they count only when the kubelet creates the Node, and those of roles are
    // forbidden to it. First boot's `apply` sets labels.
    let document = Document::new(node.version, "kubelet.config.k8s.io/v1beta1", "KubeletConfiguration");
    let document = document.dual_stack(node);
    let document =
        register_with_taints(images_and_disk(runtime(identity(document, node)?, node, &endpoint)?), node);
    Ok(arguments.with_files(vec![document.file(config)]))
}

/// The node's addresses, the primary one first. With a cloud the older kubelets take that one only, and the Node gets
/// the other from the cloud controller manager.
fn node_ip(node: &NodeContext) -> String {
    let addresses = node.facts.address.addrs();
    let both =
        !node.facts.layer.file.cloud.is_external() || gates::CLOUD_DUAL_STACK_NODE_IPS.open(node.version);
    if both { addresses.to_string() } else { addresses.primary().to_string() }
}

/// How a kubelet without an authority at hand gets its first certificate.
fn bootstrap(arguments: Arguments, node: &NodeContext) -> Arguments {
    if node.is_control_plane() {
        return arguments;
    }
    arguments
        .set("--bootstrap-kubeconfig", node.node_pki(&pki::kubeconfig(pki::KUBELET_BOOTSTRAP)))
        .set("--cert-dir", node.path(layout::KUBELET_PKI))
}

/// Every release knows the flag, and it is nowhere in the configuration file. With it the kubelet taints the Node that
/// it makes until the cloud has seen it, and leaves addresses besides `--node-ip` to the cloud.
fn cloud(arguments: Arguments, node: &NodeContext) -> Arguments {
    if node.facts.layer.file.cloud.is_external() {
        arguments.set("--cloud-provider", EXTERNAL)
    } else {
        arguments
    }
}

/// For the case that the kubelet makes the Node before first boot's `apply` does.
fn taints(arguments: Arguments, node: &NodeContext) -> Arguments {
    let taints: Vec<String> =
        node_object::taints(node.facts, node.version).map(|key| format!("{key}=:{EFFECT}")).collect();
    if taints.is_empty() {
        arguments
    } else {
        arguments.gated(&gates::REGISTER_WITH_TAINTS_FLAG, taints.join(","))
    }
}

/// The same for releases that take it from the configuration file.
fn register_with_taints(document: Document, node: &NodeContext) -> Document {
    let taints = node_object::taint_list(node.facts, node.version);
    if taints.is_empty() { document } else { document.gated(&gates::REGISTER_WITH_TAINTS, taints) }
}

/// Who may talk to the kubelet, and how it shows who it is.
fn identity(document: Document, node: &NodeContext) -> Result<Document, KubernetesError> {
    let cluster = &node.facts.layer.file.cluster;
    let document = match &node.facts.provider_id {
        Some(id) => document.set("providerID", id.as_str()),
        None => document,
    };
    let document = if node.is_control_plane() {
        document
            .set("tlsCertFile", node.node_pki(&pki::certificate(pki::KUBELET_SERVER)))
            .set("tlsPrivateKeyFile", node.node_pki(&pki::key(pki::KUBELET_SERVER)))
            // First boot renews both certificates from the authority's key.
            .set("rotateCertificates", false)
            .set("serverTLSBootstrap", false)
    } else {
        // It asks for both, and asks again before they end. The one that it serves with has no approver among
        // the cluster's own controllers.
        document.set("rotateCertificates", true).set("serverTLSBootstrap", true)
    };
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
        .set("address", node.any_address())
        .set("readOnlyPort", 0)
        .set("healthzBindAddress", "127.0.0.1")
        .set("clusterDomain", cluster.domain.as_str())
        .set("clusterDNS", cluster_dns(&node.facts.layer.file)?))
}

/// Whom pods ask. Where nobody answers at the address nobody is named: the kubelet then gives pods the node's own
/// resolvers and says so in an event (`MissingClusterDNS`), instead of an address at which each look-up times out.
///
/// <https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/#pod-s-dns-policy>
fn cluster_dns(file: &ClusterFile) -> Result<Value, KubernetesError> {
    match file.dns {
        Some(_) => {
            let addresses = file.cluster.service_cidr.try_map(addresses::dns_service_address)?;
            Ok(addresses.iter().map(|address| address.to_string()).collect())
        }
        None => Ok(json!([])),
    }
}

/// Pods, cgroups, and how soon the API server hears of a change.
fn runtime(document: Document, node: &NodeContext, endpoint: &str) -> Result<Document, KubernetesError> {
    let document = document
        .gated(&gates::CONTAINER_RUNTIME_ENDPOINT, endpoint)
        .set("cgroupDriver", "cgroupfs")
        .set("cgroupRoot", "/")
        .set("failSwapOn", false)
        .set("protectKernelDefaults", false)
        .set("resolvConf", node.path("/etc/resolv.conf"))
        .set("volumePluginDir", node.path(VOLUME_PLUGINS))
        .set("maxPods", max_pods(node.facts.share_of_pods()?))
        // Seen at most this late when containerd or the network plugin turns ready; a full status is
        // still sent every five minutes only, as the lease carries the heartbeat.
        .set("nodeStatusUpdateFrequency", "4s")
        .set("nodeStatusReportFrequency", "5m0s")
        // The defaults of 1.27: 5 requests a second hold back a node that starts many pods.
        .set("kubeAPIQPS", 50)
        .set("kubeAPIBurst", 100)
        .set("eventRecordQPS", 50)
        .set("serializeImagePulls", true);
    Ok(if node.is_control_plane() {
        document.set("systemReserved", json!({ "memory": CONTROL_PLANE_MEMORY }))
    } else {
        document
    })
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

/// No more pods than the smaller of their ranges has addresses for, besides network, bridge and broadcast.
fn max_pods(pod_cidr: PerFamily<IpNet>) -> u64 {
    let usable = |range: IpNet| {
        let bits = u32::from(range.max_prefix_len() - range.prefix_len());
        1u128.checked_shl(bits).unwrap_or(u128::MAX).saturating_sub(3).max(1)
    };
    let most = pod_cidr.iter().map(usable).fold(MAX_PODS, u128::min);
    u64::try_from(most).expect("at most 110")
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
        assert_eq!(pods("10.10.0.0/26,fd00::/64"), 61);
    }
}
