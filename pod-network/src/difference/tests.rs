use proptest::prelude::*;

use super::*;
use crate::device::{Link, PresentDevice, Shown, mtu};
use crate::{Mode, Overlay, Own, Peer, Settings};

const LINK_MTU: u32 = 1500;

/// What the kernel would have after it was made.
fn present(wanted: &Wanted) -> Present {
    let link = Link { mtu: LINK_MTU, offload: true };
    let mut present = Present { link, ..Present::default() };
    present.indices.insert(Outlet::Link, 2);
    for (family, device) in &wanted.devices {
        let index = 3 + *family as u32;
        present.indices.insert(Outlet::Overlay(*family), index);
        let shown = Shown {
            index,
            up: true,
            mtu: mtu(*family, LINK_MTU),
            mac: Some(device.mac),
            kind: "vxlan".to_owned(),
            overlay: Some((device.overlay, Some(device.local), false)),
        };
        let addresses = [IpNet::from(device.address)].into();
        present.devices.insert(*family, PresentDevice { shown, addresses, checksum_offload: true });
    }
    present.entries = entries(wanted);
    present
}

fn entries(wanted: &Wanted) -> Vec<Entry> {
    let neighbours = wanted.neighbours.iter();
    let neighbours =
        neighbours.map(|(key, mac)| Entry::Neighbour { device: key.0, address: key.1, mac: *mac });
    let forwarding = wanted.forwarding.iter();
    let forwarding = forwarding.map(|(key, to)| Entry::Forwarding { device: key.0, mac: key.1, remote: *to });
    let routes = wanted.routes.iter();
    let routes = routes.map(|(range, hop)| Entry::Route {
        destination: *range,
        metric: metric(*range),
        hop: Some(*hop),
    });
    neighbours.chain(forwarding).chain(routes).collect()
}

/// What tells an entry from another of its kind.
fn key(entry: &Entry) -> (u8, Option<Family>, String) {
    match entry {
        Entry::Neighbour { device, address, .. } => (0, Some(*device), address.to_string()),
        Entry::Forwarding { device, mac, .. } => (1, Some(*device), mac.to_string()),
        Entry::Route { destination, .. } => (2, None, destination.to_string()),
    }
}

/// Whether an entry goes with a device.
fn is_on(entry: &Entry, family: Family) -> bool {
    match entry {
        Entry::Neighbour { device, .. } | Entry::Forwarding { device, .. } => *device == family,
        Entry::Route { hop, .. } => hop.is_some_and(|hop| hop.outlet == Outlet::Overlay(family)),
    }
}

/// Makes the changes on a list, as strict as the kernel: nothing is added twice, nothing removed that is not there,
/// no route goes through a gateway that nobody knows.
fn make(difference: &Difference, mut there: Vec<Entry>) -> Vec<Entry> {
    for (family, _) in &difference.recreate {
        there.retain(|entry| !is_on(entry, *family));
    }
    for change in difference.set.iter().chain(&difference.remove) {
        let before = there.len();
        there.retain(|entry| key(entry) != key(change.entry()));
        match change {
            Change::Add(entry) => {
                assert_eq!(there.len(), before, "{entry} is there already");
                there.push(*entry);
            }
            Change::Replace(entry) => there.push(*entry),
            Change::Remove(entry) => assert_ne!(there.len(), before, "{entry} is not there"),
        }
        for entry in &there {
            if let Entry::Route { hop: Some(Hop { outlet: Outlet::Overlay(family), gateway, .. }), .. } =
                entry
            {
                let gateway = (0, Some(*family), gateway.to_string());
                assert!(there.iter().any(|other| key(other) == gateway), "{entry} leads nowhere");
            }
        }
    }
    for (family, _) in &difference.delete {
        there.retain(|entry| !is_on(entry, *family));
    }
    there
}

fn cluster() -> impl Strategy<Value = Wanted> {
    let mode = prop_oneof![
        Just(Mode::None),
        Just(Mode::Vxlan),
        Just(Mode::Routes { fallback_vxlan: false }),
        Just(Mode::Routes { fallback_vxlan: true }),
    ];
    let peer = (1_u8..8, 20_u8..22, 1_u8..8, 1_u8..8).prop_map(|(name, network, host, range)| Peer {
        since: 1,
        name: format!("n{name}"),
        addresses: vec![
            [10, network, 0, host].into(),
            (0xfd00_0020_u128 << 96 | u128::from(host)).to_be_bytes().into(),
        ],
        pod_cidrs: vec![
            format!("10.10.{range}.0/24").parse().unwrap(),
            format!("fd00:10:0:{range}::/64").parse().unwrap(),
        ],
    });
    let peers = proptest::collection::vec(peer, 0..8);
    (mode, peers, 4096_u32..4098, 9_u8..11).prop_map(|(mode, peers, vni, host)| {
        let own = Own {
            name: "n0".to_owned(),
            addresses: vec![
                format!("10.20.0.{host}/24").parse().unwrap(),
                format!("fd00:20::{host}/64").parse().unwrap(),
            ],
            pod_cidrs: vec!["10.10.0.0/24".parse().unwrap(), "fd00:10::/64".parse().unwrap()],
            cluster_cidrs: Vec::new(),
        };
        Wanted::from_peers(&own, &Settings { mode, overlay: Overlay { vni, port: 4789 } }, &peers)
    })
}

proptest! {
    #[test]
    fn from_any_state_to_any_other_and_no_further(before in cluster(), after in cluster()) {
        let there = present(&before);
        let difference = Difference::between(&after, &there);
        let mut made = make(&difference, there.entries.clone());
        let mut wanted = entries(&after);
        made.sort_by_key(key);
        wanted.sort_by_key(key);
        prop_assert_eq!(made, wanted);
        let devices = difference.create.len() + there.devices.len();
        prop_assert_eq!(devices - difference.recreate.len() - difference.delete.len(), after.devices.len());
        prop_assert!(Difference::between(&after, &present(&after)).is_empty());
    }
}

#[test]
fn a_device_leaves_checksums_to_a_link_that_is_good_for_it() {
    let own = Own {
        name: "n0".to_owned(),
        addresses: vec!["10.20.0.9/24".parse().unwrap()],
        pod_cidrs: vec!["10.10.0.0/24".parse().unwrap()],
        cluster_cidrs: Vec::new(),
    };
    let peer = Peer {
        since: 1,
        name: "n1".to_owned(),
        addresses: vec![[10, 20, 0, 1].into()],
        pod_cidrs: vec!["10.10.1.0/24".parse().unwrap()],
    };
    let settings = Settings { mode: Mode::Vxlan, overlay: Overlay { vni: 4096, port: 4789 } };
    let wanted = Wanted::from_peers(&own, &settings, &[peer]);
    let lacks = |link: bool, device: bool| {
        let mut there = present(&wanted);
        there.link.offload = link;
        there.devices.get_mut(&Family::V4).unwrap().checksum_offload = device;
        let difference = Difference::between(&wanted, &there);
        difference.give.iter().map(|(_, _, lack)| lack.offload).collect::<Vec<_>>()
    };
    assert_eq!((lacks(true, true), lacks(false, false)), (vec![], vec![]));
    // As an image of before left it.
    assert_eq!(lacks(true, false), [Some(true)]);
    assert_eq!(lacks(false, true), [Some(false)]);
    let new = |offload| Lack::of_new(&wanted.devices[&Family::V4], offload).offload;
    assert_eq!((new(true), new(false)), (None, Some(false)));
}
