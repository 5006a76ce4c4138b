//! Addresses that no source gives: who may get them elsewhere, and what is known of them.

use super::*;

#[test]
fn a_worker_that_nobody_gives_an_address_is_lent_one_and_a_control_plane_is_not() {
    let says =
        Seed { name: Some("w9".into()), pod_cidr: Some("10.10.99.0/24".parse().unwrap()), ..Seed::default() };
    let worker = ClusterLayer { role: "worker".into(), ..layer(vec![node("cp1", "all-in-one", None, 15)]) };
    let identity = resolve(&[seed(says.clone())], &worker, &macs(&[mac(9)])).unwrap();
    assert_eq!((identity.address, identity.gateway), (None, None));

    let mut both = worker.clone();
    both.file.cluster.pod_cidr = "10.10.0.0/16,fd00:10:10::/56".parse().unwrap();
    let of_both = Seed { pod_cidr: "10.10.99.0/24,fd00:10:10:99::/64".parse().ok(), ..says.clone() };
    assert_eq!(resolve(&[seed(of_both.clone())], &both, &macs(&[])).unwrap().address, None);
    // The other is of whom it may concern.
    for given in ["10.0.2.99/24", "fd00:2::99/64"] {
        let one = Seed { address: given.parse().ok(), ..of_both.clone() };
        let identity = resolve(&[seed(one)], &both, &macs(&[])).unwrap();
        assert_eq!(identity.address.unwrap().to_string(), given);
    }
    let deaf = Link { name: "ens3".into(), accept_ra: Some(false), ..Link::default() };
    let half = "10.0.2.99/24".parse().ok();
    let cases = [
        (says.clone(), layer(Vec::new())),
        (
            Seed { address: half, ..of_both.clone() },
            ClusterLayer { role: "all-in-one".into(), ..both.clone() },
        ),
        (Seed { address: half, gateway: "fe80::1".parse().ok(), ..of_both.clone() }, both.clone()),
        (Seed { links: vec![deaf], ..of_both }, both),
        (Seed { gateway: "10.0.2.2".parse().ok(), ..says }, worker),
    ];
    let refusals = cases.map(|(says, layer)| {
        resolve(&[seed(says)], &layer, &macs(&[]))
            .unwrap_err()
            .to_string()
            .split("; looked at")
            .next()
            .unwrap()
            .to_owned()
    });
    insta::assert_snapshot!(refusals.join("\n"), @r"
    no source gives this machine's address, and DHCP cannot: the address of a control plane or of etcd is a fixed one
    the seed (/dev/vda4): address 10.0.2.99/24: in this cluster a node has one IPv4 and one IPv6 value
    the seed (/dev/vda4): gateway fe80::1 does not go with address 10.0.2.99/24: the gateway is IPv6, and the machine has no address of that family
    no source gives this machine's address, and DHCP cannot: its links are described with accept-ra = false, and without router advertisements there is no IPv6 address and no way to other networks
    no source gives this machine's address, and DHCP cannot: there is a gateway without an address, and a lease has its own
    ");
}

#[test]
fn a_description_with_an_address_of_one_family_may_leave_the_other_to_a_router() {
    let mut worker =
        ClusterLayer { role: "worker".into(), ..layer(vec![node("cp1", "all-in-one", None, 15)]) };
    worker.file.cluster.pod_cidr = "10.10.0.0/16,fd00:10:10::/56".parse().unwrap();
    let says = |lan: &str| {
        let text = format!(
            "name = 'w9'\npod-cidr = ['10.10.99.0/24', 'fd00:10:10:99::/64']\n[[link]]\nname = 'storage'\n\
             addresses = ['10.30.0.9/24']\n[[link]]\nname = 'lan'\n{lan}"
        );
        seed(toml::from_str(&text).unwrap())
    };
    let address = |lan: &str| {
        let identity = resolve(&[says(lan)], &worker, &macs(&[])).map_err(|error| error.to_string())?;
        Ok(identity.address.map(|address| address.to_string()))
    };
    let given = |text: &str| Ok::<_, String>(Some(text.to_owned()));
    assert_eq!(address("addresses = ['10.0.2.99/24']\ndhcp6 = true"), given("10.0.2.99/24"));
    assert_eq!(address("addresses = ['10.0.2.99/24']\naccept-ra = true"), given("10.0.2.99/24"));
    // That of the storage network is not the node's: its link asks for no other.
    assert_eq!(address("dhcp4 = true\ndhcp6 = true"), Ok(None));
    // Nor if it does, and another has the way to all networks.
    let text = "name = 'w9'\npod-cidr = ['10.10.99.0/24', 'fd00:10:10:99::/64']\n[[link]]\nname = 'storage'\n\
                addresses = ['10.30.0.9/24']\naccept-ra = true\n[[link]]\nname = 'lan'\n\
                addresses = ['10.0.2.99/24']\naccept-ra = true\nroute = [{ to = '0.0.0.0/0', via = '10.0.2.2' }]";
    let identity = resolve(&[seed(toml::from_str(text).unwrap())], &worker, &macs(&[])).unwrap();
    assert_eq!(identity.address.map(|address| address.to_string()).as_deref(), Some("10.0.2.99/24"));
    let refused = address("addresses = ['10.0.2.99/24']").unwrap_err();
    assert!(refused.contains("none of them asks for one by dhcp4"), "{refused}");

    worker.file.cluster.pod_cidr = "fd00:10:10::/56".parse().unwrap();
    let text = "name = 'w9'\npod-cidr = 'fd00:10:10:99::/64'\n[[link]]\nname = 'a'\n[[link]]\nname = 'b'\ndhcp4 = true";
    let refused =
        resolve(&[seed(toml::from_str(text).unwrap())], &worker, &macs(&[])).unwrap_err().to_string();
    assert!(refused.contains("none of them asks for one by dhcp6 or accept-ra"), "{refused}");
}
