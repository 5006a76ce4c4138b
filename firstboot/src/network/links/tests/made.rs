//! Links that are made of others: bridges. Bonds and VLANs, which not every kernel has, are shown with the image's kernel:
//! `qemu-tests/tests/links/`.

use super::*;

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
