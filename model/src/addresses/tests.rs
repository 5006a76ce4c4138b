//! Allocation by example, and its properties.

use proptest::prelude::*;

use super::*;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

#[test]
fn machines_of_etcd_take_no_place() {
    let mut cluster = both_families();
    let ranges = allocate_node_ranges(&cluster, &[etcd(), node(None), node(None)]).unwrap();
    let texts = ranges.iter().map(|ranges| ranges.map(|ranges| ranges.to_string()).unwrap_or_default());
    assert_eq!(
        texts.collect::<Vec<_>>(),
        ["", "10.10.0.0/24,fd00:10:10::/64", "10.10.1.0/24,fd00:10:10:1::/64"]
    );
    // A range for one node is enough, and a node without one is called by its place in the file.
    cluster.pod_cidr = "10.10.0.0/24,fd00:10:10::/64".parse().unwrap();
    assert!(allocate_node_ranges(&cluster, &[etcd(), node(None), etcd()]).is_ok());
    let error = allocate_node_ranges(&cluster, &[etcd(), node(None), etcd(), node(None)]).unwrap_err();
    assert_eq!(error.to_string(), "10.10.0.0/24 has no /24 left for node number 4");
}

#[test]
fn pod_cidrs_follow_the_order_of_appearance_around_explicit_ones() {
    let explicit = [None, Some(net("10.10.1.0/24")), None, None];
    let got = allocate_pod_cidrs(net("10.10.0.0/16"), 24, &explicit).unwrap();
    assert_eq!(got, [net("10.10.0.0/24"), net("10.10.1.0/24"), net("10.10.2.0/24"), net("10.10.3.0/24")]);
}

#[test]
fn one_node_may_have_the_whole_range() {
    let got = allocate_pod_cidrs(net("10.10.0.0/24"), 24, &[None]).unwrap();
    assert_eq!(got, [net("10.10.0.0/24")]);
    let error = allocate_pod_cidrs(net("10.10.0.0/24"), 24, &[None, None]).unwrap_err();
    assert_eq!(error.to_string(), "10.10.0.0/24 has no /24 left for node number 2");
}

#[test]
fn the_end_of_the_address_space_is_not_passed() {
    let whole = net("ffff:ffff:ffff:ffff::/64");
    let got = allocate_pod_cidrs(whole, 65, &[None, None]).unwrap();
    assert_eq!(got[1], net("ffff:ffff:ffff:ffff:8000::/65"));
    assert!(allocate_pod_cidrs(whole, 65, &[None, None, None]).is_err());
    let last = net("255.255.255.0/24");
    assert!(allocate_pod_cidrs(last, 25, &[None, None, None]).is_err());
    assert_eq!(
        address_at(net("::/0"), u128::MAX).unwrap(),
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse::<IpAddr>().unwrap()
    );
}

#[test]
fn an_explicit_range_of_astronomic_size_is_jumped_over() {
    let got = allocate_pod_cidrs(net("fd00::/16"), 64, &[None, Some(net("fd00::/20"))]).unwrap();
    assert_eq!(got[0], net("fd00:1000::/64"));
}

#[test]
fn explicit_ranges_are_checked() {
    let outside = allocate_pod_cidrs(net("10.10.0.0/16"), 24, &[Some(net("10.11.0.0/24"))]);
    assert_eq!(outside.unwrap_err().to_string(), "pod CIDR 10.11.0.0/24 is outside 10.10.0.0/16");
    let twice = [Some(net("10.10.0.0/23")), Some(net("10.10.1.0/24"))];
    let overlap = allocate_pod_cidrs(net("10.10.0.0/16"), 24, &twice);
    assert_eq!(overlap.unwrap_err().to_string(), "pod CIDRs 10.10.0.0/23 and 10.10.1.0/24 overlap");
    let family = allocate_pod_cidrs(net("10.10.0.0/16"), 24, &[Some(net("fd00::/64"))]);
    assert!(matches!(family, Err(AddressError::Outside { .. })));
    let bits = allocate_pod_cidrs(net("10.10.0.0/16"), 8, &[None]);
    assert_eq!(bits.unwrap_err().to_string(), "a pod CIDR of /8 cannot be cut from 10.10.0.0/16");
}

#[test]
fn service_addresses() {
    let v4 = net("10.96.0.0/16");
    assert_eq!(api_service_address(v4).unwrap().to_string(), "10.96.0.1");
    assert_eq!(dns_service_address(v4).unwrap().to_string(), "10.96.0.10");
    let v6 = net("fd00:96::/108");
    assert_eq!(api_service_address(v6).unwrap().to_string(), "fd00:96::1");
    assert_eq!(dns_service_address(v6).unwrap().to_string(), "fd00:96::a");
    assert!(dns_service_address(net("10.96.0.0/29")).is_err());
    assert_eq!(
        dns_service_address(net("10.96.0.0/29")).unwrap_err().to_string(),
        "10.96.0.0/29 has no address number 10"
    );
}

#[test]
fn the_gateway_is_the_first_host() {
    assert_eq!(pod_gateway(net("10.10.3.0/24")).unwrap().to_string(), "10.10.3.1");
    assert_eq!(pod_gateway(net("fd00:10:0:3::/64")).unwrap().to_string(), "fd00:10:0:3::1");
    assert!(pod_gateway(net("10.10.3.0/32")).is_err());
}

#[test]
fn capacity_counts_ranges() {
    assert_eq!(capacity(net("10.10.0.0/16"), 24), Some(256));
    assert_eq!(capacity(net("10.10.0.0/16"), 8), None);
    assert_eq!(capacity(net("10.10.0.0/16"), 33), None);
    assert_eq!(capacity(net("::/0"), 128), Some(u128::MAX));
}

fn both_families() -> Cluster {
    toml::from_str(
        "name = 'harbor'\nendpoint = '10.20.0.10'\npod-cidr = ['10.10.0.0/16', 'fd00:10:10::/56']\n\
         service-cidr = ['10.96.0.0/16', 'fd00:96::/112']",
    )
    .unwrap()
}

fn node(pod_cidr: Option<PerFamily<IpNet>>) -> Node {
    let node: Node = toml::from_str("name = 'w1'\nrole = 'worker'\naddress = '10.20.0.11/24'").unwrap();
    Node { pod_cidr, ..node }
}

fn etcd() -> Node {
    Node { role: crate::kubernetes::ETCD.to_owned(), ..node(None) }
}

/// Of nodes that all have pods.
fn ranges_of(cluster: &Cluster, nodes: &[Node]) -> Vec<PerFamily<IpNet>> {
    let ranges = allocate_node_ranges(cluster, nodes).unwrap();
    ranges.into_iter().map(|ranges| ranges.expect("a node has pods")).collect()
}

#[test]
fn prefix_lengths_stand_in_the_order_of_the_ranges() {
    let mut cluster = both_families();
    let lengths = |cluster: &Cluster| Family::ALL.map(|family| cluster.node_prefix_length(family));
    assert_eq!(lengths(&cluster), [24, 64]);
    cluster.node_cidr_bits = Some(PerFamily::new([26, 66]).unwrap());
    assert_eq!(lengths(&cluster), [26, 66]);
    cluster.pod_cidr = "fd00:10:10::/56,10.10.0.0/16".parse().unwrap();
    assert_eq!(lengths(&cluster), [66, 26]);
    cluster.node_cidr_bits = Some(PerFamily::new([66, 26]).unwrap());
    let exhausted = allocate_node_ranges(&cluster, &vec![node(None); 1025]).unwrap_err();
    assert_eq!(exhausted.to_string(), "fd00:10:10::/56 has no /66 left for node number 1025");
}

fn cluster_range() -> impl Strategy<Value = (IpNet, u8)> {
    let v4 = (any::<u32>(), 8_u8..=24, 0_u8..=8).prop_map(|(address, prefix, more)| {
        (IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::from_bits(address), prefix).trunc()), prefix + more)
    });
    let v6 = (any::<u128>(), 8_u8..=100, 0_u8..=28).prop_map(|(address, prefix, more)| {
        (IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from_bits(address), prefix).trunc()), prefix + more)
    });
    prop_oneof![v4, v6]
}

proptest! {
    /// Every range is inside the cluster's, of the asked size, and none overlaps another; the
    /// explicit ones are the ones that were asked for.
    #[test]
    fn allocation_never_overlaps(
        (cluster, bits) in cluster_range(),
        picks in proptest::collection::vec(proptest::option::of(0_u128..300), 0..40),
    ) {
        let count = capacity(cluster, bits).unwrap();
        let mut explicit = Vec::new();
        for pick in &picks {
            let range = pick.map(|index| {
                let step = 1_u128.checked_shl(u32::from(cluster.max_prefix_len() - bits)).unwrap_or(0);
                network(&cluster, bounds(&cluster).0 + (index % count) * step, bits)
            });
            let taken = range.is_some_and(|range| explicit.contains(&Some(range)));
            explicit.push(if taken { None } else { range });
        }
        match allocate_pod_cidrs(cluster, bits, &explicit) {
            Ok(got) => {
                prop_assert_eq!(got.len(), explicit.len());
                for (index, range) in got.iter().enumerate() {
                    prop_assert!(cluster.contains(range));
                    prop_assert_eq!(range.prefix_len(), bits);
                    prop_assert!(explicit[index].is_none_or(|wanted| wanted == *range));
                    prop_assert!(got[..index].iter().all(|other| !overlaps(other, range)));
                }
            }
            Err(error) => {
                let exhausted = matches!(error, AddressError::Exhausted { .. });
                prop_assert!(exhausted && explicit.len() as u128 > count, "{}", error);
            }
        }
    }

    /// A node added at the end leaves every other node's range as it was.
    #[test]
    fn a_further_node_changes_nothing(nodes in 1_usize..200) {
        let cluster = net("10.10.0.0/16");
        let few = allocate_pod_cidrs(cluster, 24, &vec![None; nodes]).unwrap();
        let more = allocate_pod_cidrs(cluster, 24, &vec![None; nodes + 1]).unwrap();
        prop_assert_eq!(&few[..], &more[..nodes]);
    }

    /// Of both families each is allocated as if it were alone: what one node has of its own in one of them moves
    /// nothing in the other, a node that is added moves nothing in either, and one whose ranges are written keeps
    /// them wherever it stands.
    #[test]
    fn families_are_allocated_side_by_side(
        picks in proptest::collection::vec((proptest::option::of(0_u8..120), proptest::option::of(0_u8..120)), 1..40),
        turn in 0_usize..40,
    ) {
        let cluster = both_families();
        let mut nodes = Vec::new();
        for (four, six) in &picks {
            let taken = |range: &IpNet| {
                nodes.iter().any(|node: &Node| node.pod_cidr.is_some_and(|ranges| ranges.iter().any(|one| one == *range)))
            };
            let four = four.map(|number| net(&format!("10.10.{number}.0/24"))).filter(|range| !taken(range));
            let six = six.map(|number| net(&format!("fd00:10:10:{number:x}::/64"))).filter(|range| !taken(range));
            let node = node(PerFamily::new(four.into_iter().chain(six)).ok());
            nodes.push(node);
        }
        let got = ranges_of(&cluster, &nodes);
        for (index, ranges) in got.iter().enumerate() {
            prop_assert!(ranges.same_families(&cluster.pod_cidr));
            prop_assert_eq!(ranges.families().next(), Some(Family::V4));
            for range in ranges.iter() {
                prop_assert!(cluster.pod_cidr.iter().any(|whole| whole.contains(&range)));
                let others = got[..index].iter().flat_map(PerFamily::iter);
                prop_assert!(others.into_iter().all(|other| !overlaps(&other, &range)));
            }
            for written in nodes[index].pod_cidr.iter().flat_map(PerFamily::iter) {
                prop_assert_eq!(ranges.of(Family::of(written.addr())), Some(written));
            }
        }
        for family in Family::ALL {
            let explicit: Vec<_> = nodes.iter().map(|node| node.pod_cidr?.of(family)).collect();
            let whole = cluster.pod_cidr.of(family).unwrap();
            let alone = allocate_pod_cidrs(whole, cluster.node_prefix_length(family), &explicit).unwrap();
            let of_family: Vec<_> = got.iter().filter_map(|ranges| ranges.of(family)).collect();
            prop_assert_eq!(of_family, alone);
        }
        nodes.push(node(None));
        prop_assert_eq!(&ranges_of(&cluster, &nodes)[..picks.len()], &got[..]);
        let mut written: Vec<Node> = got.iter().map(|ranges| node(Some(*ranges))).collect();
        written.rotate_left(turn % picks.len());
        let turned = ranges_of(&cluster, &written);
        prop_assert!(turned.iter().zip(&written).all(|(ranges, node)| node.pod_cidr == Some(*ranges)));
    }

    /// Machines of etcd, wherever they are put, have no range and change none.
    #[test]
    fn machines_of_etcd_change_nothing(
        picks in proptest::collection::vec((proptest::option::of(0_u8..120), 0_usize..3), 1..40),
    ) {
        let cluster = both_families();
        let (mut nodes, mut mixed) = (Vec::<Node>::new(), Vec::new());
        for (four, machines) in picks {
            let four = four.map(|number| PerFamily::one(net(&format!("10.10.{number}.0/24"))));
            let four = four.filter(|range| nodes.iter().all(|node| node.pod_cidr != Some(*range)));
            mixed.extend(std::iter::repeat_n(etcd(), machines));
            nodes.push(node(four));
            mixed.push(node(four));
        }
        let got = allocate_node_ranges(&cluster, &mixed).unwrap();
        let is_etcd = |index: usize| mixed[index].role == crate::kubernetes::ETCD;
        prop_assert!((0..mixed.len()).all(|index| got[index].is_some() != is_etcd(index)));
        prop_assert_eq!(got.into_iter().flatten().collect::<Vec<_>>(), ranges_of(&cluster, &nodes));
    }

    /// An address handed out lies in its range, is not the network address, and in IPv4 not the
    /// broadcast address.
    #[test]
    fn addresses_are_usable((range, _) in cluster_range(), offset in 1_u128..5000) {
        if let Ok(address) = address_at(range, offset) {
            prop_assert!(range.contains(&address));
            prop_assert_ne!(address, range.network());
            if address.is_ipv4() {
                prop_assert_ne!(address, range.broadcast());
            }
        }
    }
}

#[test]
fn the_highest_free_range_is_below_what_is_taken() {
    let free = |whole: &str, bits, taken: &[&str]| {
        let taken: Vec<IpNet> = taken.iter().map(|text| net(text)).collect();
        highest_free(net(whole), bits, &taken).map(|range| range.to_string()).unwrap_or_default()
    };
    assert_eq!(free("10.10.0.0/16", 24, &[]), "10.10.255.0/24");
    assert_eq!(
        free("10.10.0.0/16", 24, &["10.10.255.0/24", "10.10.0.0/24", "10.10.254.128/25"]),
        "10.10.253.0/24"
    );
    assert_eq!(free("10.10.0.0/16", 24, &["10.10.128.0/17", "10.10.200.0/24"]), "10.10.127.0/24");
    assert_eq!(free("10.10.0.0/23", 24, &["10.10.0.0/24", "10.10.1.7/32"]), "");
    assert_eq!(free("10.10.0.0/24", 24, &["10.10.0.0/16"]), "", "another's that is larger than all");
    assert_eq!(free("10.10.0.0/24", 24, &["fd00::/64", "192.0.2.0/24"]), "10.10.0.0/24", "of others");
    assert_eq!(free("fd00:10::/48", 64, &["fd00:10:0:ffff::/64"]), "fd00:10:0:fffe::/64");
    assert_eq!(free("0.0.0.0/24", 25, &["0.0.0.0/25", "0.0.0.128/25"]), "", "nothing lies below");
    assert_eq!(free("10.10.0.0/24", 16, &[]), "");
}

proptest! {
    #[test]
    fn what_is_free_overlaps_nothing_and_nothing_free_is_higher(
        taken in prop::collection::vec((0_u32..=255, 22_u8..=26), 0..40),
    ) {
        let whole = net("10.10.0.0/18");
        let taken: Vec<IpNet> = taken
            .into_iter()
            .map(|(third, bits)| format!("10.10.{third}.0/{bits}").parse::<IpNet>().unwrap().trunc())
            .collect();
        let is_free = |range: &IpNet| !taken.iter().any(|other| overlaps(other, range));
        let all: Vec<IpNet> = whole.subnets(24).unwrap().collect();
        prop_assert_eq!(highest_free(whole, 24, &taken), all.into_iter().rev().find(is_free));
    }
}
