//! The Node object: what the inventory knows of a node and the kubelet does not say itself.
//!
//! Each machine makes its own, once it runs: nothing shows as a dead Node before a machine was ever booted. On a
//! control plane `apply` does it as the cluster's administrator, on other nodes `join` with the kubelet's
//! certificate, which lets a node set its own pod CIDR and its free labels. What the API server's NodeRestriction
//! keeps from a node, labels below `kubernetes.io` and `k8s.io`, a control plane adds ([`kept_labels`]).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::bootstrap::{Method, Object};
use super::{ALL_IN_ONE, KubernetesError, Version, WORKER, gates, is_control_plane, is_worker};
use crate::agent;
use crate::cluster::{ClusterFile, Node};
use crate::node::NodeFacts;

/// Effect of a control plane's taints.
pub(super) const EFFECT: &str = "NoSchedule";
/// Keeps pods away until the cloud controller manager has seen the Node, and is taken away by it. A kubelet with
/// `--cloud-provider=external` sets it on a Node that it makes, which here it need not do.
///
/// <https://kubernetes.io/docs/tasks/administer-cluster/running-cloud-controller/>
const UNINITIALIZED: &str = "node.cloudprovider.kubernetes.io/uninitialized";
/// Beginning of the labels that name a node's role.
const ROLE_LABEL: &str = "node-role.kubernetes.io/";
/// Where the Nodes are.
const NODES: &str = "/api/v1/nodes";

/// The Node as its own machine applies it.
pub fn of(facts: &NodeFacts) -> Result<Object, KubernetesError> {
    let version: Version = facts.os.kubernetes.parse()?;
    let role = facts.layer.role.as_str();
    let mut labels = facts.described().map(|node| node.labels.clone()).unwrap_or_default();
    if is_control_plane(role) {
        labels.extend(role_labels(role, version));
    } else {
        labels.retain(|key, _| !is_kept(key));
    }
    let mut metadata = json!({ "name": facts.name, "labels": labels });
    let mut spec = json!({});
    if facts.described().is_none() && is_worker(role) {
        metadata["annotations"] = json!({ agent::ROLE: role });
    }
    if facts.admitted {
        // Also one that has had a range before does not set it: its Node may have been deleted, and the range another's.
        let wish = facts.pod_cidr.map_or("true".to_owned(), |ranges| ranges.trunc().to_string());
        metadata["annotations"][agent::WANTS_POD_CIDR] = wish.into();
    } else {
        let ranges: Vec<String> = facts.pods()?.trunc().iter().map(|range| range.to_string()).collect();
        spec = json!({ "podCIDR": ranges[0], "podCIDRs": ranges });
    }
    if let Some(id) = &facts.provider_id {
        spec["providerID"] = id.as_str().into();
    }
    Ok(Object {
        path: format!("{NODES}/{}", facts.name),
        method: Method::Apply,
        body: json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": metadata,
            "spec": spec,
            // For the case that the Node does not exist yet: a kubelet of 1.20 panics when it registers and finds
            // one without these maps (reconcileHugePageResource). On one that exists, status is left alone.
            "status": { "capacity": { "hugepages-2Mi": "0" }, "allocatable": { "hugepages-2Mi": "0" } },
        }),
    })
}

/// Leaves a Node that is there what it has and cannot lose: a machine that the cluster file described when its Node was made,
/// and does not describe any more, set its pod CIDR and provider ID itself. Server-side apply takes away what is not
/// applied again, and the API server refuses that.
pub fn keep(object: &mut Object, present: &Value) {
    let mut kept = false;
    for field in ["podCIDR", "podCIDRs", "providerID"] {
        let has = &present["spec"][field];
        if !has.is_null() && object.body["spec"][field].is_null() {
            object.body["spec"][field] = has.clone();
            kept = true;
        }
    }
    if kept {
        // Of this Node only: one that is made after it was deleted may not have its range, which is another's by then.
        object.body["metadata"]["uid"] = present["metadata"]["uid"].clone();
    }
}

/// The Node of [`of`] with the taints of its role and of its cloud, to be made if it does not exist: a taint that was taken
/// away must not come back at the next boot. Nothing if there are none.
pub fn tainted(facts: &NodeFacts) -> Result<Option<Object>, KubernetesError> {
    let mut taints = taint_list(facts, facts.os.kubernetes.parse()?);
    if facts.layer.file.cloud.is_external() {
        taints.push(json!({ "key": UNINITIALIZED, "value": "true", "effect": EFFECT }));
    }
    if taints.is_empty() {
        return Ok(None);
    }
    let Object { mut body, .. } = of(facts)?;
    body["spec"]["taints"] = taints.into();
    Ok(Some(Object { path: NODES.to_owned(), method: Method::Create, body }))
}

/// Labels of another node than a control plane that it may not set itself: of its role, and those of the
/// inventory that the API server keeps from nodes.
pub fn kept_labels(node: &Node, version: Version) -> BTreeMap<String, String> {
    let inventory = node.labels.iter().filter(|(key, _)| is_kept(key));
    let mut labels: BTreeMap<_, _> = inventory.map(|(key, value)| (key.clone(), value.clone())).collect();
    labels.extend(role_labels(&node.role, version));
    labels
}

/// The same of a machine that nobody described, by what its Node says: any worker may have written that, so that the role is
/// one of the cluster file's workers, or `worker`, whose image is built without one. Nothing if the Node has the label of a
/// role: one that is broken into after it has joined is not to choose another.
pub fn admitted_labels(file: &ClusterFile, metadata: &Value, version: Version) -> BTreeMap<String, String> {
    let annotations = &metadata["annotations"];
    // One that was made by an older image asks for a pod CIDR, and says no more.
    let asks = annotations[agent::WANTS_POD_CIDR].as_str().map(|_| WORKER);
    let role = annotations[agent::ROLE].as_str().or(asks).filter(|role| {
        *role == WORKER || is_worker(role) && file.nodes.iter().any(|node| node.role == *role)
    });
    let labels = metadata["labels"].as_object();
    let has_role = labels.is_some_and(|labels| labels.keys().any(|key| key.starts_with(ROLE_LABEL)));
    let (true, false, Some(role)) = (file.cluster.admit_unknown_workers, has_role, role) else {
        return BTreeMap::new();
    };
    role_labels(role, version)
}

/// Keys of the taints that keep users' pods away.
pub(super) fn taints(facts: &NodeFacts, version: Version) -> impl Iterator<Item = &'static str> {
    let role = facts.layer.role.as_str();
    let tainted = is_control_plane(role) && role != ALL_IN_ONE;
    let gates = [gates::MASTER_TAINT, gates::CONTROL_PLANE_TAINT];
    gates.into_iter().filter(move |gate| tainted && gate.open(version)).map(|gate| gate.option)
}

/// The taints as they stand in a Node and in the kubelet's configuration.
pub(super) fn taint_list(facts: &NodeFacts, version: Version) -> Vec<Value> {
    taints(facts, version).map(|key| json!({ "key": key, "effect": EFFECT })).collect()
}

/// `node-role.kubernetes.io/…`, which `kubectl get nodes` shows as the role.
fn role_labels(role: &str, version: Version) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    if is_control_plane(role) {
        labels.insert(format!("{ROLE_LABEL}control-plane"), String::new());
        if gates::MASTER_LABEL.open(version) {
            labels.insert(gates::MASTER_LABEL.option.to_owned(), String::new());
        }
    } else {
        labels.insert(format!("{ROLE_LABEL}{role}"), String::new());
    }
    labels
}

/// Whether the API server keeps a label from nodes. Those that it lets a kubelet set, `topology.kubernetes.io/zone`
/// among them, are kept as well: one who may set all of them sets these too.
///
/// <https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction>
fn is_kept(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    ["kubernetes.io", "k8s.io"].iter().any(|kept| {
        domain.strip_suffix(kept).is_some_and(|before| before.is_empty() || before.ends_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{facts, worker};
    use super::*;

    #[test]
    fn the_master_label_goes_with_1_24() {
        let labels =
            |version| of(&facts(version, "1.6.20", "3.5.6")).unwrap().body["metadata"]["labels"].clone();
        assert!(labels("1.23.17").get("node-role.kubernetes.io/master").is_some());
        assert!(labels("1.24.0").get("node-role.kubernetes.io/master").is_none());
        assert!(labels("1.24.0").get("node-role.kubernetes.io/control-plane").is_some());
    }

    #[test]
    fn only_a_control_plane_that_is_nothing_else_is_tainted() {
        let keys = |role: &str, version: &str| {
            let mut facts = facts(version, "1.6.20", "3.5.6");
            facts.layer.role = role.to_owned();
            let object = tainted(&facts).unwrap();
            let taints = object.map(|object| object.body["spec"]["taints"].as_array().unwrap().clone());
            taints.unwrap_or_default().iter().map(|taint| taint["key"].clone()).collect::<Vec<_>>()
        };
        assert!(keys("all-in-one", "1.20.2").is_empty() && keys("worker", "1.20.2").is_empty());
        assert_eq!(keys("control-plane", "1.20.2"), ["node-role.kubernetes.io/master"]);
        assert_eq!(keys("control-plane", "1.24.0").len(), 2);
        assert_eq!(keys("control-plane", "1.25.0"), ["node-role.kubernetes.io/control-plane"]);
    }

    #[test]
    fn every_node_of_a_cloud_waits_for_it_and_says_who_it_is() {
        for mut facts in [facts("1.20.2", "1.6.20", "3.5.6"), worker("1.30.0")] {
            assert!(of(&facts).unwrap().body["spec"].get("providerID").is_none());
            facts.layer.file.cloud.provider = crate::cloud::CloudProvider::External;
            facts.provider_id = Some("hcloud://42".to_owned());
            let made = tainted(&facts).unwrap().unwrap();
            let taint = json!({ "key": UNINITIALIZED, "value": "true", "effect": "NoSchedule" });
            assert_eq!(made.body["spec"]["taints"], json!([taint]));
            let applied = of(&facts).unwrap().body;
            assert_eq!(applied["spec"]["providerID"], "hcloud://42");
            assert!(applied["spec"].get("taints").is_none(), "it would come back at each boot");
        }
    }

    #[test]
    fn a_worker_sets_no_label_that_is_kept_from_it() {
        let facts = worker("1.20.2");
        let object = of(&facts).unwrap();
        assert_eq!(object.body["metadata"]["labels"], json!({ "disk": "fast" }));
        assert_eq!(object.body["spec"]["podCIDR"], "10.10.4.0/24");
        let kept = kept_labels(&facts.layer.file.nodes[1], "1.20.2".parse().unwrap());
        let kept: Vec<&str> = kept.keys().map(String::as_str).collect();
        assert_eq!(kept, ["node-role.kubernetes.io/worker", "topology.kubernetes.io/zone"]);
    }

    #[test]
    fn a_machine_that_nobody_described_asks_for_its_range() {
        let mut facts = worker("1.20.2");
        (facts.name, facts.admitted) = ("worker-a".to_owned(), true);
        for (has, asks) in [(None, "true"), (Some("10.10.255.7/24"), "10.10.255.0/24")] {
            facts.pod_cidr = has.map(|range| range.parse().unwrap());
            let body = of(&facts).unwrap().body;
            assert_eq!(
                body["metadata"]["annotations"],
                json!({ agent::WANTS_POD_CIDR: asks, agent::ROLE: "worker" })
            );
            assert!(
                body["spec"].get("podCIDR").is_none() && body["spec"].get("podCIDRs").is_none(),
                "{body}"
            );
        }
    }

    #[test]
    fn a_machine_that_nobody_described_is_labelled_as_the_workers_are() {
        let mut file = worker("1.20.2").layer.file;
        let says = |role: Value| json!({ agent::WANTS_POD_CIDR: "true", agent::ROLE: role });
        let labels = |file: &ClusterFile, annotations: Value| {
            let metadata = json!({ "annotations": annotations, "labels": { "zone": "a" } });
            let labels = admitted_labels(file, &metadata, "1.20.2".parse().unwrap());
            labels.into_keys().collect::<Vec<_>>().join(" ")
        };
        let of_worker = "node-role.kubernetes.io/worker";
        assert_eq!(labels(&file, says("worker".into())), "", "nobody is admitted");
        file.cluster.admit_unknown_workers = true;
        assert_eq!(labels(&file, says("worker".into())), of_worker);
        assert_eq!(labels(&file, says(Value::Null)), of_worker, "of an image that did not say it");
        assert_eq!(labels(&file, says("storage".into())), "", "no node has that role");
        assert_eq!(labels(&file, json!({ agent::ROLE: "worker" })), of_worker, "it has a range of its own");
        assert_eq!(labels(&file, Value::Null), "");
        for role in ["all-in-one", "control-plane", "etcd", "", "x/y"] {
            assert_eq!(labels(&file, says(role.into())), "", "{role}");
        }
        file.nodes[1].role = "storage".to_owned();
        assert_eq!(labels(&file, says("storage".into())), "node-role.kubernetes.io/storage");
        let has = json!({ "annotations": says("storage".into()), "labels": { of_worker: "" } });
        assert_eq!(admitted_labels(&file, &has, "1.20.2".parse().unwrap()), BTreeMap::new(), "not another");
    }

    #[test]
    fn what_a_node_cannot_lose_is_applied_again() {
        let mut facts = worker("1.20.2");
        (facts.name, facts.admitted, facts.pod_cidr) = ("worker-a".to_owned(), true, None);
        let applied = |present: Value| {
            let mut object = of(&facts).unwrap();
            keep(&mut object, &present);
            (object.body["spec"].clone(), object.body["metadata"]["uid"].clone())
        };
        let (range, uid) = (json!(["10.10.4.0/24"]), json!("1-2"));
        let spec =
            json!({ "podCIDR": range[0], "podCIDRs": range, "providerID": "a://b", "unschedulable": true });
        assert_eq!(
            applied(json!({ "metadata": { "uid": uid }, "spec": spec })),
            (json!({ "podCIDR": range[0], "podCIDRs": range, "providerID": "a://b" }), uid.clone())
        );
        assert_eq!(applied(json!({ "metadata": { "uid": uid }, "spec": {} })), (json!({}), Value::Null));
        facts.provider_id = Some("a://c".to_owned());
        let mut object = of(&facts).unwrap();
        keep(&mut object, &json!({ "spec": { "providerID": "a://b" } }));
        assert_eq!(object.body["spec"]["providerID"], "a://c", "which is refused, and explained");
    }

    #[test]
    fn kept_domains() {
        for key in ["kubernetes.io/os", "node-role.kubernetes.io/x", "kops.k8s.io/x", "k8s.io/x"] {
            assert!(is_kept(key), "{key}");
        }
        for key in ["zone", "example.org/zone", "notkubernetes.io/x", "kubernetes.io"] {
            assert!(!is_kept(key), "{key}");
        }
    }
}
