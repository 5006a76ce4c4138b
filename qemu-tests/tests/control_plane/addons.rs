//! Addons against the real API server: in whatever order, and whoever is refused.

use std::time::Duration;

use bootwright_model::addons::BakedAddon;
use bootwright_model::cluster::Dns;
use bootwright_model::kubernetes::dns;
use firstboot::bootstrap::{Api, addons};
use serde_json::{Value, json};

use super::cluster::{Cluster, Identity};
use super::{JSON, programs};

const PATIENCE: Duration = Duration::from_secs(300);
const BOAT: &str = "/apis/harbor.example/v1/namespaces/default/boats/dinghy";

/// What is refused keeps nothing else out, what comes too early is taken later, and the second time changes nothing.
pub fn are_applied(cluster: &Cluster) {
    let admin = Identity::Certificate("admin");
    let mut file = cluster.facts().layer.file.clone();
    file.dns = Some(Dns { image: "bootwright.local/coredns:1".to_owned(), replicas: None });
    let dns = dns::addon(&file).unwrap().unwrap();
    let sound = dns.objects.len() + 5;
    let all = [dns, tools()];

    let api = Api::open(&cluster.roots(), file.cluster.endpoint_port).unwrap();
    let outcome = addons::run(&api, &all, PATIENCE);
    assert_eq!((outcome.applied, outcome.failed.len()), (sound, 2), "{:?}", outcome.failed);
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
    assert_eq!(addons::run(&api, &all, PATIENCE).applied, sound);
    assert_eq!(version(), before);
    dns_is_taken(cluster, &admin);
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
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "broken" }, "spec": { "ports": [{ "port": 0, "protocol": "TCP" }] } }),
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "broken" }, "data": { "hunter2!": "eA==" } }),
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "settings", "namespace": "tools" }, "data": { "a": "1" } }),
        json!({ "apiVersion": rbac, "kind": "ClusterRole", "metadata": { "name": "tools:reader of boats" },
            "rules": [{ "apiGroups": ["harbor.example"], "resources": ["boats"], "verbs": ["get"] }] }),
        json!({ "apiVersion": group, "kind": "CustomResourceDefinition", "metadata": { "name": "boats.harbor.example" },
            "spec": { "group": "harbor.example", "scope": "Namespaced", "names": names, "versions": [version] } }),
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "tools" } }),
    ];
    BakedAddon { name: "tools".to_owned(), objects }
}

/// The Service has the address that pods ask, CoreDNS may read what it serves, and its pod is admitted.
fn dns_is_taken(cluster: &Cluster, admin: &Identity) {
    let service = cluster.get(admin, "/api/v1/namespaces/kube-system/services/kube-dns");
    assert_eq!(service["spec"]["clusterIP"], "10.96.0.10");
    assert_eq!(service["spec"]["ports"].as_array().unwrap().len(), 3);
    let may = |group: &str, resource: &str, verb: &str| {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": "system:serviceaccount:kube-system:coredns",
                "resourceAttributes": { "group": group, "resource": resource, "verb": verb },
            },
        });
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        cluster.create(admin, path, &review)["status"]["allowed"] == true
    };
    let read = [
        ("", "services"),
        ("", "endpoints"),
        ("", "namespaces"),
        ("", "pods"),
        ("discovery.k8s.io", "endpointslices"),
    ];
    let others =
        [("", "secrets"), ("", "configmaps"), ("", "nodes"), ("rbac.authorization.k8s.io", "clusterroles")];
    for (group, resource) in read.into_iter().chain(others) {
        let verbs = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];
        let allowed: Vec<&str> = verbs.into_iter().filter(|verb| may(group, resource, verb)).collect();
        let expected: &[&str] = if read.contains(&(group, resource)) { &["list", "watch"] } else { &[] };
        assert_eq!(allowed, expected, "{resource}");
    }
    let pods = "/api/v1/namespaces/kube-system/pods?labelSelector=k8s-app%3Dkube-dns";
    programs::eventually("there are pods of CoreDNS", PATIENCE, || {
        let (status, list) = cluster.call(admin, "GET", pods, JSON, None);
        let image = |pod: &Value| pod["spec"]["containers"][0]["image"] == "bootwright.local/coredns:1";
        // A worker takes pods too: two.
        status == 200
            && list["items"].as_array().is_some_and(|pods| pods.iter().filter(|pod| image(pod)).count() == 2)
    });
}
