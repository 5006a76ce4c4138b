//! `[cloud]` and the nodes' names in it.

use bootwright_model::cloud::is_provider_id;
use bootwright_model::cluster::ClusterFile;

use super::{duplicates, node};
use crate::cluster::text::finding::{Finding, KeyPath};

/// What a pattern may have in braces.
const PLACEHOLDERS: [&str; 3] = ["{serial}", "{uuid}", "{name}"];

pub fn check(file: &ClusterFile, findings: &mut Vec<Finding>) {
    let of_all = KeyPath::of("cloud").key("provider-id");
    let of_nodes =
        file.nodes.iter().enumerate().map(|(index, one)| (node(index, "provider-id"), &one.provider_id));
    let pattern = std::iter::once((of_all.clone(), &file.cloud.provider_id));
    for (path, id) in pattern.chain(of_nodes) {
        let Some(id) = id else { continue };
        if !file.cloud.is_external() {
            findings.push(
                Finding::new("cloud", "a provider ID is of no use without a cloud")
                    .at_value(path, "told to nobody")
                    .at_value(KeyPath::of("cloud").key("provider"), "no cloud")
                    .help("write provider = \"external\" into [cloud], or leave this out"),
            );
            continue;
        }
        let mut plain = id.clone();
        if path == of_all {
            PLACEHOLDERS.iter().for_each(|name| plain = plain.replace(name, "x"));
            if plain == *id {
                findings.push(
                    Finding::new("cloud", format!("by \"{id}\" all machines have the same name"))
                        .at_value(path.clone(), "nothing of the machine in it")
                        .help(format!("write {} where the machine's own is", PLACEHOLDERS.join(" or "))),
                );
            }
        }
        if !is_provider_id(&plain) || plain.contains(['{', '}']) {
            findings.push(
                Finding::new("cloud", format!("\"{id}\" is not a provider ID"))
                    .at_value(path, "not of the form cloud://name")
                    .help("write it as the cloud's controller manager does: \"hcloud://42\""),
            );
        }
    }
    duplicates(file.nodes.iter().map(|one| one.provider_id.as_ref()), |first, second, id| {
        findings.push(
            Finding::new("duplicate", format!("two nodes have the provider ID {id}"))
                .at_value(node(second, "provider-id"), "again")
                .at_value(node(first, "provider-id"), "first here")
                .help("each machine has one of its own"),
        );
    });
}
