//! Addresses of machines on their links: which cannot be one, and which gateways go with them. One rule for the cluster
//! file, which the builder checks, and for the seed, which first boot does.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::families::{Family, PerFamily};

/// Why no machine can have this address.
pub fn unusable(address: IpAddr) -> Option<&'static str> {
    match address {
        _ if address.is_unspecified() => Some("the unspecified address"),
        _ if address.is_loopback() => Some("a loopback address"),
        _ if address.is_multicast() => Some("a multicast address"),
        _ if is_link_local(address) => Some("a link-local address"),
        IpAddr::V4(v4) if v4.is_broadcast() => Some("the broadcast address"),
        _ => None,
    }
}

/// Whether `address` is the network or broadcast address of the network around `cidr`, by name. Networks of one
/// or two addresses have neither (RFC 3021); IPv6's first is for any router (RFC 4291, section 2.6.1).
pub fn reserved_in(cidr: IpNet, address: IpAddr) -> Option<&'static str> {
    let network = cidr.trunc();
    if network.max_prefix_len() - network.prefix_len() < 2 {
        return None;
    }
    match network {
        IpNet::V4(_) if address == network.broadcast() => Some("broadcast"),
        IpNet::V4(_) if address == network.network() => Some("network"),
        IpNet::V6(_) if address == network.network() => Some("any-router"),
        _ => None,
    }
}

/// Why a machine cannot have a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GatewayFault {
    /// It has no address of the gateway's family.
    #[error("is {0}, and the machine has no address of that family")]
    Family(Family),
    /// It would need a gateway to reach the gateway.
    #[error("is outside the machine's network {0}")]
    Outside(IpNet),
    /// They are the same.
    #[error("is the machine's own address")]
    Itself,
    /// It is nobody's.
    #[error("is the {name} address of {network}")]
    Reserved {
        /// `network`, `broadcast` or `any-router`.
        name: &'static str,
        /// The machine's network.
        network: IpNet,
    },
}

/// Whether a machine with these addresses can have this gateway. A link-local one is in every network: a router announces
/// itself by its link-local address (RFC 4861, section 6.1.2).
pub fn check_gateway(addresses: &PerFamily<IpNet>, gateway: IpAddr) -> Result<(), GatewayFault> {
    let family = Family::of(gateway);
    let address = addresses.of(family).ok_or(GatewayFault::Family(family))?;
    let network = address.trunc();
    let is_neighbour = network.contains(&gateway) || gateway.is_ipv6() && is_link_local(gateway);
    if !is_neighbour {
        return Err(GatewayFault::Outside(network));
    }
    if gateway == address.addr() {
        return Err(GatewayFault::Itself);
    }
    reserved_in(network, gateway).map_or(Ok(()), |name| Err(GatewayFault::Reserved { name, network }))
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_and_broadcast_addresses() {
        let reserved = |text: &str| {
            let cidr: IpNet = text.parse().unwrap();
            reserved_in(cidr, cidr.addr())
        };
        assert_eq!(reserved("10.0.2.0/24"), Some("network"));
        assert_eq!(reserved("10.0.2.255/24"), Some("broadcast"));
        assert_eq!(reserved("10.0.2.15/24"), None);
        assert_eq!(reserved("10.0.2.0/31"), None);
        assert_eq!(reserved("10.0.2.0/32"), None);
        assert_eq!(reserved("fd00::/64"), Some("any-router"));
        assert_eq!(reserved("fd00::ffff:ffff:ffff:ffff/64"), None);
    }

    #[test]
    fn gateways() {
        let checked = |addresses: &str, gateway: &str| {
            let result = check_gateway(&addresses.parse().unwrap(), gateway.parse().unwrap());
            result.err().map(|fault| fault.to_string()).unwrap_or_default()
        };
        for (addresses, gateway, fault) in [
            ("10.0.2.15/24", "10.0.2.2", ""),
            ("10.0.2.15/24,fd00::15/64", "fd00::1", ""),
            ("fd00::15/64", "fe80::1", ""),
            ("10.0.2.15/31", "10.0.2.14", ""),
            ("10.0.2.15/24", "fe80::1", "is IPv6, and the machine has no address of that family"),
            ("10.0.2.15/24", "169.254.0.1", "is outside the machine's network 10.0.2.0/24"),
            ("10.0.2.15/24", "10.9.9.1", "is outside the machine's network 10.0.2.0/24"),
            ("10.0.2.15/24", "10.0.2.15", "is the machine's own address"),
            ("10.0.2.15/24", "10.0.2.255", "is the broadcast address of 10.0.2.0/24"),
            ("fd00::15/64", "fd00::", "is the any-router address of fd00::/64"),
        ] {
            assert_eq!(checked(addresses, gateway), fault, "{gateway} of {addresses}");
        }
    }
}
