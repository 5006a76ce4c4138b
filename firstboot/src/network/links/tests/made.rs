//! Links that are made of others: bridges, and bonds and VLANs, which not every kernel has: these are asked for with
//! `--ignored`.

use super::*;

/// A bond of two cards with a VLAN on it, and what `ip` says of the bond.
fn bond_with_vlan(options: &str) -> Value {
    ip("link add eth0 address 52:54:00:00:00:0a type veth peer name far");
    ip("link add eth1 address 52:54:00:00:00:0b type veth peer name far1");
    ip("link set far up");
    ip("link set far1 up");
    let links = r#"
        [[link]]
        name = "lan"
        addresses = ["10.20.0.10/24"]
        mtu = 1500
        vlan = { id = 20, link = "bond0" }
        [[link]]
        name = "bond0"
        mtu = 2000
        addresses = ["10.30.0.10/24"]
        [link.bond]
        members = ["eth0", "eth1"]
        OPTIONS
        [[link]]
        name = "eth0"
        [[link]]
        name = "eth1"
        "#;
    let wanted = described(&links.replace("OPTIONS", options));
    for round in 0..2 {
        let configured = configure(&wanted).unwrap();
        assert_eq!((configured.link.as_str(), configured.mac.as_str()), ("lan", "52:54:00:00:00:0a"));
        assert_eq!(configured.problems, []);
        assert_eq!(configured.changes == 0, round == 1, "{} changes", configured.changes);
    }
    let vlan = &ip("-d link show lan")[0];
    assert_eq!((&vlan["link"], &vlan["mtu"]), (&json!("bond0"), &json!(1500)));
    assert_eq!(vlan["linkinfo"]["info_data"]["id"], 20);
    for member in ["eth0", "eth1"] {
        let member = &ip(&format!("link show {member}"))[0];
        assert_eq!((&member["master"], &member["mtu"]), (&json!("bond0"), &json!(2000)));
    }
    assert_eq!(addresses("bond0", "-4"), ["10.30.0.10/24"]);
    assert_eq!(addresses("lan", "-4"), ["10.20.0.10/24"]);
    ip("-d link show bond0")[0]["linkinfo"]["info_data"].clone()
}

#[test]
#[ignore = "needs bonding and 8021q in the host's kernel"]
fn a_bond_of_one_card_at_a_time_has_its_options() {
    in_namespace(|| {
        let bond = bond_with_vlan("primary = 'eth1'\nup-delay = 200\ndown-delay = 100");
        let keys = ["mode", "miimon", "updelay", "downdelay", "primary", "active_slave"];
        let values: Vec<&Value> = keys.iter().map(|key| &bond[key]).collect();
        assert_eq!(json!(values), json!(["active-backup", 100, 200, 100, "eth1", "eth1"]));
    });
}

#[test]
#[ignore = "needs bonding and 8021q in the host's kernel"]
fn a_bond_of_lacp_has_its_options() {
    in_namespace(|| {
        let bond = bond_with_vlan(
            "mode = '802.3ad'\nmiimon = 50\nlacp-rate = 'fast'\ntransmit-hash-policy = 'layer3+4'\nmin-links = 1",
        );
        let keys = ["mode", "miimon", "ad_lacp_rate", "xmit_hash_policy", "min_links"];
        let values: Vec<&Value> = keys.iter().map(|key| &bond[key]).collect();
        assert_eq!(json!(values), json!(["802.3ad", 50, "fast", "layer3+4", 1]));
    });
}

#[test]
fn a_bridge_has_its_members_and_options() {
    in_namespace(|| {
        cable();
        second_cable();
        let wanted = described(
            r#"
            [[link]]
            name = "eth0"
            [[link]]
            name = "eth1"
            [[link]]
            name = "br0"
            mac = "52:54:00:00:00:0c"
            mtu = 1300
            addresses = ["10.20.0.10/24"]
            [link.bridge]
            members = ["eth0", "eth1"]
            stp = true
            forward-delay = 2
            "#,
        );
        for round in 0..2 {
            let configured = configure(&wanted).unwrap();
            assert_eq!((configured.link.as_str(), configured.mac.as_str()), ("br0", "52:54:00:00:00:0c"));
            assert_eq!(configured.problems, []);
            assert_eq!(configured.changes == 0, round == 1, "{} changes", configured.changes);
            // Listening and learning come first.
            assert!(
                round == 1 || configured.online.unwrap() > Duration::from_secs(3),
                "{:?}",
                configured.online
            );
            let bridge = &ip("-d link show br0")[0];
            let options = &bridge["linkinfo"]["info_data"];
            assert_eq!((&options["stp_state"], &options["forward_delay"]), (&json!(1), &json!(200)));
            assert_eq!(bridge["mtu"], 1300);
            for member in ["eth0", "eth1"] {
                let member = &ip(&format!("link show {member}"))[0];
                assert_eq!((&member["master"], &member["mtu"]), (&json!("br0"), &json!(1300)));
                assert!(member["flags"].as_array().unwrap().contains(&"UP".into()));
            }
            assert_eq!(addresses("br0", "-4"), ["10.20.0.10/24"]);
        }
        // An option that somebody changed is put right.
        ip("link set br0 type bridge stp_state 0");
        assert_eq!(configure(&wanted).unwrap().changes, 1);
        assert_eq!(ip("-d link show br0")[0]["linkinfo"]["info_data"]["stp_state"], 1);
    });
}

#[test]
fn a_bridge_works_without_a_member_that_cannot_be_used() {
    in_namespace(|| {
        cable();
        second_cable();
        // Less than Ethernet has.
        let wanted = described(
            r#"
            [[link]]
            name = "eth0"
            [[link]]
            name = "eth1"
            mtu = 60
            [[link]]
            name = "br0"
            mtu = 1300
            addresses = ["10.20.0.10/24"]
            bridge.members = ["eth0", "eth1"]
            "#,
        );
        let configured = configure(&wanted).unwrap();
        assert_eq!(configured.link, "br0");
        assert!(configured.online.is_some());
        assert_eq!(configured.problems.len(), 1, "{:?}", configured.problems);
        assert!(configured.problems[0].chain[0].contains("eth1"), "{:?}", configured.problems);
        assert_eq!(ip("link show eth0")[0]["master"], "br0");
    });
}
