//! Sources, inventory and machine put together.

mod admitted;
mod cloud;
mod lent;

use bootwright_model::cluster::{Base, Cluster, ClusterFile, Kubernetes, Network, Node, Secrets};
use bootwright_model::seed::SeedClock;

use super::*;

fn node(name: &str, role: &str, mac: Option<&str>, last: u8) -> Node {
    Node {
        name: name.into(),
        role: role.into(),
        mac: mac.map(str::to_owned),
        address: format!("10.0.2.{last}/24").parse().unwrap(),
        gateway: Some("10.0.2.2".parse().unwrap()),
        links: Vec::new(),
        pod_cidr: Some(format!("10.10.{last}.0/24").parse().unwrap()),
        uuid: None,
        serial: None,
        provider_id: None,
        state_disk: None,
        labels: Default::default(),
    }
}

fn layer(nodes: Vec<Node>) -> ClusterLayer {
    let file = ClusterFile {
        cluster: Cluster {
            name: "harbor".into(),
            endpoint: "10.0.2.15".parse().unwrap(),
            virtual_ip: None,
            endpoint_port: 6443,
            endpoint_names: Vec::new(),
            pod_cidr: "10.10.0.0/16".parse().unwrap(),
            node_cidr_bits: Some(24.into()),
            service_cidr: "10.96.0.0/16".parse().unwrap(),
            domain: "cluster.local".into(),
            secrets: Secrets::Baked,
            initial_cluster_state: Default::default(),
            admit_unknown_workers: false,
        },
        kubernetes: Kubernetes {
            version: "1.20.2".into(),
            directory: None,
            mirror: None,
            flags: Default::default(),
        },
        base: Base::default(),
        disk: Default::default(),
        network: Network::default(),
        cloud: Default::default(),
        clock: Default::default(),
        nodes,
        images: Vec::new(),
        dns: None,
        addons: Vec::new(),
    };
    let (role, root_hash) = ("all-in-one".into(), "0".repeat(64));
    ClusterLayer { file, role, epoch: 0, root_hash, second_slot: Default::default() }
}

fn seed(says: Seed) -> Claim {
    Claim::new("the seed (/dev/vda4)", says)
}

fn mac(last: u8) -> String {
    format!("52:54:00:00:00:0{last}")
}

fn macs(macs: &[String]) -> Recognised {
    let card = |mac: &String| Card { mac: mac.clone(), permanent: true, usb: false };
    Recognised { cards: macs.iter().map(card).collect(), firmware: Firmware::default() }
}

#[test]
fn the_only_node_of_the_role_needs_no_seed() {
    let layer = layer(vec![node("cp1", "all-in-one", None, 15), node("w1", "worker", None, 16)]);
    let identity = resolve(&[], &layer, &macs(&[mac(9)])).unwrap();
    assert_eq!(identity.name, "cp1");
    insta::assert_snapshot!(
        identity.sources.join("; "),
        @"name, address, gateway, pod-cidr by the inventory's node cp1 (the only one of its role)"
    );
}

#[test]
fn a_mac_tells_one_of_many_whatever_its_case() {
    let nodes = vec![
        node("cp1", "all-in-one", Some("52:54:00:00:00:01"), 15),
        node("cp2", "all-in-one", Some("52:54:00:00:00:0A"), 16),
    ];
    let identity = resolve(&[], &layer(nodes), &macs(&[mac(7), "52:54:00:00:00:0a".into()])).unwrap();
    assert_eq!(identity.name, "cp2");
    assert_eq!(identity.mac.as_deref(), Some("52:54:00:00:00:0a"));
}

#[test]
fn seed_and_inventory_complete_each_other() {
    let layer = layer(vec![node("cp1", "all-in-one", None, 15), node("cp2", "all-in-one", None, 16)]);
    let clock = SeedClock { servers: Some(vec!["10.0.2.4".into()]) };
    let seed = seed(Seed { name: Some("cp2".into()), mac: Some(mac(3)), clock, ..Seed::default() });
    let identity = resolve(&[seed], &layer, &macs(&[mac(3)])).unwrap();
    assert_eq!(identity.address, "10.0.2.16/24".parse().ok());
    assert_eq!(identity.time_servers, Some(vec!["10.0.2.4".to_owned()]));
    insta::assert_snapshot!(
        identity.sources.join("; "),
        @"name, mac, clock by the seed (/dev/vda4); address, gateway, pod-cidr by the inventory's node cp2 (named by the seed (/dev/vda4))"
    );
}

#[test]
fn in_a_cluster_of_both_families_a_seed_has_both_in_any_order() {
    let mut layer = layer(Vec::new());
    layer.file.cluster.pod_cidr = "10.10.0.0/16,fd00:10:10::/56".parse().unwrap();
    let says = Seed {
        name: Some("cp9".into()),
        address: "fd00:2::99/64,10.0.2.99/24".parse().ok(),
        gateway: "10.0.2.2".parse().ok(),
        pod_cidr: "fd00:10:10:99::/64,10.10.99.0/24".parse().ok(),
        ..Seed::default()
    };
    let identity = resolve(&[seed(says.clone())], &layer, &macs(&[])).unwrap();
    assert_eq!(identity.address.unwrap().to_string(), "10.0.2.99/24,fd00:2::99/64");
    assert_eq!(identity.pod_cidr.unwrap().to_string(), "10.10.99.0/24,fd00:10:10:99::/64");
    let half = Seed { address: "10.0.2.99/24".parse().ok(), ..says };
    insta::assert_snapshot!(
        resolve(&[seed(half)], &layer, &macs(&[])).unwrap_err(),
        @"the seed (/dev/vda4): address 10.0.2.99/24: in this cluster a node has one IPv4 and one IPv6 value"
    );
}

#[test]
fn a_gateway_goes_with_the_address_whoever_says_either() {
    let inventory = |address: &str| {
        let node =
            Node { gateway: None, address: address.parse().unwrap(), ..node("cp1", "all-in-one", None, 15) };
        let mut layer = layer(vec![node]);
        if address.contains("fd00") {
            layer.file.cluster.pod_cidr = "fd00:10:10::/56".parse().unwrap();
        }
        layer
    };
    let says = |gateway: &str| seed(Seed { gateway: gateway.parse().ok(), ..Seed::default() });
    let gateway = |address, gateway| resolve(&[says(gateway)], &inventory(address), &macs(&[]));
    // A router announces itself by its link-local address.
    let identity = gateway("fd00:2::15/64", "fe80::1").unwrap();
    assert_eq!(identity.gateway.unwrap().to_string(), "fe80::1");
    assert!(gateway("10.0.2.15/24", "10.0.2.2").is_ok());
    let lines = ["10.9.9.1", "10.0.2.15", "fd00:2::1"]
        .map(|one| gateway("10.0.2.15/24", one).unwrap_err().to_string());
    insta::assert_snapshot!(lines.join("\n"), @r"
    gateway 10.9.9.1 by the seed (/dev/vda4) does not go with address 10.0.2.15/24 by the inventory's node cp1 (the only one of its role): the gateway is outside the machine's network 10.0.2.0/24
    gateway 10.0.2.15 by the seed (/dev/vda4) does not go with address 10.0.2.15/24 by the inventory's node cp1 (the only one of its role): the gateway is the machine's own address
    gateway fd00:2::1 by the seed (/dev/vda4) does not go with address 10.0.2.15/24 by the inventory's node cp1 (the only one of its role): the gateway is IPv6, and the machine has no address of that family
    ");
}

#[test]
fn a_machine_of_etcd_has_no_pods_and_needs_the_primary_family_alone() {
    let mut layer = layer(vec![Node { pod_cidr: None, ..node("e1", "etcd", None, 21) }]);
    layer.role = "etcd".into();
    layer.file.cluster.pod_cidr = "10.10.0.0/16,fd00:10:10::/56".parse().unwrap();
    assert_eq!(resolve(&[], &layer, &macs(&[])).unwrap().pod_cidr, None);
    let says =
        |address: &str| Seed { name: Some("e9".into()), address: address.parse().ok(), ..Seed::default() };
    for address in ["10.0.2.29/24", "fd00:2::29/64,10.0.2.29/24"] {
        let identity = resolve(&[seed(says(address))], &layer, &macs(&[])).unwrap();
        let primary = identity.address.unwrap().addr().to_string();
        assert_eq!((identity.pod_cidr, primary), (None, "10.0.2.29".to_owned()));
    }
    let pods = Seed { pod_cidr: "10.10.9.0/24,fd00:10:10:9::/64".parse().ok(), ..says("10.0.2.29/24") };
    let lines = [says("fd00:2::29/64"), pods]
        .map(|says| resolve(&[seed(says)], &layer, &macs(&[])).unwrap_err().to_string());
    insta::assert_snapshot!(lines.join("\n"), @r"
    the seed (/dev/vda4): address fd00:2::29/64: in this cluster a machine of the role etcd has one IPv4 value
    the seed (/dev/vda4): pod-cidr 10.10.9.0/24, fd00:10:10:9::/64: a machine of the role etcd runs no pods
    ");
    // A node without a range is not known well enough.
    layer.role = "all-in-one".into();
    layer.file.nodes[0].role = "all-in-one".into();
    let error = resolve(&[], &layer, &macs(&[])).unwrap_err();
    assert!(matches!(error, IdentityError::Missing { field: "pod-cidr", .. }), "{error}");
}

#[test]
fn all_links_are_of_one_source() {
    let link = |name: &str| Link { name: name.into(), ..Link::default() };
    let described = |links: &[&str]| Seed {
        name: Some("cp1".into()),
        links: links.iter().copied().map(link).collect(),
        ..Seed::default()
    };
    let plain = layer(vec![node("cp1", "all-in-one", None, 15)]);
    let identity = resolve(&[seed(described(&["a", "b"]))], &plain, &macs(&[])).unwrap();
    assert_eq!(identity.links, [link("a"), link("b")]);
    let written = Node { links: vec![link("c")], ..node("cp1", "all-in-one", None, 15) };
    let written = layer(vec![written]);
    assert_eq!(resolve(&[seed(described(&[]))], &written, &macs(&[])).unwrap().links, [link("c")]);
    insta::assert_snapshot!(
        resolve(&[seed(described(&["a", "b"]))], &written, &macs(&[])).unwrap_err(),
        @"link is a, b by the seed (/dev/vda4), and c by the inventory's node cp1 (named by the seed (/dev/vda4))"
    );
}

#[test]
fn a_seed_alone_is_enough() {
    let seed = seed(Seed {
        name: Some("cp9".into()),
        address: Some("10.0.2.99/24".parse().unwrap()),
        pod_cidr: Some("10.10.99.0/24".parse().unwrap()),
        ..Seed::default()
    });
    assert_eq!(resolve(&[seed], &layer(vec![]), &macs(&[])).unwrap().name, "cp9");
}

#[test]
fn every_refusal_names_its_sources() {
    let nodes = || {
        vec![
            node("cp1", "all-in-one", Some("52:54:00:00:00:01"), 15),
            node("cp2", "all-in-one", Some("52:54:00:00:00:02"), 16),
            node("w1", "worker", Some("52:54:00:00:00:03"), 17),
        ]
    };
    let named = |name: &str| Seed { name: Some(name.into()), ..Seed::default() };
    let cases = [
        (Some(named("cp1")), mac(2)),
        (Some(Seed { address: Some("10.0.2.77/24".parse().unwrap()), ..named("cp1") }), mac(9)),
        (Some(named("cp7")), mac(9)),
        (None, mac(9)),
        (None, mac(3)),
        (Some(named("Web_1")), mac(1)),
        (Some(Seed { mac: Some("5254".into()), ..named("cp1") }), mac(1)),
        (
            Some(Seed {
                address: Some("10.0.2.15/24".parse().unwrap()),
                gateway: Some("10.9.9.1".parse().unwrap()),
                pod_cidr: Some("10.10.9.0/24".parse().unwrap()),
                ..named("cp7")
            }),
            mac(9),
        ),
        (Some(Seed { address: Some("10.0.2.0/24".parse().unwrap()), ..named("cp1") }), mac(1)),
        (Some(Seed { address: Some("169.254.0.7/16".parse().unwrap()), ..named("cp1") }), mac(1)),
        (Some(Seed { clock: SeedClock { servers: Some(vec!["ntp allow".into()]) }, ..named("cp1") }), mac(1)),
    ];
    let lines: Vec<String> = cases
        .into_iter()
        .map(|(says, mac)| {
            let said: Vec<Claim> = says.map(seed).into_iter().collect();
            resolve(&said, &layer(nodes()), &macs(&[mac])).unwrap_err().to_string()
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    name is cp1 by the seed (/dev/vda4), and cp2 by the inventory's node cp2 (link 52:54:00:00:00:02)
    address is 10.0.2.77/24 by the seed (/dev/vda4), and 10.0.2.15/24 by the inventory's node cp1 (named by the seed (/dev/vda4))
    no source gives this machine's pod-cidr; looked at: the seed (/dev/vda4); this machine's MAC addresses are 52:54:00:00:00:09
    no source gives this machine's name; looked at: nothing from the seed partition, the kernel command line, QEMU's fw_cfg, the firmware's OEM strings, NoCloud, the OpenStack config drive, VMware's guestinfo and OVF environment, the cloud's metadata service; no node of the inventory fits; this machine's MAC addresses are 52:54:00:00:00:09
    the inventory's node w1 (link 52:54:00:00:00:03) says that this machine is `w1` with the role worker; this image is for all-in-one
    the seed (/dev/vda4): name `Web_1`: a name has lower-case letters, digits and inner dashes, at most 63
    the seed (/dev/vda4): mac `5254`: six pairs of hexadecimal digits with colons are expected
    the seed (/dev/vda4): gateway 10.9.9.1 does not go with address 10.0.2.15/24: the gateway is outside the machine's network 10.0.2.0/24
    the seed (/dev/vda4): address 10.0.2.0/24 is the network address of its network, and not a machine's
    the seed (/dev/vda4): address 169.254.0.7/16 is a link-local address, and not a machine's
    the seed (/dev/vda4): time server `ntp allow`: a host name in lower case or an address is expected, without scheme or port
    ");
}

#[test]
fn a_uuid_or_a_serial_number_tells_one_of_many() {
    let mut nodes = vec![node("cp1", "all-in-one", None, 15), node("cp2", "all-in-one", None, 16)];
    nodes[0].serial = Some("4711".into());
    nodes[1].uuid = Some("B08DFAA6-fb5c-469a-8cb0-0b6b6a1ea4c3".into());
    let by = |uuid: Option<&str>, serial: Option<&str>| Recognised {
        cards: macs(&[mac(9)]).cards,
        firmware: Firmware {
            uuid: uuid.map(str::to_owned),
            serial: serial.map(str::to_owned),
            ..Firmware::default()
        },
    };
    let (uuid, layer) = ("b08dfaa6-fb5c-469a-8cb0-0b6b6a1ea4c3", layer(nodes));
    assert_eq!(resolve(&[], &layer, &by(Some(uuid), None)).unwrap().name, "cp2");
    assert_eq!(resolve(&[], &layer, &by(None, Some("4711"))).unwrap().name, "cp1");
    let named = seed(Seed { name: Some("cp1".into()), ..Seed::default() });
    let errors = [
        resolve(&[], &layer, &by(Some(uuid), Some("4711"))).unwrap_err(),
        resolve(&[named], &layer, &by(None, Some("4712"))).unwrap_err(),
        resolve(&[], &layer, &by(Some("00000000-0000-0000-0000-000000000007"), Some("1"))).unwrap_err(),
    ];
    insta::assert_snapshot!(errors.map(|error| error.to_string()).join("\n"), @r"
    name is cp1 by the inventory's node cp1 (serial number 4711), and cp2 by the inventory's node cp2 (UUID B08DFAA6-fb5c-469a-8cb0-0b6b6a1ea4c3)
    serial is 4712 by this machine's firmware, and 4711 by the inventory's node cp1 (named by the seed (/dev/vda4))
    no source gives this machine's name; looked at: nothing from the seed partition, the kernel command line, QEMU's fw_cfg, the firmware's OEM strings, NoCloud, the OpenStack config drive, VMware's guestinfo and OVF environment, the cloud's metadata service; no node of the inventory fits; this machine's MAC addresses are 52:54:00:00:00:09; its UUID is 00000000-0000-0000-0000-000000000007; its serial number is 1
    ");
}

#[test]
fn sources_complete_each_other_and_the_first_is_credited() {
    let layer = layer(vec![node("cp1", "all-in-one", None, 15), node("cp2", "all-in-one", None, 16)]);
    let link = |name: &str| Link { name: name.into(), ..Link::default() };
    let claim = |source: &str, name: Option<&str>, links: Vec<Link>| {
        Claim::new(source, Seed { name: name.map(str::to_owned), links, ..Seed::default() })
    };
    let said = [
        claim("fw_cfg", Some("cp2"), Vec::new()),
        claim("NoCloud", Some("cp2"), vec![link("eth0")]),
        claim("OpenStack", None, vec![link("eth0")]),
    ];
    let identity = resolve(&said, &layer, &macs(&[mac(3)])).unwrap();
    assert_eq!(identity.links, [link("eth0")]);
    insta::assert_snapshot!(
        identity.sources.join("; "),
        @"name by fw_cfg; link by NoCloud; address, gateway, pod-cidr by the inventory's node cp2 (named by fw_cfg)"
    );
    let said = [claim("fw_cfg", Some("cp2"), Vec::new()), claim("NoCloud", Some("cp1"), Vec::new())];
    insta::assert_snapshot!(
        resolve(&said, &layer, &macs(&[mac(3)])).unwrap_err(),
        @"name is cp2 by fw_cfg, and cp1 by NoCloud"
    );
}

#[test]
fn links_alone_say_the_address() {
    let text = "name = 'cp9'\npod-cidr = '10.10.99.0/24'\n[[link]]\nname = 'a'\naddresses = ['10.0.3.9/24']\n\
                [[link]]\nname = 'b'\naddresses = ['fd00::9/64', '10.0.2.9/24', '10.0.2.8/24']\n\
                route = [{ to = '0.0.0.0/0', via = '10.0.2.1' }]\n";
    let claim = seed(toml::from_str(text).unwrap());
    let identity = resolve(&[claim], &layer(vec![]), &macs(&[])).unwrap();
    assert_eq!(identity.address, "10.0.2.9/24".parse().ok());
}
