//! The baked inventory: the nodes of the cluster file.

use bootwright_model::baked::ClusterLayer;
use bootwright_model::cluster::Node;
use bootwright_model::seed::Seed;

use super::{Claim, IdentityError, Recognised};

/// The entries that fit this machine: by the name that a source gives, by a MAC address, the UUID or the serial number,
/// else by its host name, else the only node of this image's role, unless strangers may join. Two different entries are
/// two claims; putting them together finds the conflict.
pub fn claims(layer: &ClusterLayer, said: &[Claim], by: &Recognised) -> Result<Vec<Claim>, IdentityError> {
    let nodes = &layer.file.nodes;
    let named = said.iter().find_map(|claim| Some((claim.says.name.as_deref()?, claim.source.as_str())));
    let mut found: Vec<(&Node, String)> = Vec::new();
    if let Some((name, source)) = named
        && let Some(node) = nodes.iter().find(|node| node.name == name)
    {
        found.push((node, format!("named by {source}")));
    }
    for node in nodes {
        if let Some(sign) = sign(node, by)
            && found.iter().all(|(known, _)| known.name != node.name)
        {
            found.push((node, sign));
        }
    }
    // A machine that a source has a name of its own for is one that the inventory does not know.
    if found.is_empty() && named.is_none() {
        let called = |node: &&Node| said.iter().find(|claim| claim.host_name.as_ref() == Some(&node.name));
        let called = nodes.iter().find_map(|node| Some((node, called(&node)?)));
        found.extend(called.map(|(node, claim)| (node, format!("called so by {}", claim.source))));
    }
    // Where any machine may join, the next stranger would be that node too.
    if found.is_empty() && named.is_none() && !layer.admits_unknown() {
        let mut of_role = nodes.iter().filter(|node| node.role == layer.role);
        if let (Some(node), None) = (of_role.next(), of_role.next()) {
            found.push((node, "the only one of its role".to_owned()));
        }
    }
    let claim = |(node, why): (&Node, String)| {
        let source = format!("the inventory's node {} ({why})", node.name);
        same_machine(node, &source, by)?;
        claim(layer, node, source)
    };
    found.into_iter().map(claim).collect()
}

/// What of this machine the entry names, a phrase.
fn sign(node: &Node, by: &Recognised) -> Option<String> {
    let has_mac = |mac: &&str| by.cards.iter().any(|ours| ours.mac.eq_ignore_ascii_case(mac));
    let same = |ours: &Option<String>, theirs: &Option<String>| match (ours, theirs) {
        (Some(ours), Some(theirs)) => ours.eq_ignore_ascii_case(theirs),
        _ => false,
    };
    if let Some(mac) = node.mac.as_deref().filter(has_mac) {
        return Some(format!("link {mac}"));
    }
    if same(&by.firmware.uuid, &node.uuid) {
        return node.uuid.as_ref().map(|uuid| format!("UUID {uuid}"));
    }
    let serial = node.serial.as_ref().filter(|_| same(&by.firmware.serial, &node.serial));
    serial.map(|serial| format!("serial number {serial}"))
}

/// An entry with the UUID or serial number of another machine is not this machine's, whatever led to it. Another MAC is
/// found when the link is looked for: cards are exchanged, and it is said there which ones the machine has.
fn same_machine(node: &Node, source: &str, by: &Recognised) -> Result<(), IdentityError> {
    let pairs = [("uuid", &node.uuid, &by.firmware.uuid), ("serial", &node.serial, &by.firmware.serial)];
    for (field, theirs, ours) in pairs {
        if let (Some(theirs), Some(ours)) = (theirs, ours)
            && !theirs.eq_ignore_ascii_case(ours)
        {
            return Err(IdentityError::Conflict {
                field,
                ours: ours.clone(),
                our_source: "this machine's firmware".to_owned(),
                theirs: theirs.clone(),
                their_source: source.to_owned(),
            });
        }
    }
    Ok(())
}

fn claim(layer: &ClusterLayer, node: &Node, source: String) -> Result<Claim, IdentityError> {
    if node.role != layer.role {
        return Err(IdentityError::Role {
            source_name: source,
            name: node.name.clone(),
            role: node.role.clone(),
            ours: layer.role.clone(),
        });
    }
    let says = Seed {
        name: Some(node.name.clone()),
        address: Some(node.address),
        gateway: node.gateway,
        mac: node.mac.clone(),
        pod_cidr: node.pod_cidr,
        provider_id: node.provider_id.clone(),
        links: node.links.clone(),
        ..Seed::default()
    };
    Ok(Claim::new(source, says))
}
