//! What other programs have put into the kernel stays as it is.

use network_namespaces::Namespace;
use network_namespaces::process::isolated;
use pod_network::{Mode, Own, Peer, PodNetwork, PodsError, Wanted};

use super::cluster::{Cluster, Families, settings};
use super::shown::{devices, expected, shown};

/// As `ip` and `bridge` print it, without ours.
fn others(net: &Namespace) -> String {
    let mut lines = Vec::new();
    for arguments in ["-4 -N route show table all", "-6 -N route show table all", "neigh show nud permanent"]
    {
        let text = String::from_utf8(net.run("ip", arguments).stdout).unwrap();
        lines.extend(text.lines().filter(|line| !line.contains("vxlan-pods")).map(str::to_owned));
    }
    // Neither ours nor the kernel's own, which come and go with addresses.
    lines.retain(|line| !line.contains("proto 98") && !line.contains("proto 2 "));
    let text = String::from_utf8(net.run("bridge", "fdb show dev mine").stdout).unwrap();
    lines.join("\n") + &text
}

#[test]
fn routes_neighbours_and_devices_of_others_are_untouched() {
    isolated("foreign::routes_neighbours_and_devices_of_others_are_untouched", || {
        let cluster = Cluster::new(Families::Both, 3);
        let node = &cluster.nodes[0];
        for command in [
            // The same range as a peer's, in several ways.
            "route add 10.10.12.0/24 via 10.20.0.1 proto static metric 10",
            "route add 10.10.12.0/24 via 10.20.0.1 proto bird metric 9000",
            "route add blackhole 10.10.0.0/16 proto static",
            "route add fd00:10:0:12::/64 via fd00:20::1 proto static metric 9000",
            "route add 10.99.0.0/16 via 10.20.0.1 table 98",
            "route add 10.10.12.0/24 via 10.20.0.1 table 97",
            "neigh add 10.20.0.200 lladdr 02:00:00:00:00:07 dev eth0 nud permanent",
            "link add mine type vxlan id 4096 local 10.20.0.11 dstport 4790 nolearning",
            "link set mine up",
        ] {
            node.net.ip(command);
        }
        node.net.bridge("fdb append 02:00:00:00:00:08 dev mine dst 10.20.0.99 self permanent");
        let before = others(&node.net);
        assert!(before.contains("metric 9000") && before.contains("10.20.0.99"), "{before}");
        for mode in [Mode::Vxlan, Mode::Routes { fallback_vxlan: false }, Mode::Vxlan, Mode::None] {
            let outcome = node.reconcile(&settings(mode), &cluster.peers());
            assert!(outcome.failures.is_empty(), "{outcome:?}");
            assert_eq!(others(&node.net), before, "{mode:?}");
            let ours = shown(&node.net);
            assert_eq!(ours, expected(&node.wanted(&settings(mode), &cluster.peers())), "{mode:?}");
        }
        assert!(devices(&node.net).contains_key("mine"));
    });
}

#[test]
fn a_route_of_another_in_our_place_is_left_and_told() {
    isolated("foreign::a_route_of_another_in_our_place_is_left_and_told", || {
        let cluster = Cluster::new(Families::V4, 3);
        let node = &cluster.nodes[0];
        let metric = 4096 + 10 * 256 + 12;
        node.net.ip(&format!("route add 10.10.12.0/24 via 10.20.0.1 proto static metric {metric}"));
        let outcome = node.reconcile(&settings(Mode::Vxlan), &cluster.peers());
        let [failure] = &outcome.failures[..] else { panic!("{outcome:?}") };
        assert_eq!(failure.what, "route to 10.10.12.0/24 via 10.10.12.0");
        assert_eq!(failure.source.refusal(), Some(libc::EEXIST));
        // The others are there.
        assert_eq!((outcome.set, shown(&node.net).routes.len()), (5, 1));
        let routes = node.net.ip("-N route show 10.10.12.0/24");
        assert_eq!((routes.as_array().unwrap().len(), &routes[0]["protocol"]), (1, &"4".into()));
    });
}

#[test]
fn each_of_many_refused_entries_is_told() {
    isolated("foreign::each_of_many_refused_entries_is_told", || {
        let cluster = Cluster::new(Families::V4, 1);
        let node = &cluster.nodes[0];
        // Who believes in a wider network than the link's names gateways that the kernel does not reach.
        let own = Own { addresses: vec!["10.20.0.11/12".parse().unwrap()], ..node.own.clone() };
        let peer = |number: u8, part: u8| Peer {
            since: 1,
            name: format!("n{part}-{number}"),
            addresses: vec![[10, 21, part, number].into()],
            pod_cidrs: vec![format!("10.{}.{number}.0/24", 100 + part).parse().unwrap()],
        };
        let peers: Vec<Peer> = (0..12).flat_map(|part| (0..=255).map(move |n| peer(n, part))).collect();
        let mode = Mode::Routes { fallback_vxlan: false };
        let wanted = Wanted::from_peers(&own, &settings(mode), &peers);
        let outcome = node.apply(&wanted);
        assert_eq!((outcome.set, outcome.failures.len()), (0, peers.len()));
        for (failure, range) in outcome.failures.iter().zip(wanted.routes.keys()) {
            assert!(failure.what.contains(&range.to_string()), "{failure} is not about {range}");
            assert!(failure.source.to_string().contains("invalid gateway"), "{}", failure.source);
        }
    });
}

#[test]
fn a_link_of_another_kind_with_our_name_is_left_and_told() {
    isolated("foreign::a_link_of_another_kind_with_our_name_is_left_and_told", || {
        let cluster = Cluster::new(Families::V4, 2);
        let node = &cluster.nodes[0];
        node.net.ip("link add vxlan-pods4 type bridge");
        let wanted = node.wanted(&settings(Mode::Vxlan), &cluster.peers());
        let error = node.net.enter(|| PodNetwork::open().unwrap().reconcile("eth0", &wanted)).unwrap_err();
        assert!(matches!(&error, PodsError::NameTaken { kind, .. } if kind == "bridge"), "{error}");
        assert_eq!(node.net.ip("route show proto 98").as_array().unwrap().len(), 0);
        let error = node.net.enter(|| PodNetwork::open().unwrap().reconcile("eth9", &wanted)).unwrap_err();
        assert!(matches!(&error, PodsError::NoLink { .. }), "{error}");
    });
}
