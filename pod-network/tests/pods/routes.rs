//! Mode `routes`, with and without the fallback.

use network_namespaces::process::isolated;
use pod_network::{Mode, Outlet, Why};

use super::cluster::{Cluster, Families, seen_as, settings};
use super::shown::{devices, expected, shown};

const ROUTES: Mode = Mode::Routes { fallback_vxlan: false };
const FALLBACK: Mode = Mode::Routes { fallback_vxlan: true };

fn three_nodes(families: Families) {
    let cluster = Cluster::new(families, 3);
    cluster.reconcile(ROUTES);
    for node in &cluster.nodes {
        let wanted = node.wanted(&settings(ROUTES), &cluster.peers());
        assert_eq!(shown(&node.net), expected(&wanted));
        assert!(devices(&node.net).is_empty());
    }
    cluster.all_reach_each_other();
    let [one, two] = [&cluster.nodes[0], &cluster.nodes[1]];
    for (index, address) in two.pod_addresses().into_iter().enumerate() {
        assert!(one.pod.reaches_whole(address, 1500));
        assert_eq!(seen_as(&one.pod, &two.pod, address), one.pod_addresses()[index]);
        assert_eq!(seen_as(&one.net, &two.pod, address), one.own.addresses[index].addr());
    }
}

#[test]
fn ipv4() {
    isolated("routes::ipv4", || three_nodes(Families::V4));
}

#[test]
fn ipv6() {
    isolated("routes::ipv6", || three_nodes(Families::V6));
}

#[test]
fn both_families() {
    isolated("routes::both_families", || three_nodes(Families::Both));
}

#[test]
fn a_peer_behind_a_gateway_is_refused_and_reported() {
    isolated("routes::a_peer_behind_a_gateway_is_refused_and_reported", || {
        let mut cluster = Cluster::new(Families::V4, 2);
        cluster.add(30, 13);
        let node = &cluster.nodes[0];
        let wanted = node.wanted(&settings(ROUTES), &cluster.peers());
        let network = "10.20.0.0/24".parse().unwrap();
        let [skipped] = &wanted.skipped[..] else { panic!("{:?}", wanted.skipped) };
        assert_eq!((&*skipped.peer, &skipped.why), ("n13", &Why::BehindGateway { network }));
        assert!(node.apply(&wanted).failures.is_empty());
        assert_eq!(shown(&node.net), expected(&wanted));
        assert_eq!(shown(&node.net).routes.len(), 1);
    });
}

fn across_the_router(families: Families) {
    let mut cluster = Cluster::new(families, 2);
    cluster.add(30, 13);
    cluster.reconcile(FALLBACK);
    for node in &cluster.nodes {
        node.set_pod_mtu(if families == Families::V4 { 1450 } else { 1430 });
    }
    let wanted = cluster.nodes[0].wanted(&settings(FALLBACK), &cluster.peers());
    let on_link = wanted.routes.values().filter(|hop| hop.outlet == Outlet::Link).count();
    assert_eq!((on_link, wanted.routes.len()), (wanted.devices.len(), 2 * wanted.devices.len()));
    assert_eq!(shown(&cluster.nodes[0].net), expected(&wanted));
    cluster.all_reach_each_other();
}

#[test]
fn the_fallback_crosses_a_router() {
    isolated("routes::the_fallback_crosses_a_router", || across_the_router(Families::V4));
}

#[test]
fn the_fallback_crosses_a_router_in_both_families() {
    isolated("routes::the_fallback_crosses_a_router_in_both_families", || {
        across_the_router(Families::Both);
    });
}
