//! `[[addon]]` of a cluster file or a profile: names, and that each has manifests.

use bootwright_model::addons::Addon;
use bootwright_model::kubernetes::dns;

use super::names::label;
use super::{addon, duplicates};
use crate::cluster::text::finding::Finding;

pub fn check(addons: &[Addon], findings: &mut Vec<Finding>) {
    for (index, one) in addons.iter().enumerate() {
        label(addon(index, "name"), "addon name", &one.name, findings);
        if one.name == dns::ADDON {
            findings.push(
                Finding::new("addon", format!("the name \"{}\" is that of cluster DNS", one.name))
                    .at_value(addon(index, "name"), "taken")
                    .help("choose another name; for a CoreDNS with a manifest of your own leave `[dns]` out"),
            );
        }
        if one.manifests.is_empty() {
            findings.push(
                Finding::new("addon", format!("addon \"{}\" has no manifests", one.name))
                    .at_value(addon(index, "manifests"), "empty")
                    .help("name at least one YAML file of Kubernetes objects"),
            );
        }
        duplicates(one.manifests.iter().map(Some), |first, second, manifest| {
            findings.push(
                Finding::new("duplicate", format!("manifest {manifest} is written twice"))
                    .at_value(addon(index, "manifests").index(second), "again")
                    .at_value(addon(index, "manifests").index(first), "first here")
                    .help("leave one of them out"),
            );
        });
    }
    duplicates(addons.iter().map(|one| Some(&one.name)), |first, second, name| {
        findings.push(
            Finding::new("duplicate", format!("two addons have the name \"{name}\""))
                .at_value(addon(second, "name"), "again")
                .at_value(addon(first, "name"), "first here")
                .help("give each a name of its own"),
        );
    });
}
