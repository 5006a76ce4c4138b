//! The CNI network of this node's pods (CNI specification 0.4.0, network configuration lists).

use bootwright_model::addresses;
use bootwright_model::node::NodeFacts;
use bootwright_model::vxlan;
use serde_json::json;

/// Where containerd looks for it; it takes the first by name.
pub const CONFLIST: &str = "/etc/cni/net.d/10-bootwright.conflist";
/// Leases of host-local. A tmpfs, so that a restart forgets the leases of pods that it ended.
pub const LEASES: &str = "/run/bootwright/cni";

/// MTU of pods, bytes: with an overlay, what is left of the underlay's. Also on a cluster of one node,
/// so that it need not change when nodes are added, and also to peers that are reached by routes: a pod
/// has one link for all of them, and for both families. Packets of a family travel in VXLAN of that family.
pub fn pod_mtu(facts: &NodeFacts) -> u16 {
    let network = &facts.layer.file.network;
    let of_overlay = if network.has_overlay() { vxlan::most_overhead_bytes(&facts.address) } else { 0 };
    network.mtu.saturating_sub(of_overlay)
}

/// The configuration list. The error is that the pod CIDR has no address for the bridge.
///
/// No `ipMasq`: the bridge plugin exempts only this node's pods, so traffic to pods of other nodes
/// would be rewritten; see [`super::masquerade`].
pub fn conflist(facts: &NodeFacts) -> Result<String, addresses::AddressError> {
    let (mut ranges, mut routes) = (Vec::new(), Vec::new());
    for pod_cidr in facts.pod_cidrs() {
        let gateway = addresses::pod_gateway(pod_cidr)?;
        // A range of its own in each: the plugin gives a pod one address of every element of the outer list.
        ranges.push(json!([{ "subnet": pod_cidr.to_string(), "gateway": gateway.to_string() }]));
        routes.push(json!({ "dst": if pod_cidr.addr().is_ipv4() { "0.0.0.0/0" } else { "::/0" } }));
    }
    let mut list = json!({
        "cniVersion": "0.4.0",
        "name": "bootwright",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": true,
                "ipMasq": false,
                "hairpinMode": true,
                "mtu": pod_mtu(facts),
                "ipam": {
                    "type": "host-local",
                    "dataDir": LEASES,
                    "ranges": ranges,
                    "routes": routes,
                },
            },
            { "type": "portmap", "capabilities": { "portMappings": true }, "snat": true },
        ],
    });
    // serde_json keeps the order of insertion if any crate of the same build asks for it.
    list.sort_all_objects();
    Ok(format!("{list:#}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::tests::facts;

    #[test]
    fn the_configuration_of_a_node_with_an_overlay() {
        insta::assert_snapshot!(conflist(&facts("10.10.3.0/24", "vxlan")).unwrap(), @r#"
        {
          "cniVersion": "0.4.0",
          "name": "bootwright",
          "plugins": [
            {
              "bridge": "cni0",
              "hairpinMode": true,
              "ipMasq": false,
              "ipam": {
                "dataDir": "/run/bootwright/cni",
                "ranges": [
                  [
                    {
                      "gateway": "10.10.3.1",
                      "subnet": "10.10.3.0/24"
                    }
                  ]
                ],
                "routes": [
                  {
                    "dst": "0.0.0.0/0"
                  }
                ],
                "type": "host-local"
              },
              "isGateway": true,
              "mtu": 1450,
              "type": "bridge"
            },
            {
              "capabilities": {
                "portMappings": true
              },
              "snat": true,
              "type": "portmap"
            }
          ]
        }
        "#);
    }

    #[test]
    fn ipv6_pods_have_an_ipv6_default_route() {
        let text = conflist(&facts("fd00:10::/64", "routes")).unwrap();
        assert!(text.contains("::/0") && text.contains("\"gateway\": \"fd00:10::1\""), "{text}");
        assert!(text.contains("\"mtu\": 1500"), "{text}");
    }

    #[test]
    fn in_a_cluster_of_both_families_a_pod_has_an_address_and_a_route_of_each() {
        let mut facts = facts("10.10.3.0/24", "vxlan");
        facts.pod_cidr = "10.10.3.0/24,fd00:10:10:3::/64".parse().ok();
        facts.address = "10.20.0.10/24,fd00:20::10/64".parse().unwrap();
        let list: serde_json::Value = serde_json::from_str(&conflist(&facts).unwrap()).unwrap();
        let bridge = &list["plugins"][0];
        assert_eq!(
            bridge["ipam"]["ranges"],
            json!([
                [{ "subnet": "10.10.3.0/24", "gateway": "10.10.3.1" }],
                [{ "subnet": "fd00:10:10:3::/64", "gateway": "fd00:10:10:3::1" }],
            ])
        );
        assert_eq!(bridge["ipam"]["routes"], json!([{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }]));
        assert_eq!(bridge["mtu"], 1430, "what VXLAN over IPv6 leaves");
    }

    #[test]
    fn pods_leave_room_for_what_the_fallback_adds() {
        let mut facts = facts("10.10.3.0/24", "routes");
        facts.layer.file.network.fallback = Some(bootwright_model::cluster::Fallback::Vxlan);
        assert_eq!(pod_mtu(&facts), 1450);
        facts.address = "fd00:20::10/64".parse().unwrap();
        assert_eq!(pod_mtu(&facts), 1430);
    }

    #[test]
    fn a_range_without_room_is_an_error() {
        assert!(conflist(&facts("10.10.3.7/32", "vxlan")).is_err());
    }
}
