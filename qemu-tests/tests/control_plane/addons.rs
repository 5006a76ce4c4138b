//! Addons against the real API server: in whatever order, and whoever is refused.

use std::time::Duration;

use bootwright_model::addons::BakedAddon;
use firstboot::bootstrap::{Api, addons};
use serde_json::{Value, json};

use super::cluster::{Cluster, Identity};

const PATIENCE: Duration = Duration::from_secs(300);
const BOAT: &str = "/apis/harbor.example/v1/namespaces/default/boats/dinghy";

/// What is refused keeps nothing else out, what comes too early is taken later, and the second time changes nothing.
pub fn are_applied(cluster: &Cluster) {
    let admin = Identity::Certificate("admin");
    let all = [tools()];

    let api = Api::open(&cluster.roots(), cluster.facts().layer.file.cluster.endpoint_port).unwrap();
    let outcome = addons::run(&api, &all, PATIENCE);
    assert_eq!((outcome.applied, outcome.failed.len()), (5, 2), "{:?}", outcome.failed);
    assert!(outcome.failed[0].starts_with("tools: Service broken: "), "{:?}", outcome.failed);
    assert!(outcome.failed[1].starts_with("tools: Secret broken: "), "{:?}", outcome.failed);
    assert!(!outcome.failed[1].contains("hunter2"), "{:?}", outcome.failed);

    let boat = cluster.get(&admin, BOAT);
    assert_eq!(boat["spec"]["masts"], 1);
    assert_eq!(boat["metadata"]["managedFields"][0]["manager"], "bootwright");
    let role =
        cluster.get(&admin, "/apis/rbac.authorization.k8s.io/v1/clusterroles/tools:reader%20of%20boats");
    assert_eq!(role["rules"][0]["resources"], json!(["boats"]));
    assert_eq!(cluster.get(&admin, "/api/v1/namespaces/tools/configmaps/settings")["data"]["a"], "1");

    let version = || cluster.get(&admin, BOAT)["metadata"]["resourceVersion"].clone();
    let before = version();
    assert_eq!(addons::run(&api, &all, PATIENCE).applied, 5);
    assert_eq!(version(), before);
}

/// In the wrong order, with two objects that no API server takes.
fn tools() -> BakedAddon {
    let group = "apiextensions.k8s.io/v1";
    let rbac = "rbac.authorization.k8s.io/v1";
    let schema = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let version =
        json!({ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": schema } });
    let names = json!({ "plural": "boats", "singular": "boat", "kind": "Boat" });
    let objects = vec![
        json!({ "apiVersion": "harbor.example/v1", "kind": "Boat", "metadata": { "name": "dinghy" }, "spec": { "masts": 1 } }),
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "broken" }, "spec": { "ports": [{ "port": 0 }] } }),
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "broken" }, "data": { "password": "hunter2!" } }),
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "settings", "namespace": "tools" }, "data": { "a": "1" } }),
        json!({ "apiVersion": rbac, "kind": "ClusterRole", "metadata": { "name": "tools:reader of boats" },
            "rules": [{ "apiGroups": ["harbor.example"], "resources": ["boats"], "verbs": ["get"] }] }),
        json!({ "apiVersion": group, "kind": "CustomResourceDefinition", "metadata": { "name": "boats.harbor.example" },
            "spec": { "group": "harbor.example", "scope": "Namespaced", "names": names, "versions": [version] } }),
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "tools" } }),
    ];
    BakedAddon { name: "tools".to_owned(), objects }
}
