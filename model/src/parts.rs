//! Profiles that are put together: a profile names parts in `parts`, and what it says itself comes last.
//!
//! Works on TOML values rather than on [`crate::profile::Profile`], as a part need not have what a profile
//! must have.

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::cluster::{ClusterFile, NetworkMode};
use crate::kubernetes;
use crate::profile::KernelFlavour;

/// The key of a profile that names its parts.
pub const PARTS: &str = "parts";
/// The key of a part that says where it applies.
pub const WHEN: &str = "when";
/// What tells the elements of a list of tables apart: services and users have it.
pub const NAME: &str = "name";
/// Lists of a service that grow, as top-level lists do; everything else of it is replaced.
const GROWING: [&str; 2] = ["after", "uses"];

/// Where a part applies. A profile names it all the same, and is without it elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// On machines that run a member of etcd: those of the role `etcd`, and in a cluster without such the control planes.
    EtcdMember,
    /// On control planes of a cluster that has more than one.
    SeveralControlPlanes,
    /// In clusters whose nodes tell the ways to their pods by BGP.
    Bgp,
    /// In images with the full kernel, by the cluster file or by the profile.
    FullKernel,
}

impl When {
    /// Whether it holds for nodes of this role in this cluster, whose profile names this kernel.
    pub fn holds(self, role: &str, file: &ClusterFile, flavour: KernelFlavour) -> bool {
        match self {
            When::EtcdMember => kubernetes::runs_etcd(role, file),
            When::SeveralControlPlanes => {
                kubernetes::is_control_plane(role) && kubernetes::control_planes(file).count() > 1
            }
            When::Bgp => file.network.mode == NetworkMode::Bgp,
            When::FullKernel => file.base.kernel.unwrap_or(flavour) == KernelFlavour::Full,
        }
    }
}

/// The whole of several layers, the first at the bottom, without the keys [`PARTS`] and [`WHEN`].
///
/// Tables are merged key by key; lists are put together in this order; a value replaces the one below. A
/// service or user whose name is there already is changed instead of added: its `after` and `uses` grow, and
/// every other key replaces.
pub fn merge(layers: impl IntoIterator<Item = Table>) -> Table {
    let mut whole = Table::new();
    for mut layer in layers {
        layer.remove(PARTS);
        layer.remove(WHEN);
        lay(&mut whole, layer);
    }
    whole
}

fn lay(below: &mut Table, above: Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => lay(below, above),
            (Some(Value::Array(below)), Value::Array(above)) => {
                above.into_iter().for_each(|element| add(below, element));
            }
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

fn add(list: &mut Vec<Value>, element: Value) {
    let name = element.get(NAME).cloned();
    let same = list.iter_mut().find(|other| name.is_some() && other.get(NAME) == name.as_ref());
    match (same, element) {
        (Some(Value::Table(below)), Value::Table(above)) => change(below, above),
        (_, element) => list.push(element),
    }
}

fn change(below: &mut Table, above: Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Value::Array(below)), Value::Array(above)) if GROWING.contains(&key.as_str()) => {
                below.extend(above);
            }
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_merged(layers: &[&str], whole: &str) {
        let parse = |text: &str| text.parse::<Table>().unwrap();
        assert_eq!(merge(layers.iter().map(|text| parse(text))), parse(whole));
    }

    #[test]
    fn lists_grow_tables_are_merged_and_values_are_replaced() {
        assert_merged(
            &[
                "role = 'a'\noverlays = ['base']\n[kernel]\nflavour = 'cloud'\nload = ['x']\n",
                "parts = ['below']\nrole = 'b'\noverlays = ['mine']\n[kernel]\nflavour = 'full'\n",
            ],
            "role = 'b'\noverlays = ['base', 'mine']\n[kernel]\nflavour = 'full'\nload = ['x']\n",
        );
    }

    #[test]
    fn a_service_of_the_same_name_is_changed() {
        assert_merged(
            &[
                "[[service]]\nname = 'kubelet'\ncommand = ['/x', '-v']\nafter = ['a']\nready = { http = 'x' }\n",
                "[[service]]\nname = 'kubelet'\ncommand = ['/y']\nafter = ['b']\nready = { tcp = 'y' }\n\n[[service]]\nname = 'new'\n",
            ],
            "[[service]]\nname = 'kubelet'\ncommand = ['/y']\nafter = ['a', 'b']\nready = { tcp = 'y' }\n\n[[service]]\nname = 'new'\n",
        );
    }
}
