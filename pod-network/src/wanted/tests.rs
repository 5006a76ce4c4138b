use proptest::prelude::*;

use super::*;

fn own() -> Own {
    Own {
        name: "n0".to_owned(),
        addresses: nets(&["10.20.0.10/24", "fd00:20::10/64"]),
        pod_cidrs: nets(&["10.10.0.0/24", "fd00:10::/64"]),
        cluster_cidrs: Vec::new(),
    }
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn peer(name: &str, addresses: &[&str], pod_cidrs: &[&str]) -> Peer {
    let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
    Peer { since: 1, name: name.to_owned(), addresses, pod_cidrs: nets(pod_cidrs) }
}

fn settings(mode: Mode) -> Settings {
    Settings { mode, overlay: Overlay { vni: 4096, port: 4789 } }
}

const FALLBACK: Mode = Mode::Routes { fallback_vxlan: true };
const MODES: [Mode; 4] = [Mode::None, Mode::Vxlan, FALLBACK, Mode::Routes { fallback_vxlan: false }];

/// Why peers were left out, one line each.
fn skipped(peers: &[Peer]) -> String {
    let wanted = Wanted::from_peers(&own(), &settings(Mode::Vxlan), peers);
    let lines: Vec<String> = wanted.skipped.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

#[test]
fn who_is_left_out_is_told_with_the_reason() {
    insta::assert_snapshot!(skipped(&[
        peer("a", &["10.20.0.11"], &[]),
        peer("b", &["10.20.0.12"], &["fd00:10:0:2::/64"]),
        peer("c", &["10.20.0.10"], &["10.10.3.0/24"]),
        peer("d", &["10.20.0.14"], &["10.10.0.128/25"]),
        peer("e", &["10.20.0.15"], &["10.10.5.0/24"]),
        peer("f", &["10.20.0.16"], &["10.10.4.0/22"]),
        peer("g", &["10.20.0.15"], &["10.10.7.0/24"]),
        peer("h", &["10.30.0.17"], &["10.20.0.0/16"]),
        peer("i", &["0.0.0.0"], &["10.10.9.0/24"]),
        peer("j", &["10.20.0.18"], &["10.10.10.0/24"]),
        peer("j", &["10.20.0.19"], &["10.10.11.0/24"]),
    ]));
}

#[test]
fn a_peer_behind_a_gateway_needs_the_fallback() {
    let peers =
        [peer("near", &["10.20.0.11"], &["10.10.1.0/24"]), peer("far", &["10.30.0.11"], &["10.10.2.0/24"])];
    let wanted = Wanted::from_peers(&own(), &settings(Mode::Routes { fallback_vxlan: false }), &peers);
    insta::assert_snapshot!(wanted.skipped[0]);
    assert_eq!((wanted.skipped.len(), wanted.routes.len(), wanted.devices.len()), (1, 1, 0));
    let wanted = Wanted::from_peers(&own(), &settings(FALLBACK), &peers);
    let outlets: Vec<Outlet> = wanted.routes.values().map(|hop| hop.outlet).collect();
    assert_eq!(outlets, [Outlet::Link, Outlet::Overlay(Family::V4)]);
    assert_eq!((wanted.neighbours.len(), wanted.forwarding.len()), (1, 1));
}

#[test]
fn a_newcomer_takes_nothing_from_who_was_there_before() {
    let old = peer("n9", &["10.20.0.19"], &["10.10.9.0/24"]);
    let alone = Wanted::from_peers(&own(), &settings(Mode::Vxlan), std::slice::from_ref(&old));
    // Each before it by name.
    let claims = [
        ("10.20.0.19", "10.10.1.0/24", "its address 10.20.0.19 is that of node n9"),
        ("10.20.0.11", "10.10.9.128/25", "the range overlaps 10.10.9.0/24 of node n9"),
        ("10.20.0.11", "10.20.0.16/28", "the address 10.20.0.19 of a node lies in it"),
        (
            "10.10.9.7",
            "10.10.1.0/24",
            "its address 10.10.9.7 lies in 10.10.9.0/24, where pods of node n9 are",
        ),
    ];
    for (address, range, why) in claims {
        let new = Peer { since: 2, ..peer("n1", &[address], &[range]) };
        let wanted = Wanted::from_peers(&own(), &settings(Mode::Vxlan), &[new.clone(), old.clone()]);
        assert_eq!((&wanted.routes, &wanted.forwarding), (&alone.routes, &alone.forwarding), "{why}");
        assert_eq!(wanted.skipped.len(), 1);
        assert_eq!(wanted.skipped[0].why.to_string(), why);
        // One that is only expected gives way.
        let expected = Peer { since: Peer::EXPECTED, ..old.clone() };
        let wanted = Wanted::from_peers(&own(), &settings(Mode::Vxlan), &[new, expected]);
        assert_eq!(wanted.skipped[0].peer, "n9", "{why}");
    }
}

#[test]
fn this_node_and_a_peer_told_twice_are_no_conflict() {
    let this = peer("n0", &["10.20.0.10"], &["10.10.0.0/24"]);
    let other = peer("n1", &["10.20.0.11"], &["10.10.1.77/24"]);
    let wanted = Wanted::from_peers(&own(), &settings(Mode::Vxlan), &[other.clone(), this, other]);
    assert_eq!((wanted.skipped.len(), wanted.routes.len()), (0, 1));
    assert!(wanted.routes.contains_key(&"10.10.1.0/24".parse().unwrap()));
}

/// Peers with few names, addresses and ranges, so that they get in each other's way.
fn peers() -> impl Strategy<Value = Vec<Peer>> {
    let address = prop_oneof![
        (18_u8..22, 8_u8..14).prop_map(|(net, host)| IpAddr::from([10, net, 0, host])),
        (8_u128..14).prop_map(|host| IpAddr::from((0xfd00_0020_u128 << 96 | host).to_be_bytes())),
    ];
    let range = prop_oneof![
        (9_u8..21, 0_u8..6, 8_u8..=32).prop_map(|(net, third, bits)| IpNet::new(
            [10, net, third, 1].into(),
            bits
        )
        .unwrap()),
        (0_u128..6, 44_u8..=68).prop_map(|(third, bits)| {
            IpNet::new((0xfd00_0010_u128 << 96 | third << 64).to_be_bytes().into(), bits).unwrap()
        }),
    ];
    let peer = (0_u8..8, proptest::collection::vec(address, 0..3), proptest::collection::vec(range, 0..3));
    let peer = peer.prop_map(|(number, addresses, pod_cidrs)| Peer {
        since: number.into(),
        name: format!("n{number}"),
        addresses,
        pod_cidrs,
    });
    proptest::collection::vec(peer, 0..10)
}

proptest! {
    #[test]
    fn the_order_of_the_peers_does_not_matter(peers in peers(), turn in 0_usize..10) {
        for mode in MODES {
            let wanted = Wanted::from_peers(&own(), &settings(mode), &peers);
            let mut other = peers.clone();
            other.reverse();
            other.rotate_left(turn.min(peers.len()));
            prop_assert_eq!(Wanted::from_peers(&own(), &settings(mode), &other), wanted);
        }
    }

    /// No two routes overlap, none leads a node's address or our own pods away, each has what it needs and
    /// nothing else is there.
    #[test]
    fn what_is_wanted_holds_together(peers in peers()) {
        for mode in MODES {
            let wanted = Wanted::from_peers(&own(), &settings(mode), &peers);
            let ranges: Vec<&IpNet> = wanted.routes.keys().collect();
            for (index, range) in ranges.iter().enumerate() {
                prop_assert!(ranges[index + 1..].iter().all(|other| !other.contains(&range.network()) && !range.contains(&other.network())));
                prop_assert!(own().addresses.iter().all(|address| !range.contains(&address.addr())));
                prop_assert!(own().pod_cidrs.iter().all(|own| !own.contains(*range) && !range.contains(own)));
            }
            let mut used = BTreeSet::new();
            for hop in wanted.routes.values() {
                match hop.outlet {
                    Outlet::Link => prop_assert!(own().addresses.iter().any(|own| own.contains(&hop.gateway))),
                    Outlet::Overlay(family) => {
                        let mac = wanted.neighbours[&(family, hop.gateway)];
                        let remote = wanted.forwarding[&(family, mac)];
                        prop_assert_eq!(Family::of(remote), family);
                        prop_assert!(wanted.devices.contains_key(&family));
                        prop_assert!(ranges.iter().all(|range| !range.contains(&remote)));
                        used.insert((family, hop.gateway));
                    }
                }
            }
            prop_assert_eq!(used.len(), wanted.neighbours.len());
            let macs: BTreeSet<_> = wanted.neighbours.iter().map(|((family, _), mac)| (*family, *mac)).collect();
            prop_assert_eq!(macs, wanted.forwarding.keys().copied().collect());
        }
    }

    /// Each range of a peer has a route or a reason.
    #[test]
    fn nothing_is_left_out_in_silence(peers in peers()) {
        for mode in [Mode::Vxlan, FALLBACK] {
            let wanted = Wanted::from_peers(&own(), &settings(mode), &peers);
            for peer in peers.iter().filter(|peer| peer.name != "n0") {
                let told = |range| wanted.skipped.iter().any(|skipped| {
                    skipped.peer == peer.name && (skipped.pod_cidr == range || skipped.pod_cidr.is_none())
                });
                prop_assert!(!peer.pod_cidrs.is_empty() || told(None));
                for range in peer.pod_cidrs.iter().map(IpNet::trunc) {
                    prop_assert!(wanted.routes.contains_key(&range) || told(Some(range)));
                }
            }
        }
    }
}

#[test]
fn a_node_gets_nothing_that_is_not_for_pods() {
    let own = Own { cluster_cidrs: nets(&["10.10.0.0/16"]), ..own() };
    let peers = [
        peer("n1", &["10.20.0.11", "fd00:20::11"], &["10.10.1.0/24", "fd00:10:0:1::/64"]),
        peer("n2", &["10.20.0.12"], &["128.0.0.0/1"]),
        peer("n3", &["10.20.0.13"], &["10.8.0.0/14"]),
    ];
    let settings = Settings { mode: Mode::Vxlan, overlay: Overlay { vni: 4096, port: 4789 } };
    let wanted = Wanted::from_peers(&own, &settings, &peers);
    let ranges: Vec<String> = wanted.routes.keys().map(ToString::to_string).collect();
    assert_eq!(ranges, ["10.10.1.0/24", "fd00:10:0:1::/64"]);
    let said: Vec<String> = wanted.skipped.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "pods of node n2 in 128.0.0.0/1 are not reached: the cluster's pods are in 10.10.0.0/16",
            "pods of node n3 in 10.8.0.0/14 are not reached: the cluster's pods are in 10.10.0.0/16",
        ]
    );
}
