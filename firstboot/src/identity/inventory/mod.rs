//! The baked inventory: the nodes of the cluster file.

use bootwright_model::baked::ClusterLayer;
use bootwright_model::cluster::Node;
use bootwright_model::seed::Seed;

use super::{Claim, IdentityError};

/// The entries that fit this machine: by the name in the seed, by a MAC address, else the only node of
/// this image's role. Two different entries are two claims; putting them together finds the conflict.
pub fn claims(
    layer: &ClusterLayer,
    seed: Option<&Seed>,
    macs: &[String],
) -> Result<Vec<Claim>, IdentityError> {
    let nodes = &layer.file.nodes;
    let has_mac = |mac: &str| macs.iter().any(|ours| ours.eq_ignore_ascii_case(mac));
    let mut found: Vec<(&Node, String)> = Vec::new();

    let seeded = seed.and_then(|seed| seed.name.as_deref());
    if let Some(node) = nodes.iter().find(|node| Some(node.name.as_str()) == seeded) {
        found.push((node, format!("the inventory's node {} (named by the seed)", node.name)));
    }
    for node in nodes {
        if let Some(mac) = node.mac.as_deref().filter(|mac| has_mac(mac))
            && found.iter().all(|(known, _)| known.name != node.name)
        {
            found.push((node, format!("the inventory's node {} (link {mac})", node.name)));
        }
    }
    // A seed with a name of its own is a machine that the inventory does not know.
    if found.is_empty() && seeded.is_none() {
        let mut of_role = nodes.iter().filter(|node| node.role == layer.role);
        if let (Some(node), None) = (of_role.next(), of_role.next()) {
            found.push((node, format!("the inventory's node {} (the only one of its role)", node.name)));
        }
    }
    found.into_iter().map(|(node, source)| claim(layer, node, source)).collect()
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
    Ok(Claim { source, says })
}
