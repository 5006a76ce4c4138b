//! What the kernel does not take: the end of the boot, or a problem in the report.

use super::*;

#[test]
fn what_the_kernel_refuses_is_told_with_the_reason() {
    in_namespace(|| {
        cable();
        let far = Wanted { gateway: Some("192.0.2.1".parse().unwrap()), ..wanted(Some("52:54:00:00:00:0a")) };
        let lines = crate::report::chain(&configure(&far).unwrap_err());
        assert!(lines[0].contains("192.0.2.1") && lines[1].contains("unreachable"), "{lines:?}");
    });
}

#[test]
fn what_is_not_the_nodes_own_does_not_end_the_boot() {
    in_namespace(|| {
        cable();
        second_cable();
        let wanted = described(
            "[[link]]\nname = 'eth1'\nmtu = 65535\naddresses = ['10.30.0.10/24']\n[[link.route]]\nto = '198.51.100.0/24'\nvia = '192.0.2.1'\n[[link]]\nname = 'eth0'\naddresses = ['10.20.0.10/24']",
        );
        let configured = configure(&wanted).unwrap();
        assert_eq!(configured.link, "eth0");
        assert_eq!(configured.problems.len(), 1, "{:?}", configured.problems);
        assert!(configured.problems[0].chain[0].contains("192.0.2.1"), "{:?}", configured.problems);
    });
}

#[test]
fn more_of_the_nodes_link_than_its_address_and_gateway_does_not_end_the_boot() {
    in_namespace(|| {
        cable();
        // Loopback's address is no other link's, and 192.0.2.1 no neighbour.
        let wanted = described(
            r#"
            [[link]]
            name = "eth0"
            addresses = ["10.20.0.10/24", "::1/128", "10.20.0.11/24"]
            [[link.route]]
            to = "198.51.100.0/24"
            via = "192.0.2.1"
            [[link.route]]
            to = "203.0.113.0/24"
            via = "10.20.0.2"
            "#,
        );
        let configured = configure(&wanted).unwrap();
        let told: Vec<&str> = configured.problems.iter().map(|problem| problem.chain[0].as_str()).collect();
        assert_eq!(
            told,
            [
                "the kernel did not give eth0 the address ::1/128",
                "the kernel did not set the route to 198.51.100.0/24 through 192.0.2.1 on eth0",
            ]
        );
        assert_eq!(addresses("eth0", "-4"), ["10.20.0.10/24", "10.20.0.11/24"]);
        let main = ip("-4 route show");
        assert_eq!(one(&main, "dst", "default", &["gateway"]), json!(["10.20.0.1"]));
        assert_eq!(one(&main, "dst", "203.0.113.0/24", &["gateway"]), json!(["10.20.0.2"]));
    });
}
