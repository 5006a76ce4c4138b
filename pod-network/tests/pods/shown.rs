//! What `ip` and `bridge` show, in a form that can be compared.

use std::collections::{BTreeMap, BTreeSet};

use pod_network::{Family, Outlet, Wanted};
use serde_json::Value;

use network_namespaces::Namespace;

/// Routes with our protocol: destination, gateway, device, source, and whether the gateway needs no address.
type Route = (String, String, String, String, bool);

/// What is ours.
#[derive(Debug, PartialEq, Eq)]
pub struct Shown {
    pub routes: BTreeSet<Route>,
    /// Address to MAC, by device.
    pub neighbours: BTreeSet<(String, String, String)>,
    /// MAC to remote, by device.
    pub forwarding: BTreeSet<(String, String, String)>,
}

const DEVICES: [(&str, &str); 2] = [("-4", "vxlan-pods4"), ("-6", "vxlan-pods6")];

/// Asks `ip` and `bridge`.
pub fn shown(net: &Namespace) -> Shown {
    let mut shown =
        Shown { routes: BTreeSet::new(), neighbours: BTreeSet::new(), forwarding: BTreeSet::new() };
    let links = net.ip("link show");
    let has = |name: &str| list(&links).iter().any(|link| link["ifname"] == name);
    for (family, device) in DEVICES {
        for route in list(&net.ip(&format!("{family} -N route show proto 98"))) {
            let onlink = list(&route["flags"]).iter().any(|flag| flag == "onlink");
            let field = |name: &str| word(&route, name);
            shown.routes.insert((field("dst"), field("gateway"), field("dev"), field("prefsrc"), onlink));
        }
        if !has(device) {
            continue;
        }
        for one in list(&net.ip(&format!("{family} neigh show dev {device} nud permanent"))) {
            shown.neighbours.insert((device.to_owned(), word(&one, "dst"), word(&one, "lladdr")));
        }
        for one in list(&net.bridge(&format!("fdb show dev {device}"))) {
            assert_eq!((&one["state"], list(&one["flags"])), (&"permanent".into(), vec!["self".into()]));
            shown.forwarding.insert((device.to_owned(), word(&one, "mac"), word(&one, "dst")));
        }
    }
    shown
}

/// What they should show.
pub fn expected(wanted: &Wanted) -> Shown {
    let device = |family| DEVICES[family as usize].1.to_owned();
    let routes = wanted.routes.iter().map(|(range, hop)| {
        let (name, onlink) = match hop.outlet {
            Outlet::Link => ("eth0".to_owned(), false),
            Outlet::Overlay(family) => (device(family), family == Family::V4),
        };
        (range.to_string(), hop.gateway.to_string(), name, hop.source.to_string(), onlink)
    });
    let neighbours = wanted.neighbours.iter();
    let forwarding = wanted.forwarding.iter();
    Shown {
        routes: routes.collect(),
        neighbours: neighbours
            .map(|((family, address), mac)| (device(*family), address.to_string(), mac.to_string()))
            .collect(),
        forwarding: forwarding
            .map(|((family, mac), remote)| (device(*family), mac.to_string(), remote.to_string()))
            .collect(),
    }
}

/// Device names to what `ip -d` says of them.
pub fn devices(net: &Namespace) -> BTreeMap<String, Value> {
    let links = list(&net.ip("-d link show type vxlan"));
    links.into_iter().map(|link| (word(&link, "ifname"), link)).collect()
}

pub fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn word(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}
