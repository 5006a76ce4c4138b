use std::process::Command;

use super::*;

/// Runs `test` in a network namespace of its own, on a thread of its own.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        // SAFETY: a new network namespace takes nothing away from the other threads.
        let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
        assert_eq!(result, 0, "no network namespace: {}", std::io::Error::last_os_error());
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// `ip` in the namespace of this thread.
fn ip(arguments: &str) -> serde_json::Value {
    let output = Command::new("ip").args(["-j"]).args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

fn wanted(mac: Option<&str>) -> Wanted {
    Wanted {
        mac: mac.map(str::to_owned),
        address: "10.20.0.10/24".parse().unwrap(),
        gateway: Some("10.20.0.1".parse().unwrap()),
        mtu: 1400,
    }
}

/// A cable: `eth0` is the machine's end, `far` the other.
fn cable() {
    ip("link add eth0 address 52:54:00:00:00:0a type veth peer name far");
    ip("link set far up");
}

#[test]
fn a_link_gets_what_is_wanted_and_ip_agrees() {
    in_namespace(|| {
        cable();
        for _ in 0..2 {
            let configured = configure(&wanted(Some("52:54:00:00:00:0A"))).unwrap();
            assert_eq!(configured.link, "eth0");
            assert_eq!(configured.problems, []);
            let addresses = ip("address show dev eth0");
            assert_eq!(addresses[0]["mtu"], 1400);
            let v4: Vec<_> = addresses[0]["addr_info"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|a| a["family"] == "inet")
                .collect();
            assert_eq!(v4.len(), 1);
            assert_eq!((&v4[0]["local"], &v4[0]["prefixlen"]), (&"10.20.0.10".into(), &24.into()));
            assert_eq!(v4[0]["broadcast"], "10.20.0.255");
            let routes = ip("route show default");
            assert_eq!(routes.as_array().unwrap().len(), 1);
            assert_eq!((&routes[0]["gateway"], &routes[0]["dev"]), (&"10.20.0.1".into(), &"eth0".into()));
            let loopback = ip("link show dev lo");
            assert!(loopback[0]["flags"].as_array().unwrap().contains(&"UP".into()));
        }
    });
}

#[test]
fn ipv6_is_usable_at_once() {
    in_namespace(|| {
        cable();
        let wanted = Wanted {
            address: "fd00:20::10/64".parse().unwrap(),
            gateway: Some("fd00:20::1".parse().unwrap()),
            ..wanted(Some("52:54:00:00:00:0a"))
        };
        configure(&wanted).unwrap();
        let socket = std::net::TcpListener::bind("[fd00:20::10]:0");
        assert!(socket.is_ok(), "{socket:?}");
        assert_eq!(ip("-6 route show default")[0]["gateway"], "fd00:20::1");
    });
}

#[test]
fn a_link_gets_addresses_and_gateways_of_both_families() {
    in_namespace(|| {
        cable();
        let wanted = Wanted {
            address: "10.20.0.10/24,fd00:20::10/64".parse().unwrap(),
            gateway: "10.20.0.1,fe80::1".parse().ok(),
            ..wanted(Some("52:54:00:00:00:0a"))
        };
        for _ in 0..2 {
            configure(&wanted).unwrap();
            let addresses = ip("address show dev eth0 scope global");
            let addresses = addresses[0]["addr_info"].as_array().unwrap().iter();
            let addresses: Vec<_> = addresses.filter_map(|address| address["local"].as_str()).collect();
            assert_eq!(addresses, ["10.20.0.10", "fd00:20::10"]);
            for (family, gateway) in [("-4", "10.20.0.1"), ("-6", "fe80::1")] {
                let routes = ip(&format!("{family} route show default"));
                assert_eq!((routes.as_array().unwrap().len(), &routes[0]["gateway"]), (1, &gateway.into()));
            }
        }
    });
}

#[test]
fn without_a_mac_the_only_link_is_taken_and_pods_ends_do_not_count() {
    in_namespace(|| {
        ip("link add eth0 type veth peer name cni0");
        ip("link set cni0 up");
        assert_eq!(configure(&wanted(None)).unwrap().link, "eth0");
    });
}

#[test]
fn without_a_mac_two_links_are_a_question() {
    in_namespace(|| {
        cable();
        let error = configure(&wanted(None)).unwrap_err();
        assert!(error.to_string().contains("eth0 52:54:00:00:00:0a"), "{error}");
    });
}

#[test]
fn a_link_that_comes_late_is_waited_for() {
    in_namespace(|| {
        let plug = Command::new("sh").args(["-c", "sleep 0.3; ip link add eth0 address 52:54:00:00:00:0a type veth peer name far; ip link set far up"]).spawn();
        let configured = configure(&wanted(Some("52:54:00:00:00:0a"))).unwrap();
        assert_eq!(configured.link, "eth0");
        plug.unwrap().wait().unwrap();
    });
}

#[test]
fn a_missing_carrier_is_told_and_the_address_is_set() {
    in_namespace(|| {
        ip("link add eth0 address 52:54:00:00:00:0a type veth peer name far");
        let configured = configure(&wanted(Some("52:54:00:00:00:0a"))).unwrap();
        assert!(configured.problems[0].chain[0].contains("no carrier"), "{:?}", configured.problems);
        assert_eq!(ip("-4 address show dev eth0")[0]["addr_info"][0]["local"], "10.20.0.10");
    });
}

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
fn an_unknown_mac_is_told_with_what_is_there() {
    let link = |name: &str, mac: &str| Link {
        index: 2,
        name: name.into(),
        mac: Some(mac.into()),
        ethernet: true,
        up: false,
        carrier: false,
        mtu: 1500,
    };
    let links = [link("eth0", "52:54:00:00:00:01"), link("eth1", "52:54:00:00:00:02")];
    let error = choose(&links, &wanted(Some("52:54:00:00:00:0a"))).unwrap_err();
    insta::assert_snapshot!(
        error.to_string(),
        @"no link has the MAC address 52:54:00:00:00:0a; this machine has eth0 52:54:00:00:00:01, eth1 52:54:00:00:00:02"
    );
}
