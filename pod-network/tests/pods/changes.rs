//! Nodes that join, leave and change, and programs that start again.

use network_namespaces::process::isolated;
use pod_network::{Mode, Overlay, Settings, Why};

use super::cluster::{Cluster, Families, settings};
use super::monitor::{Monitor, Seen};
use super::shown::{devices, expected, shown};

const ROUTES: Mode = Mode::Routes { fallback_vxlan: false };
const FALLBACK: Mode = Mode::Routes { fallback_vxlan: true };

#[test]
fn doing_it_again_changes_nothing() {
    isolated("changes::doing_it_again_changes_nothing", || {
        let mut cluster = Cluster::new(Families::Both, 2);
        cluster.add(30, 13);
        for mode in [Mode::Vxlan, FALLBACK] {
            cluster.reconcile(mode);
            let node = &cluster.nodes[0];
            let before = (shown(&node.net), devices(&node.net));
            let monitor = Monitor::start(&node.net);
            // Each time a socket of its own, as after a restart.
            for _ in 0..3 {
                assert!(node.reconcile(&settings(mode), &cluster.peers()).is_unchanged());
            }
            assert_eq!(monitor.stop(), []);
            assert_eq!((shown(&node.net), devices(&node.net)), before);
        }
    });
}

#[test]
fn nodes_join_and_leave() {
    isolated("changes::nodes_join_and_leave", || {
        let mut cluster = Cluster::new(Families::Both, 2);
        cluster.reconcile(Mode::Vxlan);
        cluster.add(20, 13);
        let monitor = Monitor::start(&cluster.nodes[0].net);
        cluster.reconcile(Mode::Vxlan);
        let seen = monitor.stop();
        assert!(seen.iter().all(|seen| matches!(seen, Seen::Neighbour | Seen::Route)), "{seen:?}");
        cluster.all_reach_each_other();

        let gone = cluster.nodes.remove(1);
        let monitor = Monitor::start(&cluster.nodes[0].net);
        cluster.reconcile(Mode::Vxlan);
        // A route, then a forwarding entry of each family; the neighbours are no longer permanent when they go.
        let gone_first = [Seen::RouteGone; 2];
        assert_eq!(monitor.stop(), [gone_first, [Seen::NeighbourGone; 2]].concat());
        cluster.all_reach_each_other();
        assert!(cluster.nodes[0].pod.misses(gone.pod_addresses()[0]));

        cluster.nodes.truncate(1);
        cluster.reconcile(Mode::Vxlan);
        let node = &cluster.nodes[0];
        assert!(devices(&node.net).is_empty() && shown(&node.net).routes.is_empty());
    });
}

#[test]
fn a_node_gets_another_address() {
    isolated("changes::a_node_gets_another_address", || {
        for mode in [Mode::Vxlan, ROUTES] {
            let mut cluster = Cluster::new(Families::Both, 3);
            cluster.reconcile(mode);
            let node = &mut cluster.nodes[1];
            for address in &mut node.own.addresses {
                let other = address.to_string().replace(
                    if address.addr().is_ipv4() { ".12/" } else { "::12/" },
                    if address.addr().is_ipv4() { ".77/" } else { "::77/" },
                );
                node.net.ip(&format!("address del {address} dev eth0"));
                *address = other.parse().unwrap();
            }
            for address in node.own.addresses.clone() {
                node.add_address(address);
            }
            for gateway in ["10.20.0.1", "fd00:20::1"] {
                node.net.ip(&format!("route replace default via {gateway}"));
            }
            let monitor = Monitor::start(&cluster.nodes[0].net);
            cluster.reconcile(mode);
            let seen = monitor.stop();
            // One entry of each family takes the place of the old one.
            let replaced = if mode == Mode::Vxlan { Seen::Neighbour } else { Seen::Route };
            assert_eq!(seen, [replaced; 2]);
            cluster.all_reach_each_other();
        }
    });
}

#[test]
fn a_node_gets_another_range() {
    isolated("changes::a_node_gets_another_range", || {
        for mode in [Mode::Vxlan, ROUTES] {
            let mut cluster = Cluster::new(Families::Both, 2);
            cluster.reconcile(mode);
            let node = &mut cluster.nodes[1];
            node.net.ip("address flush dev veth0 scope global");
            node.pod.ip("address flush dev eth0 scope global");
            node.own.pod_cidrs = vec!["10.10.99.0/25".parse().unwrap(), "fd00:10:0:99::/64".parse().unwrap()];
            for range in node.own.pod_cidrs.clone() {
                node.add_range(range);
            }
            let monitor = Monitor::start(&cluster.nodes[0].net);
            cluster.reconcile(mode);
            let seen = monitor.stop();
            let first_gone =
                seen.iter().position(|seen| matches!(seen, Seen::RouteGone | Seen::NeighbourGone));
            let last_new = seen.iter().rposition(|seen| matches!(seen, Seen::Route | Seen::Neighbour));
            assert!(last_new < first_gone && last_new.is_some(), "{seen:?}");
            let node = &cluster.nodes[1];
            assert_eq!(shown(&node.net), expected(&node.wanted(&settings(mode), &cluster.peers())));
            cluster.all_reach_each_other();
        }
    });
}

#[test]
fn two_nodes_change_their_ranges_with_each_other() {
    isolated("changes::two_nodes_change_their_ranges_with_each_other", || {
        let cluster = Cluster::new(Families::V4, 3);
        cluster.reconcile(Mode::Vxlan);
        let node = &cluster.nodes[0];
        let mut peers = cluster.peers();
        let first = std::mem::take(&mut peers[1].pod_cidrs);
        peers[1].pod_cidrs = std::mem::replace(&mut peers[2].pod_cidrs, first);
        let outcome = node.reconcile(&settings(Mode::Vxlan), &peers);
        assert!(outcome.failures.is_empty() && outcome.removed == 0, "{outcome:?}");
        assert_eq!(shown(&node.net), expected(&node.wanted(&settings(Mode::Vxlan), &peers)));
    });
}

#[test]
fn one_mode_follows_another() {
    isolated("changes::one_mode_follows_another", || {
        let mut cluster = Cluster::new(Families::Both, 2);
        for mode in [Mode::Vxlan, ROUTES, Mode::Vxlan, ROUTES] {
            let monitor = Monitor::start(&cluster.nodes[0].net);
            cluster.reconcile(mode);
            // Never without a route: the new one takes the place of the old one.
            assert!(!monitor.stop().contains(&Seen::RouteGone));
            assert_eq!(devices(&cluster.nodes[0].net).is_empty(), mode == ROUTES);
            cluster.all_reach_each_other();
        }
        cluster.add(30, 13);
        cluster.reconcile(FALLBACK);
        cluster.all_reach_each_other();
        cluster.reconcile(Mode::None);
        for node in &cluster.nodes {
            let shown = shown(&node.net);
            assert!(shown.routes.is_empty() && devices(&node.net).is_empty(), "{shown:?}");
        }
    });
}

#[test]
fn a_device_with_other_parameters_is_made_anew_and_others_are_kept() {
    isolated("changes::a_device_with_other_parameters_is_made_anew_and_others_are_kept", || {
        let cluster = Cluster::new(Families::Both, 2);
        cluster.reconcile(Mode::Vxlan);
        let index = |name: &str| devices(&cluster.nodes[0].net)[name]["ifindex"].clone();
        let both = || ["vxlan-pods4", "vxlan-pods6"].map(index);
        let before = both();
        let overlays = [Overlay { vni: 77, port: 4789 }, Overlay { vni: 77, port: 8472 }];
        for overlay in overlays {
            let before = both();
            for node in &cluster.nodes {
                let outcome = node.reconcile(&Settings { mode: Mode::Vxlan, overlay }, &cluster.peers());
                assert!(outcome.failures.is_empty(), "{outcome:?}");
            }
            assert!(before.iter().zip(both()).all(|(before, now)| *before != now));
            cluster.all_reach_each_other();
        }
        // Of one family only, and what can be changed is changed in place.
        cluster.reconcile(Mode::Vxlan);
        let net = &cluster.nodes[0].net;
        net.ip("link del vxlan-pods4");
        net.ip("link add vxlan-pods4 type vxlan id 4096 local 10.20.0.99 dstport 4789 nolearning");
        let [wrong, six] = both();
        cluster.reconcile(Mode::Vxlan);
        assert!(both()[0] != wrong && both()[1] == six && before[1] != six);
        net.ip("link set vxlan-pods4 mtu 1400 address 02:00:00:00:00:01");
        net.ip("address add 10.10.99.0/32 dev vxlan-pods4");
        net.ip("address del fd00:10:0:11::/128 dev vxlan-pods6");
        net.run("ethtool", "-K vxlan-pods6 tx-checksum-ip-generic on");
        let kept = both();
        cluster.reconcile(Mode::Vxlan);
        assert_eq!(both(), kept);
        let addresses =
            String::from_utf8(net.run("ip", "-o -4 address show dev vxlan-pods4").stdout).unwrap();
        assert!(addresses.lines().count() == 1 && addresses.contains("10.10.11.0/32"), "{addresses}");
        cluster.all_reach_each_other();
        assert!(cluster.nodes[0].reconcile(&settings(Mode::Vxlan), &cluster.peers()).is_unchanged());
    });
}

#[test]
fn what_somebody_removed_or_changed_is_mended() {
    isolated("changes::what_somebody_removed_or_changed_is_mended", || {
        let cluster = Cluster::new(Families::V4, 3);
        cluster.reconcile(Mode::Vxlan);
        let node = &cluster.nodes[0];
        let mac = pod_network::Mac::of_node("n12");
        node.net.ip("route del 10.10.12.0/24");
        node.net.ip("neigh del 10.10.13.0 dev vxlan-pods4");
        for what in ["replace", "append"] {
            node.net.bridge(&format!("fdb {what} {mac} dev vxlan-pods4 dst 10.20.0.98 self permanent"));
            node.net.bridge(&format!("fdb append {mac} dev vxlan-pods4 dst 10.20.0.99 self permanent"));
            node.net.bridge("fdb append 02:00:00:00:00:09 dev vxlan-pods4 dst 10.20.0.99 self permanent");
            let outcome = node.reconcile(&settings(Mode::Vxlan), &cluster.peers());
            assert!(outcome.failures.is_empty(), "{outcome:?}");
            let wanted = node.wanted(&settings(Mode::Vxlan), &cluster.peers());
            assert_eq!(shown(&node.net), expected(&wanted), "after {what}");
        }
        node.net.ip("link set vxlan-pods4 down");
        cluster.reconcile(Mode::Vxlan);
        cluster.all_reach_each_other();
    });
}

#[test]
fn a_peer_without_a_range_is_skipped_and_reported() {
    isolated("changes::a_peer_without_a_range_is_skipped_and_reported", || {
        let cluster = Cluster::new(Families::V4, 3);
        let mut peers = cluster.peers();
        peers[1].pod_cidrs.clear();
        let node = &cluster.nodes[0];
        let wanted = node.wanted(&settings(Mode::Vxlan), &peers);
        assert_eq!(wanted.skipped.len(), 1);
        assert_eq!((&*wanted.skipped[0].peer, &wanted.skipped[0].why), ("n12", &Why::NoPodCidr));
        node.apply(&wanted);
        assert_eq!(shown(&node.net), expected(&wanted));
        assert_eq!(shown(&node.net).routes.len(), 1);
    });
}
