//! The real etcd and Kubernetes programs, without a machine: with exactly the flags, files and
//! certificates of a node, in a network namespace of their own.
//!
//! Needs Kubernetes' binaries in `$BOOTWRIGHT_KUBERNETES` (or `.cache/kubernetes-1.20.2`, where
//! `./run kubernetes` links them) and etcd as `$BOOTWRIGHT_ETCD` (or the package that the example's lock
//! names, in the cache). A test that lacks one fails.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod addons;
mod agent;
mod coredns;
mod dual_stack;
mod etcd;
mod etcd_machine;
mod join;
mod peers;
mod ranges;
mod unknown;
mod vip;

use std::time::Duration;

use serde_json::{Value, json};

use qemu_tests::control_plane::cluster::{Cluster, Identity};
use qemu_tests::control_plane::{cluster, node, programs};

const JSON: &str = "application/json";
const PODS: &str = "/api/v1/namespaces/default/pods";

#[test]
fn components_run_with_the_rendered_flags() {
    if !programs::inside_namespace("components_run_with_the_rendered_flags") {
        return;
    }
    let mut cluster = Cluster::start();
    let admin = Identity::Certificate("admin");

    // Twice: the second time changes nothing.
    let count = cluster.apply_bootstrap();
    assert_eq!(count, cluster.apply_bootstrap());
    let node = cluster.get(&admin, "/api/v1/nodes/cp1");
    assert_eq!(node["spec"]["podCIDR"], "10.10.3.0/24");
    // A kubelet that comes later adds to these.
    assert!(node["status"]["capacity"].is_object() && node["status"]["allocatable"].is_object(), "{node}");
    assert_eq!(node["metadata"]["labels"]["zone"], "north");
    assert_eq!(node["metadata"]["labels"]["node-role.kubernetes.io/control-plane"], "");

    waits_for_its_cloud(&node, "harbor://cp1");

    another_pod_cidr_is_explained(&cluster);
    another_machine_of_the_cloud_is_explained(&cluster);
    rights(&cluster);
    bodies(&cluster, &admin);
    patches(&cluster, &admin);
    scheduler_and_controllers(&cluster, &admin);
    addons::are_applied(&cluster);
    health(&cluster);
    join::a_taint_is_set_once(&cluster);
    join::a_worker_joins(&mut cluster);
    lease_of_the_boot_before(&cluster, &admin);
}

/// Who may do what, by certificate and token.
fn rights(cluster: &Cluster) {
    let may = |user: &Identity, verb: &str, group: &str, resource: &str, subresource: &str| {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": { "resourceAttributes": {
                "verb": verb, "group": group, "resource": resource, "subresource": subresource
            } },
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        cluster.create(user, path, &review)["status"]["allowed"] == true
    };
    let token = Identity::Token(cluster.bootstrap_token());
    assert!(may(&token, "create", "certificates.k8s.io", "certificatesigningrequests", ""));
    assert!(!may(&token, "list", "", "secrets", ""));

    let apiserver = Identity::Certificate("apiserver-kubelet-client");
    assert!(may(&apiserver, "get", "", "nodes", "proxy"));
    assert!(!may(&apiserver, "list", "", "secrets", ""), "it is no administrator");

    let kubelet = Identity::Certificate("kubelet-client");
    assert_eq!(cluster.get(&kubelet, "/api/v1/nodes/cp1")["metadata"]["name"], "cp1");
    assert_eq!(cluster.call(&kubelet, "GET", "/api/v1/secrets", JSON, None).0, 403);
    let proxy = Identity::Certificate("proxy");
    assert_eq!(cluster.call(&proxy, "GET", "/api/v1/services", JSON, None).0, 200);

    // The rest of the node's certificates is nobody to the API server.
    for name in ["etcd-server", "front-proxy-client"] {
        let (status, _) = cluster.call(&Identity::Certificate(name), "GET", "/api/v1/nodes", JSON, None);
        assert_eq!(status, 401, "{name}");
    }
    let wrong = Identity::Token("abcdef.0123456789abcdef".to_owned());
    assert_eq!(cluster.call(&wrong, "GET", "/api/v1/nodes", JSON, None).0, 401);
    assert_eq!(cluster.call(&Identity::Anonymous, "GET", "/api/v1/nodes", JSON, None).0, 403);
}

/// A Node that somebody made with another pod CIDR cannot be corrected, only explained.
fn another_pod_cidr_is_explained(cluster: &Cluster) {
    let error = cluster.apply_bootstrap_with_pod_cidr("10.10.9.0/24").unwrap_err();
    assert_eq!(
        error.to_string(),
        "the Node cp1 exists with another pod CIDR than this machine's 10.10.9.0/24; \
         run \"kubectl delete node cp1\" and restart the machine"
    );
}

/// As it is in a cluster with a cloud controller manager, which would take the taint away.
fn waits_for_its_cloud(node: &Value, provider_id: &str) {
    assert_eq!(node["spec"]["providerID"], provider_id);
    let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    let waits = |taint: &Value| taint["key"] == "node.cloudprovider.kubernetes.io/uninitialized";
    assert!(taints.iter().any(waits), "{node}");
}

/// Nor one that belongs to another machine.
fn another_machine_of_the_cloud_is_explained(cluster: &Cluster) {
    let error = cluster.apply_bootstrap_as("harbor://other").unwrap_err();
    assert_eq!(
        error.to_string(),
        "the Node cp1 exists with another provider ID than this machine's harbor://other; \
         run \"kubectl delete node cp1\" and restart the machine"
    );
}

/// What this node's boot before held is free at once; what somebody else holds stays his. A controller manager that
/// finds itself out of its lease ends, so this comes last.
fn lease_of_the_boot_before(cluster: &Cluster, admin: &Identity) {
    let path = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-controller-manager";
    let holder = || cluster.get(admin, path)["spec"]["holderIdentity"].clone();
    let hold = |name: &str| {
        let renewed = "2020-01-01T00:00:00.000000Z";
        // An hour: nobody waits for its end here.
        let spec = json!({ "holderIdentity": name, "leaseDurationSeconds": 3600, "renewTime": renewed });
        let patch = json!({ "spec": spec }).to_string();
        let kind = "application/merge-patch+json";
        let (status, answer) = cluster.call(admin, "PATCH", path, kind, Some(patch.as_bytes()));
        assert_eq!(status, 200, "{answer}");
    };
    programs::eventually("the controller manager has its lease", Duration::from_secs(600), || {
        cluster.call(admin, "GET", path, JSON, None).0 == 200
    });
    hold("cp2_of-another-node");
    cluster.apply_bootstrap();
    assert_eq!(holder(), "cp2_of-another-node");
    hold("cp1_of-another-boot");
    cluster.apply_bootstrap();
    assert_ne!(holder(), "cp1_of-another-boot");
}

/// JSON bodies of several kinds: with an old reflect2 the API server panics on some of them.
fn bodies(cluster: &Cluster, admin: &Identity) {
    let default = "/api/v1/namespaces/default";
    // Made by the controller manager; no pod is admitted before.
    programs::eventually("there is a service account", Duration::from_secs(600), || {
        cluster.call(admin, "GET", &format!("{default}/serviceaccounts/default"), JSON, None).0 == 200
    });
    let meta = |name: &str| json!({ "name": name, "labels": { "app": name } });
    let pod_spec = json!({
        "automountServiceAccountToken": false,
        "containers": [{
            "name": "web", "image": "bootwright.local/web:1", "ports": [{ "containerPort": 80 }],
            "env": [{ "name": "A", "value": "b" }],
            "resources": { "requests": { "cpu": "10m", "memory": "8Mi" } },
            "livenessProbe": { "httpGet": { "path": "/", "port": 80 }, "periodSeconds": 5 },
            "volumeMounts": [{ "name": "scratch", "mountPath": "/scratch" }],
        }],
        "volumes": [{ "name": "scratch", "emptyDir": { "sizeLimit": "1Mi" } }],
        "tolerations": [{ "operator": "Exists" }],
    });
    let create = |path: &str, api: &str, kind: &str, mut object: Value| {
        object["apiVersion"] = api.into();
        object["kind"] = kind.into();
        let made = cluster.create(admin, path, &object);
        assert_eq!(made["metadata"]["name"], object["metadata"]["name"], "{made}");
    };
    create(
        &format!("{default}/configmaps"),
        "v1",
        "ConfigMap",
        json!({
            "metadata": meta("settings"), "data": { "a": "1", "long": "x".repeat(100_000) }, "binaryData": { "b": "AAEC" }
        }),
    );
    create(PODS, "v1", "Pod", json!({ "metadata": meta("single"), "spec": pod_spec }));
    create(
        "/apis/apps/v1/namespaces/default/deployments",
        "apps/v1",
        "Deployment",
        json!({
            "metadata": meta("web"),
            "spec": {
                "replicas": 2,
                "selector": { "matchLabels": { "app": "web" } },
                "template": { "metadata": { "labels": { "app": "web" } }, "spec": pod_spec },
            },
        }),
    );
    create(
        &format!("{default}/services"),
        "v1",
        "Service",
        json!({
            "metadata": meta("web"),
            "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80, "targetPort": 80 }], "type": "NodePort" },
        }),
    );
    let rbac = "rbac.authorization.k8s.io";
    create(
        &format!("/apis/{rbac}/v1/clusterrolebindings"),
        "rbac.authorization.k8s.io/v1",
        "ClusterRoleBinding",
        json!({
            "metadata": meta("readers"),
            "roleRef": { "apiGroup": rbac, "kind": "ClusterRole", "name": "view" },
            "subjects": [{ "apiGroup": rbac, "kind": "User", "name": "someone" }],
        }),
    );
    create(
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        json!({
            "metadata": { "name": "ships.harbor.example" },
            "spec": {
                "group": "harbor.example", "scope": "Namespaced",
                "names": { "plural": "ships", "singular": "ship", "kind": "Ship" },
                "versions": [{
                    "name": "v1", "served": true, "storage": true,
                    "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } },
                }],
            },
        }),
    );
    let ships = "/apis/harbor.example/v1/namespaces/default/ships";
    programs::eventually("the custom resource is served", Duration::from_secs(600), || {
        cluster.call(admin, "GET", ships, JSON, None).0 == 200
    });
    create(
        ships,
        "harbor.example/v1",
        "Ship",
        json!({ "metadata": meta("dinghy"), "spec": { "masts": [1, 2.5, "x", null] } }),
    );
    let broken = cluster.call(admin, "POST", PODS, JSON, Some(b"{ \"kind\": [".as_slice()));
    assert_eq!(broken.0, 400);
}

/// Every type of patch.
fn patches(cluster: &Cluster, admin: &Identity) {
    let path = "/api/v1/namespaces/default/configmaps/settings";
    let patch = |content_type: &str, path: &str, body: Value| {
        let body = body.to_string();
        let (status, answer) = cluster.call(admin, "PATCH", path, content_type, Some(body.as_bytes()));
        assert!(status == 200 || status == 201, "{content_type}: {status} {answer}");
        answer
    };
    let merged = patch("application/merge-patch+json", path, json!({ "data": { "a": "2", "long": null } }));
    assert_eq!(merged["data"], json!({ "a": "2" }));
    let patched = patch(
        "application/json-patch+json",
        path,
        json!([
            { "op": "test", "path": "/data/a", "value": "2" }, { "op": "add", "path": "/data/c", "value": "3" },
        ]),
    );
    assert_eq!(patched["data"], json!({ "a": "2", "c": "3" }));
    let applied = patch(
        "application/apply-patch+yaml",
        &format!("{path}?fieldManager=test&force=true"),
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "settings" }, "data": { "d": "4" },
        }),
    );
    assert_eq!(applied["data"]["d"], "4");
    let deployment = "/apis/apps/v1/namespaces/default/deployments/web";
    let strategic = patch(
        "application/strategic-merge-patch+json",
        deployment,
        json!({
            "spec": { "template": { "spec": { "containers": [{ "name": "web", "image": "bootwright.local/web:2" }] } } },
        }),
    );
    let containers = &strategic["spec"]["template"]["spec"]["containers"];
    assert_eq!(containers[0]["image"], "bootwright.local/web:2");
    assert_eq!(containers[0]["ports"][0]["containerPort"], 80, "the rest of the container stays");
}

/// A Deployment becomes pods, and a pod gets a node: both programs have their rights.
fn scheduler_and_controllers(cluster: &Cluster, admin: &Identity) {
    let room = json!({ "pods": "20", "cpu": "2", "memory": "1Gi", "ephemeral-storage": "1Gi" });
    let status = json!({ "status": { "capacity": room, "allocatable": room } }).to_string();
    let path = "/api/v1/nodes/cp1/status";
    let (code, answer) =
        cluster.call(admin, "PATCH", path, "application/strategic-merge-patch+json", Some(status.as_bytes()));
    assert_eq!(code, 200, "{answer}");
    programs::eventually("the deployment's pods have a node", Duration::from_secs(600), || {
        let pods = cluster.get(admin, &format!("{PODS}?labelSelector=app%3Dweb"));
        let bound = |pod: &Value| pod["spec"]["nodeName"] == "cp1";
        pods["items"].as_array().is_some_and(|pods| pods.iter().filter(|pod| bound(pod)).count() >= 2)
    });
    // The range allocator is off: nothing changed the baked pod CIDR.
    assert_eq!(cluster.get(admin, "/api/v1/nodes/cp1")["spec"]["podCIDRs"], json!(["10.10.3.0/24"]));
}

/// Health over the cluster's own certificates, and nothing in clear but etcd's.
fn health(cluster: &Cluster) {
    for port in [10257, 10259] {
        assert_eq!(cluster.call_at(port, &Identity::Anonymous, "GET", "/healthz", JSON, None).0, 200);
        assert_eq!(cluster.call_at(port, &Identity::Anonymous, "GET", "/metrics", JSON, None).0, 403);
        assert_eq!(
            cluster.call_at(port, &Identity::Certificate("admin"), "GET", "/metrics", JSON, None).0,
            200
        );
    }
    for port in [8080u16, 10251, 10252] {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
        assert!(std::net::TcpStream::connect(address).is_err(), "port {port} is open");
    }
}
