//! Mode `vxlan`.

use std::net::IpAddr;

use network_namespaces::process::isolated;
use pod_network::{Mac, Mode};

use super::cluster::{Cluster, Families, LINK_MTU, seen_as, settings};
use super::shown::{devices, expected, shown};

fn three_nodes(families: Families, overhead: u32) {
    let cluster = Cluster::new(families, 3);
    let before = &cluster.nodes[0];
    assert!(before.pod.misses(cluster.nodes[1].pod_addresses()[0]), "there is a way already");
    cluster.reconcile(Mode::Vxlan);
    for node in &cluster.nodes {
        let wanted = node.wanted(&settings(Mode::Vxlan), &cluster.peers());
        assert_eq!(shown(&node.net), expected(&wanted));
        assert_eq!(wanted.routes.len(), 2 * node.own.addresses.len());
        node.set_pod_mtu(LINK_MTU - overhead);
    }
    cluster.all_reach_each_other();
    let [one, two] = [&cluster.nodes[0], &cluster.nodes[1]];
    for (index, address) in two.pod_addresses().into_iter().enumerate() {
        assert!(one.pod.reaches_whole(address, LINK_MTU - overhead), "a full packet to {address}");
        assert_eq!(seen_as(&one.pod, &two.pod, address), one.pod_addresses()[index]);
        assert_eq!(seen_as(&one.net, &two.pod, address), one.own.pod_cidrs[index].network());
    }
}

#[test]
fn ipv4() {
    isolated("vxlan::ipv4", || three_nodes(Families::V4, 50));
}

#[test]
fn ipv6() {
    isolated("vxlan::ipv6", || three_nodes(Families::V6, 70));
}

#[test]
fn both_families() {
    isolated("vxlan::both_families", || three_nodes(Families::Both, 70));
}

#[test]
fn the_devices_are_what_ip_says() {
    isolated("vxlan::the_devices_are_what_ip_says", || {
        let cluster = Cluster::new(Families::Both, 2);
        cluster.reconcile(Mode::Vxlan);
        let node = &cluster.nodes[0];
        let devices = devices(&node.net);
        let expected =
            [("vxlan-pods4", "local", "10.20.0.11", 1450), ("vxlan-pods6", "local6", "fd00:20::11", 1430)];
        assert_eq!(devices.len(), expected.len());
        for (index, (name, key, local, mtu)) in expected.into_iter().enumerate() {
            let device = &devices[name];
            let data = &device["linkinfo"]["info_data"];
            assert_eq!(device["mtu"], mtu);
            assert_eq!(device["address"], Mac::of_node("n11").to_string());
            assert_eq!((&data["id"], &data["port"]), (&4096.into(), &4789.into()));
            assert_eq!((&data[key], &data["learning"]), (&local.into(), &false.into()));
            let shown = node.net.ip(&format!("address show dev {name} scope global"));
            let address = &shown[0]["addr_info"][0];
            let own: IpAddr = node.own.pod_cidrs[index].network();
            assert_eq!(address["local"], own.to_string());
            assert_eq!(address["prefixlen"], if own.is_ipv4() { 32 } else { 128 });
            let features = node.net.run("ethtool", &format!("-k {name}"));
            let features = String::from_utf8(features.stdout).unwrap();
            assert!(features.contains("\ttx-checksum-ip-generic: on"), "{features}");
        }
    });
}

/// Kernels before 5.7 got the checksum inside wrong, and it was dropped.
#[test]
fn what_is_rewritten_on_its_way_arrives() {
    isolated("vxlan::what_is_rewritten_on_its_way_arrives", || {
        let cluster = Cluster::new(Families::V4, 2);
        cluster.reconcile(Mode::Vxlan);
        let [one, two] = [&cluster.nodes[0], &cluster.nodes[1]];
        let rule = "-t nat -A POSTROUTING -p udp --dport 4789 -j MASQUERADE --random-fully";
        assert!(one.net.run("iptables", rule).status.success());
        let address = two.pod_addresses()[0];
        // From a program of the node: nothing below the device has looked at the checksum before.
        assert_eq!(seen_as(&one.net, &two.pod, address), one.own.pod_cidrs[0].network());
        assert_eq!(seen_as(&one.pod, &two.pod, address), one.pod_addresses()[0]);
        let rules = one.net.run("iptables", "-t nat -L POSTROUTING -v -x -n");
        let rules = String::from_utf8(rules.stdout).unwrap();
        let rule = rules.lines().find(|line| line.contains("MASQUERADE")).unwrap();
        assert_ne!(rule.split_whitespace().next(), Some("0"), "no packet was rewritten: {rules}");
    });
}
