//! In network namespaces of the host's kernel, and what `ip` says of it.

use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};

use super::*;

mod follow;
mod made;
mod neighbours;
mod refused;

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
fn ip(arguments: &str) -> Value {
    let output = Command::new("ip").args(["-j"]).args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

fn wanted(mac: Option<&str>) -> Wanted {
    Wanted {
        mac: mac.map(str::to_owned),
        address: "10.20.0.10/24".parse().ok(),
        gateway: Some("10.20.0.1".parse().unwrap()),
        missing: Missing::default(),
        mtu: 1400,
        links: Vec::new(),
    }
}

/// Links as a cluster file describes them.
fn described(links: &str) -> Wanted {
    #[derive(serde::Deserialize)]
    struct File {
        link: Vec<Link>,
    }
    let file: File = toml::from_str(links).unwrap();
    Wanted { links: file.link, ..wanted(None) }
}

/// With the /proc and /sys of this thread.
fn configure(wanted: &Wanted) -> Result<Configured, LinkError> {
    super::configure(Path::new("/"), wanted)
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
            address: "fd00:20::10/64".parse().ok(),
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
            address: "10.20.0.10/24,fd00:20::10/64".parse().ok(),
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

/// A further cable.
fn second_cable() {
    ip("link add eth1 address 52:54:00:00:00:0b type veth peer name far1");
    ip("link set far1 up");
}

/// Of one family, without those of the kernel's own.
fn addresses(link: &str, family: &str) -> Vec<String> {
    let shown = ip(&format!("{family} address show dev {link} scope global"));
    let infos = shown[0]["addr_info"].as_array().cloned().unwrap_or_default();
    let text = |info: &Value| Some(format!("{}/{}", info["local"].as_str()?, info["prefixlen"]));
    infos.iter().filter_map(text).collect()
}

/// These keys of the only route or rule that the list has with `key` as `value`.
fn one(list: &Value, key: &str, value: &str, keys: &[&str]) -> Value {
    let fitting: Vec<&Value> = list.as_array().unwrap().iter().filter(|one| one[key] == value).collect();
    assert_eq!(fitting.len(), 1, "{key} {value} in {list}");
    keys.iter().map(|key| fitting[0][key].clone()).collect()
}

const TWO_CARDS: &str = r#"
    [[link]]
    name = "lan"
    mac = "52:54:00:00:00:0A"
    addresses = ["10.20.0.10/24", "10.20.0.11/24", "fd00:20::10/64"]
    accept-ra = false
    [[link.route]]
    to = "192.0.2.0/24"
    via = "10.20.0.2"
    metric = 50
    source = "10.20.0.11"
    [[link.route]]
    to = "2001:db8::/32"
    via = "fd00:20::2"

    [[link]]
    name = "eth1"
    mtu = 9000
    metric = 700
    addresses = ["10.30.0.10/24"]
    accept-ra = true
    [[link.route]]
    to = "0.0.0.0/0"
    via = "10.30.0.1"
    table = 1000
    [[link.route]]
    to = "198.51.100.0/24"
    via = "172.16.0.1"
    on-link = true
    table = 100
    [[link.route]]
    to = "203.0.113.0/24"
    [[link.rule]]
    from = "10.30.0.10/32"
    table = 1000
    priority = 100
    [[link.rule]]
    to = "fd00:30::/48"
    table = 100
    [[link.rule]]
    mark = 66
    table = 100
    priority = 200
"#;

#[test]
fn two_cards_get_all_that_is_described_and_ip_agrees() {
    in_namespace(|| {
        cable();
        second_cable();
        ip("address add 10.99.0.1/24 dev eth0");
        for round in 0..2 {
            let configured = configure(&described(TWO_CARDS)).unwrap();
            assert_eq!((configured.link.as_str(), configured.problems.len()), ("eth0", 0));
            assert_eq!(configured.changes == 0, round == 1, "{} changes", configured.changes);
            assert!(configured.online.is_some());
            // The first is foreign, and stays.
            assert_eq!(addresses("eth0", "-4"), ["10.99.0.1/24", "10.20.0.10/24", "10.20.0.11/24"]);
            assert_eq!(addresses("eth0", "-6"), ["fd00:20::10/64"]);
            assert_eq!(addresses("eth1", "-4"), ["10.30.0.10/24"]);
            assert_eq!(
                (&ip("link show eth0")[0]["mtu"], &ip("link show eth1")[0]["mtu"]),
                (&json!(1400), &json!(9000))
            );

            let main = ip("-4 route show");
            let keys = ["gateway", "dev", "metric", "prefsrc"];
            assert_eq!(one(&main, "dst", "default", &keys), json!(["10.20.0.1", "eth0", null, null]));
            assert_eq!(
                one(&main, "dst", "192.0.2.0/24", &keys),
                json!(["10.20.0.2", "eth0", 50, "10.20.0.11"])
            );
            assert_eq!(one(&main, "dst", "203.0.113.0/24", &keys), json!([null, "eth1", 700, null]));
            let far = ip("-4 route show table 1000");
            assert_eq!(one(&far, "dst", "default", &keys[..3]), json!(["10.30.0.1", "eth1", 700]));
            let on_link = ip("-4 route show table 100");
            let keys = ["gateway", "flags"];
            assert_eq!(one(&on_link, "dst", "198.51.100.0/24", &keys), json!(["172.16.0.1", ["onlink"]]));
            assert_eq!(
                one(&ip("-6 route show"), "dst", "2001:db8::/32", &["gateway", "metric"]),
                json!(["fd00:20::2", 1024])
            );

            let rules = ip("-4 rule show");
            assert_eq!(rules.as_array().unwrap().len(), 5, "{rules}");
            assert_eq!(one(&rules, "src", "10.30.0.10", &["priority", "table"]), json!([100, "1000"]));
            assert_eq!(one(&rules, "fwmark", "0x42", &["priority", "table"]), json!([200, "100"]));
            let rules = ip("-6 rule show");
            assert_eq!(rules.as_array().unwrap().len(), 4, "{rules}");
            assert_eq!(one(&rules, "dst", "fd00:30::", &["dstlen", "table"]), json!([48, "100"]));

            for (link, values) in [("eth0", ["0", "0"]), ("eth1", ["2", "1"])] {
                for (file, value) in ["accept_ra", "autoconf"].into_iter().zip(values) {
                    let path = format!("/proc/sys/net/ipv6/conf/{link}/{file}");
                    assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), value, "{path}");
                }
            }
        }
    });
}

#[test]
fn two_default_routes_without_a_metric_are_told_and_stay_two() {
    in_namespace(|| {
        cable();
        second_cable();
        let text = "[[link]]\nname = 'eth0'\naddresses = ['10.20.0.10/24']\n[[link]]\nname = 'eth1'\naddresses = ['10.30.0.10/24']\nroute = [{ to = '0.0.0.0/0', via = '10.30.0.1' }]";
        for round in 0..2 {
            let configured = configure(&described(text)).unwrap();
            assert_eq!(configured.changes == 0, round == 1, "{} changes", configured.changes);
            let told = &configured.problems[0].chain[0];
            assert!(configured.problems.len() == 1 && told.ends_with("on eth0, and gets 1"), "{told}");
            let routes = ip("-4 route show default");
            let keys = ["dev", "metric"];
            assert_eq!(routes.as_array().unwrap().len(), 2, "{routes}");
            assert_eq!(one(&routes, "gateway", "10.20.0.1", &keys), json!(["eth0", null]));
            assert_eq!(one(&routes, "gateway", "10.30.0.1", &keys), json!(["eth1", 1]));
        }
    });
}

/// `eth0` with the node's address, and `eth1` without a carrier.
fn half_a_cable(optional: bool) -> Wanted {
    cable();
    ip("link add eth1 address 52:54:00:00:00:0b type veth peer name far1");
    let text = "[[link]]\nname = 'eth1'\naddresses = ['10.30.0.10/24']\noptional = OPTIONAL\n[[link.route]]\nto = '198.51.100.0/24'\nvia = '10.30.0.1'\n[[link]]\nname = 'eth0'\naddresses = ['10.20.0.10/24']";
    described(&text.replace("OPTIONAL", &optional.to_string()))
}

#[test]
fn an_optional_link_without_a_carrier_is_not_waited_for() {
    in_namespace(|| {
        let wanted = half_a_cable(true);
        let began = Instant::now();
        let configured = configure(&wanted).unwrap();
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        assert_eq!((configured.link.as_str(), configured.problems.len()), ("eth0", 0));
        // It is ready for when the cable is plugged in.
        assert_eq!(addresses("eth1", "-4"), ["10.30.0.10/24"]);
        assert_eq!(one(&ip("-4 route show"), "dst", "198.51.100.0/24", &["dev"]), json!(["eth1"]));
    });
}

#[test]
fn a_link_that_does_not_take_an_mtu_keeps_its_own_if_that_is_not_too_much() {
    in_namespace(|| {
        cable();
        let index = u32::try_from(ip("link show eth0")[0]["ifindex"].as_u64().unwrap()).unwrap();
        assert_eq!(set_mtu(index, "eth0", 1400, Some(1400)).unwrap().0, 1400);
        // Less than IPv4's least.
        for most in [None, Some(1400)] {
            let (mtu, refused) = set_mtu(index, "eth0", 60, most).unwrap();
            let refused = refused.map(|error| error.to_string());
            let told = "the kernel did not give eth0 an MTU of 60 bytes";
            assert_eq!((mtu, refused.as_deref()), (1400, Some(told)));
        }
        assert!(set_mtu(index, "eth0", 60, Some(60)).is_err());
    });
}

#[test]
fn a_link_without_a_carrier_does_not_hold_up_another() {
    in_namespace(|| {
        let wanted = half_a_cable(false);
        let configured = configure(&wanted).unwrap();
        assert!(configured.online.unwrap() < Duration::from_secs(2), "{:?}", configured.online);
        assert!(configured.problems[0].chain[0].contains("eth1"), "{:?}", configured.problems);
        assert_eq!(addresses("eth1", "-4"), ["10.30.0.10/24"]);
    });
}

#[test]
fn a_carrier_that_comes_late_is_waited_for() {
    in_namespace(|| {
        let wanted = half_a_cable(false);
        let plug = Command::new("sh").args(["-c", "sleep 0.5; ip link set far1 up"]).spawn();
        let configured = configure(&wanted).unwrap();
        assert_eq!(configured.problems, []);
        plug.unwrap().wait().unwrap();
    });
}

#[test]
fn the_api_is_asked_without_waiting() {
    in_namespace(|| {
        ip("link set lo up");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(endpoint(address).ends_with(" answers"), "{}", endpoint(address));
        drop(listener);
        assert!(endpoint(address).contains("its API not yet"), "{}", endpoint(address));
        assert!(endpoint("192.0.2.1:6443".parse().unwrap()).contains("not reached"));
    });
}
