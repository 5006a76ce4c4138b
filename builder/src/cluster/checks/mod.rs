//! What a cluster file means: checks over the whole of it, each a pure function from values to findings.

mod addons;
mod bgp;
mod cloud;
mod disk;
mod dns;
mod families;
mod images;
mod kubernetes;
mod link_options;
mod link_traffic;
mod links;
mod names;
mod network;
mod nodes;
mod profile;
mod ranges;
mod recognition;
mod settings;
mod state_disk;
mod unknown_workers;
mod virtual_ip;

use std::collections::BTreeMap;
use std::path::Path;

use bootwright_model::cluster::{ClusterFile, Node};
use bootwright_model::families::{Family, OfFamily, PerFamily};
use bootwright_model::kubernetes as kubernetes_model;
use bootwright_model::profile::Profile;

pub use profile::profile;

use super::text::finding::{Finding, KeyPath};

/// What the checks look at.
pub struct Context<'a> {
    /// The file.
    pub file: &'a ClusterFile,
    /// Every role that has a profile.
    pub roles: &'a [String],
    /// Profiles of the roles in use, of those that could be read.
    pub profiles: &'a BTreeMap<String, Profile>,
}

/// Everything that is wrong with the values.
pub fn all(context: &Context<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    names::check(context.file, &mut findings);
    settings::check(context.file, &mut findings);
    network::check(context.file, &mut findings);
    families::check(context.file, &mut findings);
    bgp::check(context, &mut findings);
    ranges::check(context.file, &mut findings);
    nodes::check(context, &mut findings);
    links::check(context.file, &mut findings);
    state_disk::check(context.file, &mut findings);
    unknown_workers::check(context.file, &mut findings);
    virtual_ip::check(context.file, &mut findings);
    kubernetes::check(context, &mut findings);
    images::check(context.file, &mut findings);
    addons::check(&context.file.addons, &mut findings);
    dns::check(context.file, &mut findings);
    cloud::check(context.file, &mut findings);
    findings
}

/// Files that the cluster file names and that are not there. The only check that looks at the disk.
pub fn disk(file: &ClusterFile, folder: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    disk::check(file, folder, &mut findings);
    findings
}

/// Whether a role can be the name of a file.
pub fn is_role_name(role: &str) -> bool {
    names::dns_label(role).is_ok()
}

fn is_control_plane(node: &Node) -> bool {
    kubernetes_model::is_control_plane(&node.role)
}

/// `cluster.<key>`
fn cluster(key: &str) -> KeyPath {
    KeyPath::of("cluster").key(key)
}

/// `node[<index>].<key>`
fn node(index: usize, key: &str) -> KeyPath {
    KeyPath::of("node").index(index).key(key)
}

/// `image[<index>].<key>`
fn image(index: usize, key: &str) -> KeyPath {
    KeyPath::of("image").index(index).key(key)
}

/// `addon[<index>].<key>`
fn addon(index: usize, key: &str) -> KeyPath {
    KeyPath::of("addon").index(index).key(key)
}

/// The error without the operating system's number.
pub(super) fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or folder".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

/// Each of the values that a key has, and where it stands: one that is alone at the key itself.
pub(super) fn each<T: OfFamily>(
    key: &KeyPath,
    values: &PerFamily<T>,
) -> impl Iterator<Item = (KeyPath, T)> + use<T> {
    let (key, alone) = (key.clone(), values.count() == 1);
    let place = move |index| if alone { key.clone() } else { key.index(index) };
    values.iter().enumerate().map(move |(index, value)| (place(index), value))
}

/// Where the value of a family stands, and the value.
fn of_family<T: OfFamily>(key: &KeyPath, values: &PerFamily<T>, family: Family) -> Option<(KeyPath, T)> {
    each(key, values).find(|(_, value)| value.family() == Some(family))
}

/// `IPv4`, `IPv6`, or both in their order.
fn family_names<T: OfFamily>(values: &PerFamily<T>) -> String {
    let names: Vec<String> = values.families().map(|family| family.to_string()).collect();
    match names.as_slice() {
        [one] => one.clone(),
        both => format!("dual-stack ({})", both.join(", ")),
    }
}

/// Calls `found` with the positions of the first and each later use of a value; `None`s are skipped.
fn duplicates<T: Ord>(values: impl Iterator<Item = Option<T>>, mut found: impl FnMut(usize, usize, &T)) {
    let mut first = BTreeMap::new();
    for (index, value) in values.enumerate() {
        let Some(value) = value else { continue };
        match first.get(&value) {
            Some(earlier) => found(*earlier, index, &value),
            None => {
                first.insert(value, index);
            }
        }
    }
}
