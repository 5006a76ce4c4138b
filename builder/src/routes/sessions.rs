//! The fabric's side of the nodes' BGP sessions, as its routers are configured.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;

use bootwright_model::cluster::{ClusterFile, NetworkMode};
use bootwright_model::families::Family;
use bootwright_model::kubernetes::is_node;
use ipnet::IpNet;
use serde::Serialize;

/// What one router of the cluster file has to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct RouterSessions {
    /// Address of the router.
    pub router: IpAddr,
    /// Number of its autonomous system.
    #[serde(rename = "as")]
    pub asn: u32,
    /// Number of the nodes' autonomous system; the router's own makes it their route reflector.
    pub node_as: u32,
    /// The range that pods are in, and the prefix lengths that nodes have of it.
    pub pod_cidr: IpNet,
    /// Ascending.
    pub prefix_lengths: Vec<u8>,
    /// In the order of the cluster file.
    pub nodes: Vec<Neighbour>,
}

/// A node that a router has a session with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Neighbour {
    /// Name of the node.
    pub node: String,
    /// Its address.
    pub address: IpAddr,
    /// Whether the router is not in the node's network.
    pub multihop: bool,
}

/// Of a checked cluster file; none if its nodes have sessions with one another.
pub fn of(file: &ClusterFile) -> Vec<RouterSessions> {
    let bgp = file.network.bgp.clone().unwrap_or_default();
    if file.network.mode != NetworkMode::Bgp {
        return Vec::new();
    }
    let sessions = bgp.routers.iter().filter_map(|router| {
        let family = Family::of(router.address);
        let pod_cidr = file.cluster.pod_cidr.of(family)?.trunc();
        let lengths = file
            .nodes
            .iter()
            .filter(|node| is_node(&node.role))
            .filter_map(|node| Some(node.pod_cidr?.of(family)?.prefix_len()));
        let lengths: BTreeSet<u8> = lengths.chain([file.cluster.node_prefix_length(family)]).collect();
        let nodes = file.nodes.iter().filter(|node| is_node(&node.role)).filter_map(|node| {
            let address = node.address.of(family)?;
            let sessions = bgp.routers_of(address);
            let session = sessions.iter().find(|session| session.router == router)?;
            let (name, address) = (node.name.clone(), address.addr());
            Some(Neighbour { node: name, address, multihop: !session.on_link })
        });
        Some(RouterSessions {
            router: router.address,
            asn: router.asn,
            node_as: bgp.asn,
            pod_cidr,
            prefix_lengths: lengths.iter().copied().collect(),
            nodes: nodes.collect(),
        })
    });
    sessions.collect()
}

impl RouterSessions {
    /// Whether the router is in the nodes' autonomous system: then it passes on to nodes what it has from nodes only if
    /// it is told to (RFC 4456).
    fn reflects(&self) -> bool {
        self.asn == self.node_as
    }

    /// For FRR, to be included or pasted into vtysh. `cluster` names the lists.
    pub(super) fn frr(&self, cluster: &str) -> String {
        let (number, family) = if self.router.is_ipv4() { (4, "ip") } else { (6, "ipv6") };
        let (pods, nodes) = (format!("pods{number}-{cluster}"), format!("nodes{number}-{cluster}"));
        let mut out = format!("! router {}\n", self.router);
        let mut add = |line: String| {
            out += &line;
            out.push('\n');
        };
        for (position, length) in self.prefix_lengths.iter().enumerate() {
            let range = self.pod_cidr;
            let bounds = if *length == range.prefix_len() {
                String::new()
            } else {
                format!(" ge {length} le {length}")
            };
            add(format!("{family} prefix-list {pods} seq {} permit {range}{bounds}", 5 * (position + 1)));
        }
        add(format!("route-map {pods} permit 10"));
        add(format!(" match {family} address prefix-list {pods}"));
        add("exit".to_owned());
        add(format!("router bgp {}", self.asn));
        add(format!(" neighbor {nodes} peer-group"));
        add(format!(" neighbor {nodes} remote-as {}", self.node_as));
        for node in &self.nodes {
            add(format!(" neighbor {} peer-group {nodes}", node.address));
            add(format!(" neighbor {} description {}", node.address, node.node));
            if node.multihop && !self.reflects() {
                add(format!(" neighbor {} ebgp-multihop", node.address));
            }
        }
        if number == 6 {
            add(" address-family ipv4 unicast".to_owned());
            add(format!("  no neighbor {nodes} activate"));
            add(" exit-address-family".to_owned());
        }
        add(format!(" address-family ipv{number} unicast"));
        add(format!("  neighbor {nodes} activate"));
        if self.reflects() {
            add(format!("  neighbor {nodes} route-reflector-client"));
        }
        add(format!("  neighbor {nodes} route-map {pods} in"));
        add(format!("  neighbor {nodes} route-map {pods} out"));
        add(" exit-address-family".to_owned());
        add("exit".to_owned());
        out
    }

    /// For BIRD 2, to be included into bird.conf.
    pub(super) fn bird(&self) -> String {
        let number = if self.router.is_ipv4() { 4 } else { 6 };
        // A router may have several of the addresses.
        let template = format!("'router{number}-{}'", self.router);
        let patterns =
            self.prefix_lengths.iter().map(|length| format!("{}{{{length},{length}}}", self.pod_cidr));
        let pods = format!("[ {} ]", patterns.collect::<Vec<_>>().join(", "));
        let reflects = if self.reflects() { "    rr client;\n" } else { "" };
        let mut out = format!(
            "# router {router}\n\
             template bgp {template} {{\n    local {router} as {asn};\n{reflects}    ipv{number} {{\n        \
             import where net ~ {pods};\n        export where net ~ {pods};\n    }};\n}}\n",
            router = self.router,
            asn = self.asn,
        );
        for node in &self.nodes {
            let Neighbour { node: name, address, multihop } = node;
            let hops = if *multihop { " multihop;" } else { " direct;" };
            writeln!(
                out,
                "protocol bgp 'node{number}-{address}' from {template} {{ neighbor {address} as {};{hops} }} # {name}",
                self.node_as
            )
            .expect("a String takes everything");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::file;
    use super::super::{Format, PodRoutes};
    use serde_json::json;

    fn routes(routers: &serde_json::Value) -> PodRoutes {
        PodRoutes::of(&file(
            &json!({ "mode": "bgp", "bgp": { "as": 64600, "router": routers } }),
            &[
                ("cp1", "10.20.0.10/24", "10.10.0.0/24"),
                ("w1", "10.30.0.11/24", "10.10.1.0/24"),
                ("w2", "10.40.0.11/24", "10.10.16.0/20"),
            ],
        ))
    }

    #[test]
    fn routers_of_two_racks_and_a_node_behind_them_in_frr() {
        let routers =
            json!([{ "address": "10.20.0.1", "as": 64601 }, { "address": "10.30.0.1", "as": 64602 }]);
        insta::assert_snapshot!(routes(&routers).text(Format::Frr));
    }

    #[test]
    fn a_route_reflector_in_frr_and_bird() {
        let routes = routes(&json!([{ "address": "10.99.0.1", "as": 64600 }]));
        insta::assert_snapshot!(routes.text(Format::Frr) + &routes.text(Format::Bird));
    }

    #[test]
    fn one_router_alone_in_bird() {
        let routers =
            json!([{ "address": "10.20.0.1", "as": 64601 }, { "address": "10.30.0.1", "as": 64602 }]);
        let mut routes = routes(&routers);
        assert!(routes.keep_router("10.20.0.1".parse().unwrap()));
        insta::assert_snapshot!(routes.text(Format::Bird));
        assert!(!routes.keep_router("10.20.0.2".parse().unwrap()));
    }

    #[test]
    fn json_has_the_sessions_and_commands_the_routes() {
        let routes = routes(&json!([{ "address": "10.20.0.1", "as": 64601 }]));
        let json: serde_json::Value = serde_json::from_str(&routes.text(Format::Json)).unwrap();
        let session = &json["sessions"][0];
        assert_eq!((&session["as"], &session["node-as"]), (&json!(64601), &json!(64600)));
        assert_eq!(session["nodes"][0], json!({ "node": "cp1", "address": "10.20.0.10", "multihop": false }));
        assert_eq!(session["nodes"][1]["multihop"], json!(true));
        assert!(routes.text(Format::Ip).contains("ip -4 route replace 10.10.1.0/24 via 10.30.0.11"));
    }

    #[test]
    fn nodes_among_themselves_tell_the_fabric_nothing() {
        let routes = routes(&json!([]));
        assert_eq!(routes.sessions, []);
        assert!(routes.text(Format::Frr).contains("ip route 10.10.0.0/24 10.20.0.10"));
    }
}
