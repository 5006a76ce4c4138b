//! Both address families in one cluster, release by release.

use super::*;
use crate::cloud::CloudProvider;
use crate::kubernetes::{dns, node_object};

/// A node of a cluster of both families, IPv4 first.
fn dual(minor: u16) -> NodeFacts {
    let mut facts = fitting(minor);
    let cluster = &mut facts.layer.file.cluster;
    cluster.pod_cidr = "10.10.0.0/16,fd00:10:10::/56".parse().unwrap();
    cluster.service_cidr = "10.96.0.0/16,fd00:96::/112".parse().unwrap();
    facts.layer.file.dns = Some(crate::cluster::Dns { image: "x/coredns:1".to_owned(), replicas: None });
    facts.address = "10.20.0.10/24,fd00:20::10/64".parse().unwrap();
    facts.pod_cidr = "10.10.3.0/24,fd00:10:10:3::/64".parse().ok();
    facts
}

/// The lines that a cluster of IPv4 alone does not have.
#[test]
fn golden_dual_stack() {
    let mut table = String::new();
    for minor in [20, 21, 24, 29, 34] {
        let both = dual(minor);
        let mut four = both.clone();
        let cluster = &mut four.layer.file.cluster;
        cluster.pod_cidr = cluster.pod_cidr.primary().into();
        cluster.service_cidr = cluster.service_cidr.primary().into();
        (four.address, four.pod_cidr) =
            (four.address.primary().into(), four.pod_cidr.map(|ranges| ranges.primary().into()));
        for name in COMPONENTS {
            let (before, after) = (component(name, &four).unwrap(), component(name, &both).unwrap());
            let (before, after) = (text(&before), text(&after));
            let new = after.lines().filter(|line| !before.lines().any(|other| other == *line));
            let new: Vec<&str> = new.map(str::trim).collect();
            if !new.is_empty() {
                table += &format!("1.{minor} {name}: {}\n", new.join(" "));
            }
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn the_gate_stays_open_beside_gates_of_the_cluster_file() {
    let mut facts = dual(20);
    for name in ["kube-apiserver", "kube-scheduler"] {
        let gates = [("feature-gates".to_owned(), "EphemeralContainers=true".to_owned())];
        facts.layer.file.kubernetes.flags.insert(name.to_owned(), gates.into());
    }
    let has = |name: &str, flag: &str| component(name, &facts).unwrap().arguments.contains(&flag.to_owned());
    assert!(has("kube-apiserver", "--feature-gates=IPv6DualStack=true,EphemeralContainers=true"));
    assert!(has("kube-scheduler", "--feature-gates=EphemeralContainers=true"));
}

/// Before 1.29 a kubelet with a cloud ends when it is given two.
#[test]
fn with_a_cloud_an_older_kubelet_is_told_one_address() {
    for minor in 20..=36 {
        let mut facts = dual(minor);
        facts.layer.file.cloud.provider = CloudProvider::External;
        let arguments = component("kubelet", &facts).unwrap().arguments;
        let both = arguments.contains(&"--node-ip=10.20.0.10,fd00:20::10".to_owned());
        assert_eq!(both, minor >= 29, "1.{minor}");
        assert!(both || arguments.contains(&"--node-ip=10.20.0.10".to_owned()));
    }
}

#[test]
fn the_node_has_both_ranges_and_the_dns_service_both_addresses() {
    let facts = dual(20);
    let spec = node_object::of(&facts).unwrap().body["spec"].clone();
    assert_eq!(spec["podCIDR"], "10.10.3.0/24");
    assert_eq!(spec["podCIDRs"], serde_json::json!(["10.10.3.0/24", "fd00:10:10:3::/64"]));
    let addon = dns::addon(&facts.layer.file).unwrap().unwrap();
    let service = addon.objects.iter().find(|object| object["kind"] == "Service").unwrap();
    assert_eq!(service["spec"]["clusterIP"], "10.96.0.10");
    assert_eq!(service["spec"]["clusterIPs"], serde_json::json!(["10.96.0.10", "fd00:96::a"]));
    assert_eq!(service["spec"]["ipFamilyPolicy"], "RequireDualStack");
}
