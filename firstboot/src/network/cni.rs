//! The CNI network of this node's pods (CNI specification 0.4.0, network configuration lists).

use std::net::IpAddr;

use bootwright_model::addresses;
use bootwright_model::node::NodeFacts;
use serde_json::json;

/// Where containerd looks for it; it takes the first by name.
pub const CONFLIST: &str = "/etc/cni/net.d/10-bootwright.conflist";
/// Leases of host-local. A tmpfs, so that a restart forgets the leases of pods that it ended.
pub const LEASES: &str = "/run/bootwright/cni";

/// Outer headers of VXLAN over IPv4 and IPv6, bytes (RFC 7348, section 5).
const VXLAN_OVER_IPV4_BYTES: u16 = 50;
const VXLAN_OVER_IPV6_BYTES: u16 = 70;

/// MTU of pods, bytes: with an overlay, what is left of the underlay's. Also on a cluster of one node,
/// so that it need not change when nodes are added, and also to peers that are reached by routes: a pod
/// has one link for all of them.
pub fn pod_mtu(facts: &NodeFacts) -> u16 {
    let network = &facts.layer.file.network;
    let headers = match (network.has_overlay(), facts.address.addr()) {
        (true, IpAddr::V4(_)) => VXLAN_OVER_IPV4_BYTES,
        (true, IpAddr::V6(_)) => VXLAN_OVER_IPV6_BYTES,
        (false, _) => 0,
    };
    network.mtu.saturating_sub(headers)
}

/// The configuration list. The error is that the pod CIDR has no address for the bridge.
///
/// No `ipMasq`: the bridge plugin exempts only this node's pods, so traffic to pods of other nodes
/// would be rewritten; see [`super::masquerade`].
pub fn conflist(facts: &NodeFacts) -> Result<String, addresses::AddressError> {
    let gateway = addresses::pod_gateway(facts.pod_cidr)?;
    let everywhere = if facts.pod_cidr.addr().is_ipv4() { "0.0.0.0/0" } else { "::/0" };
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
                    "ranges": [[{ "subnet": facts.pod_cidr.to_string(), "gateway": gateway.to_string() }]],
                    "routes": [{ "dst": everywhere }],
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
