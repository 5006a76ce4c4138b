//! What a person or a cloud wrote, checked as far as it can be by itself; the inventory was checked by the builder.

use bootwright_model::baked::ClusterLayer;
use bootwright_model::clock::is_server;
use bootwright_model::cloud::is_provider_id;
use bootwright_model::families::{Family, PerFamily};
use bootwright_model::host_address::{reserved_in, unusable};
use bootwright_model::kubernetes::{has_families, is_control_plane, is_node, runs_etcd};
use bootwright_model::links::Link;
use ipnet::IpNet;

use super::{Claim, Identity, IdentityError};

/// Longest name of a device, bytes: `IFNAMSIZ` without the zero (linux/if.h).
const DEVICE_BYTES: usize = 15;

/// Whether the values of a claim can be, in an image of this role. `families` are the cluster's.
///
/// # Errors
/// One cannot: the source, the field, and why.
pub fn check(claim: &Claim, role: &str, families: &PerFamily<IpNet>) -> Result<(), IdentityError> {
    let invalid = |what: String| Err(IdentityError::Invalid { source_name: claim.source.clone(), what });
    let says = &claim.says;
    if let Some(name) = &says.name
        && !is_label(name)
    {
        return invalid(format!(
            "name `{name}`: a name has lower-case letters, digits and inner dashes, at most 63"
        ));
    }
    if let Some(mac) = &says.mac
        && !is_mac(mac)
    {
        return invalid(format!("mac `{mac}`: six pairs of hexadecimal digits with colons are expected"));
    }
    if let Some(id) = &says.provider_id
        && !is_provider_id(id)
    {
        return invalid(format!("provider-id `{id}`: a cloud's scheme is expected, as in hcloud://42"));
    }
    if let Some(ranges) = says.pod_cidr.filter(|_| !is_node(role)) {
        return invalid(format!("pod-cidr {ranges:#}: a machine of the role {role} runs no pods"));
    }
    if let Some(server) = says.clock.servers.iter().flatten().find(|server| !is_server(server)) {
        return invalid(format!(
            "time server `{server}`: a host name in lower case or an address is expected, without scheme or port"
        ));
    }
    for (key, values) in [("address", says.address), ("pod-cidr", says.pod_cidr)] {
        // What is missing may be lent.
        let is_part = |values: &PerFamily<IpNet>| {
            key == "address"
                && is_lendable(role)
                && values.families().all(|family| families.of(family).is_some())
        };
        let wrong = |values: &PerFamily<IpNet>| !has_families(role, values, families) && !is_part(values);
        if let Some(values) = values.filter(wrong) {
            let wanted: Vec<String> = families.families().map(|family| family.to_string()).collect();
            let wanted = if is_node(role) {
                format!("a node has one {} value", wanted.join(" and one "))
            } else {
                format!("a machine of the role {role} has one {} value", wanted[0])
            };
            return invalid(format!("{key} {values:#}: in this cluster {wanted}"));
        }
    }
    for address in says.address.iter().flat_map(PerFamily::iter) {
        if let Some(why) = unusable(address.addr()) {
            return invalid(format!("address {address} is {why}, and not a machine's"));
        }
        if let Some(name) = reserved_in(address, address.addr()) {
            return invalid(format!(
                "address {address} is the {name} address of its network, and not a machine's"
            ));
        }
    }
    match links(&says.links) {
        Ok(()) => Ok(()),
        Err(what) => invalid(what),
    }
}

/// What a link is made of, and whether there is a way to make it, is found when the network is planned
/// (`network/links/plan.rs`).
fn links(links: &[Link]) -> Result<(), String> {
    for link in links {
        let name = &link.name;
        let fits = name.bytes().all(|byte| byte.is_ascii_graphic() && !b"/:".contains(&byte));
        if !fits || !(1..=DEVICE_BYTES).contains(&name.len()) || [".", ".."].contains(&name.as_str()) {
            return Err(format!(
                "link `{name}`: a name has 1 to {DEVICE_BYTES} letters, digits and signs, no space, / or :"
            ));
        }
        if let Some(mac) = link.mac.as_ref().filter(|mac| !is_mac(mac)) {
            return Err(format!(
                "link {name}: mac `{mac}`: six pairs of hexadecimal digits with colons are expected"
            ));
        }
        if let Some(vlan) = link.vlan.as_ref().filter(|vlan| !(1..=4094).contains(&vlan.id)) {
            return Err(format!("link {name}: VLAN {}: 1 to 4094 is expected", vlan.id));
        }
    }
    Ok(())
}

/// Whether machines of a role may have an address that nobody wrote down. etcd on other machines than control planes has
/// a role of its own, which is no node's.
fn is_lendable(role: &str) -> bool {
    is_node(role) && !is_control_plane(role)
}

/// The families that this node needs an address of and has none.
pub fn missing_families(address: Option<&PerFamily<IpNet>>, layer: &ClusterLayer) -> Vec<Family> {
    let has = |family| address.is_some_and(|address| address.of(family).is_some());
    layer.file.cluster.pod_cidr.families().filter(|family| !has(*family)).collect()
}

/// Whether a DHCP server or a router may give this node the addresses of these families.
///
/// # Errors
/// It may not: why.
pub fn lendable(identity: &Identity, layer: &ClusterLayer, missing: &[Family]) -> Result<(), &'static str> {
    if !is_lendable(&layer.role) || runs_etcd(&layer.role, &layer.file) {
        // It stands in the certificates and flags of every machine.
        return Err("the address of a control plane or of etcd is a fixed one");
    }
    // A card that is described by no more than that it is there is as good as not described.
    let described = match identity.links.as_slice() {
        [] => false,
        [card] => !card.is_plain_card(),
        _ => true,
    };
    // If one is known the other is asked for on the same link.
    let asks = |by: fn(&Link) -> bool| identity.address.is_some() || identity.links.iter().any(by);
    if described && missing.contains(&Family::V4) && !asks(|link| link.dhcp4) {
        return Err("its links are described, and none of them asks for one by dhcp4");
    }
    if described && missing == [Family::V6] && !asks(|link| link.dhcp6 || link.accept_ra == Some(true)) {
        return Err("its links are described, and none of them asks for one by dhcp6 or accept-ra");
    }
    if identity.gateway.iter().flat_map(PerFamily::families).any(|family| missing.contains(&family)) {
        return Err("there is a gateway without an address, and a lease has its own");
    }
    let refuses = |card: &Link| card.accept_ra == Some(false);
    if missing.contains(&Family::V6) && !identity.links.is_empty() && identity.links.iter().all(refuses) {
        return Err(
            "its links are described with accept-ra = false, and without router advertisements there is no IPv6 \
             address and no way to other networks",
        );
    }
    Ok(())
}

/// A label of RFC 1123.
fn is_label(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn is_mac(text: &str) -> bool {
    let pairs: Vec<&str> = text.split(':').collect();
    pairs.len() == 6
        && pairs.iter().all(|pair| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use bootwright_model::seed::Seed;

    use super::*;

    fn checked(text: &str) -> Result<(), String> {
        let says: Seed = toml::from_str(text).unwrap();
        let claim = Claim::new("the test", says);
        check(&claim, "worker", &"10.10.0.0/16".parse().unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn names_are_labels_of_rfc_1123() {
        for good in ["a", "cp1", "0-a", &"a".repeat(63)] {
            assert_eq!(checked(&format!("name = \"{good}\"")), Ok(()), "{good}");
        }
        for bad in ["", "Cp1", "cp_1", "-cp", "cp-", "cp1.example", "c p", "ü", &"a".repeat(64)] {
            assert!(checked(&format!("name = \"{bad}\"")).is_err(), "{bad}");
        }
    }

    #[test]
    fn links_have_names_of_devices() {
        assert_eq!(checked("[[link]]\nname = \"eth0\"\nvlan = { id = 4094, link = \"bond0\" }"), Ok(()));
        let bad = [
            "name = \"a link of many letters\"",
            "name = \"\"",
            "name = \"a/b\"",
            "name = \"a\"\nmac = \"5\"",
            "name = \"a\"\nvlan = { id = 0, link = \"b\" }",
        ];
        let lines = bad.map(|text| checked(&format!("[[link]]\n{text}")).unwrap_err());
        insta::assert_snapshot!(lines.join("\n"), @r"
        the test: link `a link of many letters`: a name has 1 to 15 letters, digits and signs, no space, / or :
        the test: link ``: a name has 1 to 15 letters, digits and signs, no space, / or :
        the test: link `a/b`: a name has 1 to 15 letters, digits and signs, no space, / or :
        the test: link a: mac `5`: six pairs of hexadecimal digits with colons are expected
        the test: link a: VLAN 0: 1 to 4094 is expected
        ");
    }
}
