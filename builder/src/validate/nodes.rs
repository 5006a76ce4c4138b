//! Verdicts on Node objects.

use std::collections::BTreeSet;
use std::net::IpAddr;

use bootwright_model::addresses;
use bootwright_model::families::{Family, PerFamily};
use ipnet::IpNet;
use serde_json::Value;

use super::expected::Expected;
use super::report::{Check, Finding};

/// What the other checks need of a Node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// Its addresses of type `InternalIP`.
    pub addresses: Vec<IpAddr>,
    /// Its pods, one for each family.
    pub pod_cidrs: Vec<IpNet>,
    /// Whether its condition `Ready` is true.
    pub ready: bool,
    /// Whether its labels say that it is part of the control plane.
    pub control_plane: bool,
}

/// Labels of control planes: the old one is what releases before 1.24 have.
const CONTROL_PLANE: [&str; 2] = ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];

impl NodeView {
    /// Of a Node object.
    pub fn of(node: &Value) -> NodeView {
        let spec = &node["spec"];
        let ranges = spec["podCIDRs"].as_array().into_iter().flatten();
        let mut pod_cidrs: Vec<IpNet> = ranges.filter_map(|range| range.as_str()?.parse().ok()).collect();
        if pod_cidrs.is_empty() {
            pod_cidrs.extend(spec["podCIDR"].as_str().and_then(|range| range.parse::<IpNet>().ok()));
        }
        let addresses = node["status"]["addresses"].as_array();
        let internal = addresses.into_iter().flatten().filter(|address| address["type"] == "InternalIP");
        NodeView {
            name: text(&node["metadata"]["name"]).to_owned(),
            addresses: internal.filter_map(|address| address["address"].as_str()?.parse().ok()).collect(),
            pod_cidrs,
            ready: condition(node).is_some_and(|ready| ready["status"] == "True"),
            control_plane: CONTROL_PLANE.iter().any(|label| !node["metadata"]["labels"][label].is_null()),
        }
    }
}

/// Ready, with the pod CIDR and the address that they should have.
pub fn verdicts(nodes: &[Value], expected: Option<&Expected>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if nodes.is_empty() {
        findings.push(Finding::failed(
            Check::NodeReady,
            "all nodes",
            "the cluster has no Node",
            "look at a machine's console: its kubelet makes the Node",
        ));
    }
    let views: Vec<NodeView> = nodes.iter().map(NodeView::of).collect();
    for (node, view) in nodes.iter().zip(&views) {
        findings.push(readiness(node, view));
        findings.push(pod_cidr(view, expected));
        findings.extend(expected.and_then(|expected| address(view, expected)));
    }
    findings.extend(overlaps(&views));
    let known: BTreeSet<&str> = views.iter().map(|view| view.name.as_str()).collect();
    let names = expected.into_iter().flat_map(|expected| expected.nodes.keys());
    for name in names.filter(|name| !known.contains(name.as_str())) {
        findings.push(Finding::failed(
            Check::NodeReady,
            name,
            "there is no Node of this name, and the cluster file has one",
            "look at the machine's console: a stage that failed says why, and `join` in the kubelet's log how far it is",
        ));
    }
    findings
}

fn readiness(node: &Value, view: &NodeView) -> Finding {
    let version = text(&node["status"]["nodeInfo"]["kubeletVersion"]);
    if view.ready {
        return Finding::passed(Check::NodeReady, &view.name, format!("kubelet {version}"));
    }
    let why = match condition(node) {
        Some(ready) => format!("not Ready ({}): {}", text(&ready["reason"]), text(&ready["message"])),
        None => "its kubelet has never said that it is Ready".to_owned(),
    };
    let advice =
        "its kubelet's log and `bootwright lab status` or the machine's console say what it waits for";
    Finding::failed(Check::NodeReady, &view.name, why, advice)
}

fn pod_cidr(view: &NodeView, expected: Option<&Expected>) -> Finding {
    let ranges: Vec<String> = view.pod_cidrs.iter().map(ToString::to_string).collect();
    let ranges = ranges.join(", ");
    let advice = "build the images from the cluster file again and boot them, or correct the file: the CNI configuration \
                  is made from it";
    let failed = |why: String| Finding::failed(Check::PodCidr, &view.name, why, advice);
    if view.pod_cidrs.is_empty() {
        return failed("its Node has no pod CIDR".to_owned());
    }
    let Some(expected) = expected else { return Finding::passed(Check::PodCidr, &view.name, ranges) };
    let lacks =
        |wanted: &PerFamily<IpNet>| wanted.trunc().iter().any(|range| !view.pod_cidrs.contains(&range));
    match expected.nodes.get(&view.name).map(|node| node.pod_cidr) {
        None => match &expected.admits_in {
            None => failed("the cluster file has no node of this name".to_owned()),
            Some(whole) => admitted(view, whole, ranges),
        },
        Some(Some(wanted)) if lacks(&wanted) => {
            failed(format!("its Node has {ranges}, and the cluster file says {wanted:#}"))
        }
        Some(_) => Finding::passed(Check::PodCidr, &view.name, ranges),
    }
}

/// Of a node that nobody described: what it was given.
fn admitted(view: &NodeView, whole: &PerFamily<IpNet>, ranges: String) -> Finding {
    let is_inside = |range: &IpNet| whole.iter().any(|whole| whole.contains(range));
    if view.pod_cidrs.iter().all(is_inside) {
        return Finding::passed(
            Check::PodCidr,
            &view.name,
            format!("{ranges}, of no node of the cluster file"),
        );
    }
    let why = format!("its Node has {ranges}, outside the cluster's {whole:#}");
    let advice = "delete the Node and restart its machine: it then gets another";
    Finding::failed(Check::PodCidr, &view.name, why, advice)
}

fn address(view: &NodeView, expected: &Expected) -> Option<Finding> {
    let wanted = expected.nodes.get(&view.name)?.address;
    // A cloud may add others behind them. The first of all is what Kubernetes takes for the node's address.
    let first = |family| view.addresses.iter().copied().find(|address| Family::of(*address) == family);
    let as_wanted = wanted.iter().all(|address| first(Family::of(address)) == Some(address));
    if as_wanted && view.addresses.first() == Some(&wanted.primary()) {
        return Some(Finding::passed(Check::NodeAddress, &view.name, format!("{wanted:#}")));
    }
    let found: Vec<String> = view.addresses.iter().map(ToString::to_string).collect();
    let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
    let why = format!("its Node has {found}, and the cluster file says {wanted:#}");
    let advice = "look at the stages identity and network of its boot";
    Some(Finding::failed(Check::NodeAddress, &view.name, why, advice))
}

/// Pods of two nodes with the same addresses.
fn overlaps(views: &[NodeView]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, view) in views.iter().enumerate() {
        for other in &views[..index] {
            let ranges =
                view.pod_cidrs.iter().flat_map(|mine| other.pod_cidrs.iter().map(move |range| (mine, range)));
            for (mine, theirs) in ranges.filter(|(mine, theirs)| addresses::overlaps(mine, theirs)) {
                findings.push(Finding::failed(
                    Check::PodCidr,
                    format!("{} and {}", other.name, view.name),
                    format!("{theirs} and {mine} overlap: pods of both can have one address"),
                    "give one of them another `pod-cidr` in the cluster file, and build and boot it again",
                ));
            }
        }
    }
    findings
}

fn condition(node: &Value) -> Option<&Value> {
    node["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == "Ready")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::report::Report;
    use super::*;

    fn node(name: &str, address: &str, pods: &str, ready: &str) -> Value {
        json!({
            "metadata": { "name": name, "labels": { "node-role.kubernetes.io/control-plane": "" } },
            "spec": { "podCIDR": pods, "podCIDRs": [pods] },
            "status": {
                "addresses": [{ "type": "Hostname", "address": name }, { "type": "InternalIP", "address": address }],
                "conditions": [{ "type": "Ready", "status": ready, "reason": "KubeletNotReady",
                                 "message": "runtime network not ready" }],
                "nodeInfo": { "kubeletVersion": "v1.20.2" },
            },
        })
    }

    fn expected() -> Expected {
        let node = |address: &str, pods: &str| super::super::expected::ExpectedNode {
            address: address.parse().unwrap(),
            pod_cidr: Some(pods.parse().unwrap()),
        };
        let nodes = [
            ("cp1".to_owned(), node("10.20.0.10", "10.10.0.0/24")),
            ("w1".to_owned(), node("10.20.0.11", "10.10.1.0/24")),
            ("w2".to_owned(), node("10.20.0.12", "10.10.2.0/24")),
        ];
        let domain = "cluster.local".to_owned();
        Expected {
            nodes: nodes.into(),
            control_planes: 1,
            etcd: Vec::new(),
            other_elections: BTreeSet::new(),
            domain,
            dns: false,
            admits_in: None,
        }
    }

    #[test]
    fn a_node_as_the_cluster_file_says_passes() {
        let nodes = [node("cp1", "10.20.0.10", "10.10.0.0/24", "True")];
        let view = NodeView::of(&nodes[0]);
        assert!(
            view.ready && view.control_plane && view.addresses == ["10.20.0.10".parse::<IpAddr>().unwrap()]
        );
        assert!(Report::of("", verdicts(&nodes, None)).ok);
        let mut only = expected();
        only.nodes.retain(|name, _| name == "cp1");
        assert!(Report::of("", verdicts(&nodes, Some(&only))).ok);
    }

    #[test]
    fn of_both_families_nothing_may_be_missing() {
        let mut only = expected();
        only.nodes.retain(|name, _| name == "cp1");
        for node in only.nodes.values_mut() {
            node.address = "10.20.0.10,fd00:20::10".parse().unwrap();
            node.pod_cidr = "10.10.0.0/24,fd00:10:10::/64".parse().ok();
        }
        let half = node("cp1", "10.20.0.10", "10.10.0.0/24", "True");
        let mut whole = half.clone();
        whole["spec"]["podCIDRs"] = json!(["10.10.0.0/24", "fd00:10:10::/64"]);
        let address = json!({ "type": "InternalIP", "address": "fd00:20::10" });
        whole["status"]["addresses"].as_array_mut().unwrap().push(address);
        assert!(Report::of("", verdicts(&[whole], Some(&only))).ok);
        insta::assert_snapshot!(Report::of("server", verdicts(&[half], Some(&only))).text(), @r"
        CHECK         RESULT    SEEN
        node Ready    1 passed  cp1: kubelet v1.20.2
        pod CIDR      1 failed
        node address  1 failed

        FAILED pod CIDR, cp1: its Node has 10.10.0.0/24, and the cluster file says 10.10.0.0/24, fd00:10:10::/64
               build the images from the cluster file again and boot them, or correct the file: the CNI configuration is made from it
        FAILED node address, cp1: its Node has 10.20.0.10, and the cluster file says 10.20.0.10, fd00:20::10
               look at the stages identity and network of its boot
        server: 1 passed, 2 failed, 0 skipped
        ");
    }

    #[test]
    fn a_node_that_nobody_described_has_a_range_of_the_cluster() {
        let mut open = expected();
        open.nodes.retain(|name, _| name == "cp1");
        open.admits_in = "10.10.0.0/16".parse().ok();
        let seen = |range: &str| {
            let nodes = [
                node("cp1", "10.20.0.10", "10.10.0.0/24", "True"),
                node("worker-5254002000a1", "10.20.0.99", range, "True"),
            ];
            Report::of("", verdicts(&nodes, Some(&open)))
        };
        assert!(seen("10.10.255.0/24").ok);
        let outside = seen("10.99.0.0/24");
        assert!(
            !outside.ok && outside.text().contains("outside the cluster's 10.10.0.0/16"),
            "{}",
            outside.text()
        );
    }

    #[test]
    fn each_difference_is_told() {
        let nodes = [
            node("cp1", "10.20.0.10", "10.10.0.0/24", "False"),
            node("w1", "10.20.0.99", "10.10.0.128/25", "True"),
            node("x", "10.20.0.13", "10.10.3.0/24", "True"),
        ];
        insta::assert_snapshot!(Report::of("server", verdicts(&nodes, Some(&expected()))).text(), @r"
        CHECK         RESULT              SEEN
        node Ready    2 failed, 2 passed  w1, x: kubelet v1.20.2
        pod CIDR      3 failed, 1 passed  cp1: 10.10.0.0/24
        node address  1 failed, 1 passed  cp1: 10.20.0.10

        FAILED node Ready, cp1: not Ready (KubeletNotReady): runtime network not ready
               its kubelet's log and `bootwright lab status` or the machine's console say what it waits for
        FAILED node Ready, w2: there is no Node of this name, and the cluster file has one
               look at the machine's console: a stage that failed says why, and `join` in the kubelet's log how far it is
        FAILED pod CIDR, w1: its Node has 10.10.0.128/25, and the cluster file says 10.10.1.0/24
               build the images from the cluster file again and boot them, or correct the file: the CNI configuration is made from it
        FAILED pod CIDR, x: the cluster file has no node of this name
               build the images from the cluster file again and boot them, or correct the file: the CNI configuration is made from it
        FAILED pod CIDR, cp1 and w1: 10.10.0.0/24 and 10.10.0.128/25 overlap: pods of both can have one address
               give one of them another `pod-cidr` in the cluster file, and build and boot it again
        FAILED node address, w1: its Node has 10.20.0.99, and the cluster file says 10.20.0.11
               look at the stages identity and network of its boot
        server: 4 passed, 6 failed, 0 skipped
        ");
    }
}
