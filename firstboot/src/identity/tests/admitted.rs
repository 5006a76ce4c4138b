//! Machines that nobody described.

use super::*;

fn workers(admit: bool, nodes: Vec<Node>) -> ClusterLayer {
    let mut layer = ClusterLayer { role: "worker".into(), ..layer(nodes) };
    layer.file.cluster.admit_unknown_workers = admit;
    layer
}

fn inventory() -> Vec<Node> {
    vec![node("cp1", "all-in-one", None, 15), node("w1", "worker", Some(&mac(1)), 21)]
}

#[test]
fn a_worker_is_admitted_with_a_name_of_its_own_and_no_range_yet() {
    let layer = workers(true, inventory());
    let identity = resolve_or_admit(&[], &layer, &macs(&[mac(9)])).unwrap();
    assert_eq!(
        (identity.name.as_str(), identity.pod_cidr, identity.address),
        ("worker-525400000009", None, None)
    );
    insta::assert_snapshot!(identity.sources.join("; "), @"name by this machine's MAC address 52:54:00:00:00:09, as nobody describes it");
    // The node that the inventory knows stays it, and is not the next stranger's because it is the only worker.
    let known = resolve_or_admit(&[], &layer, &macs(&[mac(1)])).unwrap();
    assert_eq!((known.name.as_str(), known.pod_cidr.is_some()), ("w1", true));
    // Not before it is clear that no card comes that the inventory knows.
    assert!(matches!(
        resolve(&[], &layer, &macs(&[mac(9)])),
        Err(IdentityError::Missing { field: "name", .. })
    ));
}

#[test]
fn who_has_a_name_from_elsewhere_keeps_it_and_is_given_the_range() {
    let layer = workers(true, inventory());
    let cloud = Claim::new("the cloud", Told { host_name: Some("pool-7".to_owned()), ..Told::default() });
    for said in [cloud, seed(Seed { name: Some("pool-7".into()), ..Seed::default() })] {
        let identity = resolve_or_admit(&[said], &layer, &macs(&[mac(9)])).unwrap();
        assert_eq!((identity.name.as_str(), identity.pod_cidr), ("pool-7", None));
    }
    let whole = Seed { pod_cidr: "10.10.9.0/24".parse().ok(), ..Seed::default() };
    let identity = resolve_or_admit(&[seed(whole)], &layer, &macs(&[mac(9)])).unwrap();
    assert_eq!(identity.pod_cidr, "10.10.9.0/24".parse().ok());
}

#[test]
fn nobody_is_admitted_unasked_nor_into_the_control_plane() {
    let error = |layer: &ClusterLayer, by: &Recognised| {
        let error = resolve_or_admit(&[], layer, by).unwrap_err();
        format!("{error}\n{}", error.advice())
    };
    let stranger = macs(&[mac(9)]);
    let mut plane =
        workers(true, vec![node("cp1", "control-plane", None, 15), node("cp2", "control-plane", None, 16)]);
    plane.role = "control-plane".into();
    let texts = [
        error(
            &workers(false, vec![node("w1", "worker", None, 21), node("w2", "worker", None, 22)]),
            &stranger,
        ),
        error(&plane, &stranger),
        error(&workers(true, inventory()), &macs(&[])),
    ];
    insta::assert_snapshot!(texts.join("\n"), @r#"
    no source gives this machine's name; looked at: nothing from the seed partition, the kernel command line, QEMU's fw_cfg, the firmware's OEM strings, NoCloud, the OpenStack config drive, VMware's guestinfo and OVF environment, the cloud's metadata service; no node of the inventory fits; this machine's MAC addresses are 52:54:00:00:00:09
    hand over a node.toml with name = "<a node of the cluster file>", on the seed partition, say, or set the node's mac, uuid or serial in the cluster file and build again; or, if any machine with this image may join, admit-unknown-workers = true under [cluster] (docs/identity.md)
    no source gives this machine's name; looked at: nothing from the seed partition, the kernel command line, QEMU's fw_cfg, the firmware's OEM strings, NoCloud, the OpenStack config drive, VMware's guestinfo and OVF environment, the cloud's metadata service; no node of the inventory fits; this machine's MAC addresses are 52:54:00:00:00:09
    hand over a node.toml with name = "<a node of the cluster file>", on the seed partition, say, or set the node's mac, uuid or serial in the cluster file and build again (docs/identity.md)
    no source gives this machine's name; looked at: nothing from the seed partition, the kernel command line, QEMU's fw_cfg, the firmware's OEM strings, NoCloud, the OpenStack config drive, VMware's guestinfo and OVF environment, the cloud's metadata service; no node of the inventory fits; this machine has no network link; no name follows from that, as other machines have the same, or this one at the next boot another
    hand over a node.toml with name = "<a node of the cluster file>", on the seed partition, say, or set the node's mac, uuid or serial in the cluster file and build again (docs/identity.md)
    "#);
}
