//! Cluster DNS: CoreDNS as an addon of our own, from `[dns]` of the cluster file.
//!
//! The objects are those that kubeadm makes, so that what people know of them holds: Deployment `coredns` behind the
//! Service `kube-dns` with the tenth Service address, configured by the ConfigMap `coredns`.

use serde_json::{Value, json};

use super::{ALL_IN_ONE, KubernetesError, Version, gates, is_control_plane, is_node};
use crate::addons::BakedAddon;
use crate::addresses;
use crate::cluster::{ClusterFile, Dns};

/// Name of the addon, of which users cannot have another.
pub const ADDON: &str = "coredns";
/// Namespace of everything.
const NAMESPACE: &str = "kube-system";
/// Label that the Service finds the pods by; others look for DNS by it too.
const LABEL: &str = "kube-dns";

/// CoreDNS, if the cluster file names an image for it.
pub fn addon(file: &ClusterFile) -> Result<Option<BakedAddon>, KubernetesError> {
    let Some(dns) = &file.dns else { return Ok(None) };
    let version: Version = file.kubernetes.version.parse()?;
    let objects = vec![
        service_account(),
        role(),
        binding(),
        object("v1", "ConfigMap", "coredns", json!({ "data": { "Corefile": corefile(file) } })),
        deployment(file, dns, version),
        service(file)?,
    ];
    Ok(Some(BakedAddon { name: ADDON.to_owned(), objects }))
}

/// How many pods: as written, else two as kubeadm has them, if they can run on two nodes.
pub fn replicas(file: &ClusterFile, dns: &Dns) -> u16 {
    let takes_pods = |role: &str| role == ALL_IN_ONE || (is_node(role) && !is_control_plane(role));
    let nodes = file.nodes.iter().filter(|node| takes_pods(&node.role)).count();
    dns.replicas.unwrap_or(if nodes > 1 { 2 } else { 1 })
}

/// `ready` and `health` are what the probes ask. Without resolvers nothing is forwarded, as CoreDNS does not start with
/// a resolv.conf that names none: names outside of the cluster are then unknown, as they are on the nodes.
fn corefile(file: &ClusterFile) -> String {
    let domain = &file.cluster.domain;
    let forward = if file.network.resolvers.is_empty() {
        ""
    } else {
        "    forward . /etc/resolv.conf {\n        max_concurrent 1000\n    }\n    loop\n"
    };
    format!(
        "\
.:53 {{
    errors
    health {{
        lameduck 5s
    }}
    ready
    kubernetes {domain} in-addr.arpa ip6.arpa {{
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }}
    prometheus :9153
{forward}    cache 30
    reload
    loadbalance
}}
"
    )
}

fn service_account() -> Value {
    object("v1", "ServiceAccount", "coredns", json!({}))
}

/// EndpointSlices by group, which holds for `v1beta1` of 1.20 as for `v1`: a CoreDNS asks for what the API has.
fn role() -> Value {
    let rule = |group: &str, resources: Value| json!({ "apiGroups": [group], "resources": resources, "verbs": ["list", "watch"] });
    let rules = json!([
        rule("", json!(["endpoints", "services", "pods", "namespaces"])),
        rule("discovery.k8s.io", json!(["endpointslices"])),
    ]);
    global("ClusterRole", json!({ "rules": rules }))
}

fn binding() -> Value {
    global(
        "ClusterRoleBinding",
        json!({
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns" },
            "subjects": [{ "kind": "ServiceAccount", "name": "coredns", "namespace": NAMESPACE }],
        }),
    )
}

fn deployment(file: &ClusterFile, dns: &Dns, version: Version) -> Value {
    let labels = json!({ "k8s-app": LABEL });
    object(
        "apps/v1",
        "Deployment",
        "coredns",
        json!({ "spec": {
            "replicas": replicas(file, dns),
            "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 1 } },
            "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": pod(dns, version) },
        }}),
    )
}

fn pod(dns: &Dns, version: Version) -> Value {
    // On a control plane too: a cluster whose workers are gone still resolves for what runs there.
    let taints = [gates::MASTER_TAINT, gates::CONTROL_PLANE_TAINT];
    let of_role = taints
        .iter()
        .filter(|gate| gate.open(version))
        .map(|gate| json!({ "key": gate.option, "effect": "NoSchedule" }));
    let tolerations: Vec<Value> =
        std::iter::once(json!({ "key": "CriticalAddonsOnly", "operator": "Exists" }))
            .chain(of_role)
            .collect();
    // Better on two nodes, but on one rather than not at all.
    let apart = json!({ "preferredDuringSchedulingIgnoredDuringExecution": [{
        "weight": 100,
        "podAffinityTerm": {
            "labelSelector": { "matchLabels": { "k8s-app": LABEL } },
            "topologyKey": "kubernetes.io/hostname",
        },
    }]});
    json!({
        "priorityClassName": "system-cluster-critical",
        "serviceAccountName": "coredns",
        "tolerations": tolerations,
        "nodeSelector": { "kubernetes.io/os": "linux" },
        "affinity": { "podAntiAffinity": apart },
        "containers": [container(dns)],
        // Not the cluster's own DNS: the node's resolvers are what it forwards to.
        "dnsPolicy": "Default",
        "volumes": [{
            "name": "config",
            "configMap": { "name": "coredns", "items": [{ "key": "Corefile", "path": "Corefile" }] },
        }],
    })
}

fn container(dns: &Dns) -> Value {
    let port = |name: &str, port: u16, protocol: &str| json!({ "name": name, "containerPort": port, "protocol": protocol });
    let ask = |path: &str, port: u16| json!({ "path": path, "port": port, "scheme": "HTTP" });
    json!({
        "name": "coredns",
        "image": dns.image,
        // One that is baked is there; another is pulled.
        "imagePullPolicy": "IfNotPresent",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "resources": { "limits": { "memory": "170Mi" }, "requests": { "cpu": "100m", "memory": "70Mi" } },
        "volumeMounts": [{ "name": "config", "mountPath": "/etc/coredns", "readOnly": true }],
        "ports": [port("dns", 53, "UDP"), port("dns-tcp", 53, "TCP"), port("metrics", 9153, "TCP")],
        "livenessProbe": {
            "httpGet": ask("/health", 8080),
            "initialDelaySeconds": 60,
            "timeoutSeconds": 5,
            "successThreshold": 1,
            "failureThreshold": 5,
        },
        "readinessProbe": { "httpGet": ask("/ready", 8181) },
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": { "add": ["NET_BIND_SERVICE"], "drop": ["ALL"] },
            "readOnlyRootFilesystem": true,
        },
    })
}

fn service(file: &ClusterFile) -> Result<Value, KubernetesError> {
    let port = |name: &str, port: u16, protocol: &str| json!({ "name": name, "port": port, "targetPort": port, "protocol": protocol });
    let addresses = file.cluster.service_cidr.try_map(addresses::dns_service_address)?;
    let mut service = object(
        "v1",
        "Service",
        LABEL,
        json!({ "spec": {
            "selector": { "k8s-app": LABEL },
            "clusterIP": addresses.primary(),
            "ports": [port("dns", 53, "UDP"), port("dns-tcp", 53, "TCP"), port("metrics", 9153, "TCP")],
        }}),
    );
    if addresses.count() > 1 {
        // Without a policy an API server of two families gives a Service the primary one only.
        service["spec"]["ipFamilyPolicy"] = "RequireDualStack".into();
        service["spec"]["clusterIPs"] = addresses.iter().map(|address| address.to_string()).collect();
    }
    service["metadata"]["labels"]["kubernetes.io/name"] = "CoreDNS".into();
    service["metadata"]["annotations"] =
        json!({ "prometheus.io/port": "9153", "prometheus.io/scrape": "true" });
    Ok(service)
}

/// An object in the namespace, with `rest` beside its metadata.
fn object(api_version: &str, kind: &str, name: &str, mut rest: Value) -> Value {
    rest["apiVersion"] = api_version.into();
    rest["kind"] = kind.into();
    rest["metadata"] = json!({ "name": name, "namespace": NAMESPACE, "labels": { "k8s-app": LABEL } });
    rest
}

/// A role or its binding, for all namespaces.
fn global(kind: &str, mut rest: Value) -> Value {
    rest["apiVersion"] = "rbac.authorization.k8s.io/v1".into();
    rest["kind"] = kind.into();
    rest["metadata"] = json!({ "name": "system:coredns" });
    rest
}

#[cfg(test)]
mod tests {
    use super::super::render::text;
    use super::super::tests::facts;
    use super::*;

    fn file(version: &str) -> ClusterFile {
        let mut file = facts(version, "1.6.20", "3.4.23").layer.file;
        file.dns = Some(Dns { image: "bootwright.local/coredns:1".to_owned(), replicas: None });
        file
    }

    #[test]
    fn objects_of_the_oldest_release() {
        let addon = addon(&file("1.20.2")).unwrap().unwrap();
        let objects: Vec<String> = addon.objects.into_iter().map(text).collect();
        insta::assert_snapshot!(objects.join("\n"));
    }

    #[test]
    fn every_release_tolerates_its_own_taints() {
        let keys = |version: &str| {
            let addon = addon(&file(version)).unwrap().unwrap();
            let pod = &addon.objects[4]["spec"]["template"]["spec"];
            let tolerations = pod["tolerations"].as_array().unwrap().clone();
            tolerations.iter().skip(1).map(|one| one["key"].clone()).collect::<Vec<_>>()
        };
        let (master, new) = (gates::MASTER_TAINT.option, gates::CONTROL_PLANE_TAINT.option);
        for minor in 20..=36 {
            let expected: &[&str] = match minor {
                ..=23 => &[master],
                24 => &[master, new],
                _ => &[new],
            };
            assert_eq!(keys(&format!("1.{minor}.0")), expected, "1.{minor}");
        }
    }

    #[test]
    fn outside_names_are_asked_for_where_there_is_somebody_to_ask() {
        let mut file = file("1.20.2");
        assert!(!corefile(&file).contains("forward"));
        file.network.resolvers = vec!["10.20.0.2".parse().unwrap()];
        file.cluster.domain = "harbor.internal".to_owned();
        let corefile = corefile(&file);
        assert!(corefile.contains("    forward . /etc/resolv.conf {\n"), "{corefile}");
        assert!(corefile.contains("kubernetes harbor.internal in-addr.arpa"), "{corefile}");
    }

    #[test]
    fn two_pods_where_two_nodes_take_them() {
        let mut file = file("1.20.2");
        let mut count = |roles: &[&str], written| {
            let node = file.nodes[0].clone();
            let of_role = |role: &&str| crate::cluster::Node { role: (*role).to_owned(), ..node.clone() };
            file.nodes = roles.iter().map(of_role).collect();
            replicas(&file, &Dns { image: String::new(), replicas: written })
        };
        assert_eq!(count(&["all-in-one"], None), 1);
        assert_eq!(count(&["control-plane", "worker"], None), 1);
        assert_eq!(count(&["all-in-one", "worker"], None), 2);
        assert_eq!(count(&["control-plane", "worker"], Some(3)), 3);
    }

    #[test]
    fn without_an_image_there_is_none() {
        assert_eq!(addon(&facts("1.20.2", "1.6.20", "3.4.23").layer.file).unwrap(), None);
    }
}
