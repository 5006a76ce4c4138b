//! What the agent of a control plane may do at the API server: RBAC objects, part of [`super::bootstrap`].
//!
//! That of any other node shows the kubelet's certificate. Nodes and endpoints it may list by `system:node-proxier`,
//! which the group of all nodes is bound to for kube-proxy's sake; Kubernetes' node authorizer lets a node read other
//! Nodes up to 1.31 only (KEP-4601).

use serde_json::{Value, json};

use super::bootstrap::{Method, Object};
use crate::agent;
use crate::cluster::Cluster;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Roles and bindings, in order.
pub(super) fn objects(cluster: &Cluster) -> Vec<Object> {
    let agent = json!({ "apiGroup": GROUP, "kind": "User", "name": agent::USER });
    // Both kinds of requests: to decide on those of machines that join is its work too, so the right
    // `certificatesigningrequests/nodeclient`, by which Kubernetes approves them without a look at the name, is
    // given to nobody.
    let signers = json!(["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"]);
    let approver = json!([
        {
            "apiGroups": ["certificates.k8s.io"],
            "resources": ["certificatesigningrequests"],
            "verbs": ["list", "watch"],
        },
        {
            "apiGroups": ["certificates.k8s.io"],
            "resources": ["certificatesigningrequests/approval"],
            "verbs": ["patch"],
        },
        {
            "apiGroups": ["certificates.k8s.io"],
            "resources": ["signers"],
            "resourceNames": signers,
            "verbs": ["approve"],
        },
        { "apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"] },
    ]);
    // Of the API's own Service and of nothing else.
    let endpoints = json!([{
        "apiGroups": [""],
        "resources": ["endpoints"],
        "resourceNames": ["kubernetes"],
        "verbs": ["list", "watch"],
    }]);
    // A Lease that is not there yet has no name that a rule could be about: to make it is a right of its own.
    let lease = json!([
        { "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"] },
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "resourceNames": [agent::VIRTUAL_IP_LEASE],
            "verbs": ["get", "update"],
        },
    ]);
    // Only while strangers may join: whoever may change a Node may also draw pods to it.
    let giver = if cluster.admit_unknown_workers { json!([agent]) } else { json!([]) };
    let ranges = json!([{ "apiGroups": [""], "resources": ["nodes"], "verbs": ["patch"] }]);
    let ranges_lease = json!([
        { "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"] },
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "resourceNames": [agent::POD_CIDR_LEASE],
            "verbs": ["get", "update"],
        },
    ]);
    let default = Some("default");
    let leases = Some(agent::LEASE_NAMESPACE);
    vec![
        role(None, "bootwright:agent", approver),
        binding(None, "bootwright:agent", json!([agent])),
        role(default, "bootwright:api-endpoints", endpoints),
        binding(default, "bootwright:api-endpoints", json!([agent])),
        role(leases, "bootwright:virtual-ip", lease),
        binding(leases, "bootwright:virtual-ip", json!([agent])),
        role(None, "bootwright:pod-cidrs", ranges),
        binding(None, "bootwright:pod-cidrs", giver.clone()),
        role(leases, "bootwright:pod-cidrs", ranges_lease),
        binding(leases, "bootwright:pod-cidrs", giver),
    ]
}

/// In a namespace, or in all.
fn role(namespace: Option<&str>, name: &str, rules: Value) -> Object {
    let mut body = json!({ "metadata": { "name": name }, "rules": rules });
    object(namespace, "Role", &mut body)
}

/// Of the role with the same name. Subjects that an earlier image named and that are not named any more go: server-side
/// apply replaces the list.
fn binding(namespace: Option<&str>, name: &str, subjects: Value) -> Object {
    let kind = if namespace.is_some() { "Role" } else { "ClusterRole" };
    let role = json!({ "apiGroup": GROUP, "kind": kind, "name": name });
    let mut body = json!({ "metadata": { "name": name }, "roleRef": role, "subjects": subjects });
    object(namespace, "RoleBinding", &mut body)
}

fn object(namespace: Option<&str>, kind: &str, body: &mut Value) -> Object {
    let kind = if namespace.is_some() { kind.to_owned() } else { format!("Cluster{kind}") };
    let plural = format!("{}s", kind.to_ascii_lowercase());
    let mut place = String::new();
    if let Some(namespace) = namespace {
        body["metadata"]["namespace"] = namespace.into();
        place = format!("namespaces/{namespace}/");
    }
    let name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    body["apiVersion"] = format!("{GROUP}/v1").into();
    body["kind"] = kind.into();
    let path = format!("/apis/{GROUP}/v1/{place}{plural}/{name}");
    Object { path, method: Method::Apply, body: body.take() }
}
