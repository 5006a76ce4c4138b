//! Addons: manifests that the cluster file and the profiles name, read at build time and baked as objects; and cluster
//! DNS, which is one of our own.

mod manifest;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bootwright_model::addons::{Addon, BakedAddon};
use bootwright_model::cluster::ClusterFile;
use bootwright_model::kubernetes::{dns, is_control_plane};
use bootwright_model::profile::Profile;

use super::text::finding::Finding;
use super::text::render::Findings;

/// Largest manifest that is read. The custom resource definitions of a large operator are a few megabytes.
const MOST_BYTES: u64 = 16 << 20;

/// What the manifests say, and everything that is wrong with them.
#[derive(Debug, Default)]
pub struct Read {
    /// By role, of those that run an API server.
    pub by_role: BTreeMap<String, Vec<BakedAddon>>,
    /// File by file.
    pub bad: Vec<Findings>,
}

/// Reads the manifests of every role: cluster DNS, the profile's addons, then those of the cluster file, which take the place of
/// the profile's of the same name.
pub fn read(file: &ClusterFile, profiles: &BTreeMap<String, Profile>, folder: &Path) -> Read {
    let mut read = Read::default();
    let told = file.addons.iter().flat_map(|addon| &addon.manifests).map(String::as_str).collect();
    let mut manifests = Manifests { folder, told, seen: BTreeMap::new(), bad: Vec::new() };
    // What keeps it from being rendered, version and address range, has checks of its own.
    let dns = dns::addon(file).ok().flatten();
    for (role, profile) in profiles.iter().filter(|(role, _)| is_control_plane(role)) {
        let own = |addon: &&Addon| file.addons.iter().all(|other| other.name != addon.name);
        let addons = profile.addons.iter().filter(own).chain(&file.addons);
        let baked = addons.map(|addon| BakedAddon {
            name: addon.name.clone(),
            objects: addon.manifests.iter().flat_map(|path| manifests.objects(path)).collect(),
        });
        read.by_role.insert(role.clone(), dns.iter().cloned().chain(baked).collect());
    }
    read.bad = manifests.bad;
    read
}

/// Manifests by their names, so that one that several roles have is read, and complained about, once.
struct Manifests<'a> {
    folder: &'a Path,
    /// Those that the cluster file names: if they are not there, that is said at their place in it.
    told: BTreeSet<&'a str>,
    seen: BTreeMap<String, Vec<serde_json::Value>>,
    bad: Vec<Findings>,
}

impl Manifests<'_> {
    fn objects(&mut self, name: &str) -> Vec<serde_json::Value> {
        if let Some(objects) = self.seen.get(name) {
            return objects.clone();
        }
        let path = self.folder.join(name);
        if self.told.contains(name) && !path.is_file() {
            return Vec::new();
        }
        let (text, result) = match text(&path) {
            Ok(text) => {
                let result = manifest::parse(&text);
                (text, result)
            }
            Err(finding) => (String::new(), Err(vec![finding])),
        };
        let objects = result.unwrap_or_else(|findings| {
            self.bad.push(Findings::locate(&path, shown(text), findings, |_, _| 0..0));
            Vec::new()
        });
        self.seen.insert(name.to_owned(), objects.clone());
        objects
    }
}

fn text(path: &Path) -> Result<String, Finding> {
    let refused = |why: String| {
        Finding::new("manifest", format!("manifest {}: {why}", path.display()))
            .help("paths are relative to the cluster file; name a YAML file of Kubernetes objects")
    };
    let found = std::fs::metadata(path).map_err(|error| refused(super::checks::plain(&error)))?;
    if !found.is_file() {
        return Err(refused("it is not a regular file".to_owned()));
    }
    if found.len() > MOST_BYTES {
        return Err(refused(format!("{} bytes are too many for a manifest", found.len())));
    }
    std::fs::read_to_string(path).map_err(|error| refused(super::checks::plain(&error)))
}

/// The text as messages show it: without a word of a file that may hold a Secret, as messages end up in logs. Places
/// stay what they are.
fn shown(text: String) -> String {
    if !text.contains(manifest::SECRET) {
        return text;
    }
    text.chars().flat_map(|c| if c == '\n' { vec!['\n'] } else { vec!['*'; c.len_utf8()] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(addons: &str) -> Profile {
        let text = format!(
            "role = 'x'\ndescription = 'x'\nkubernetes = ['1.20']\n[packages]\ninstall = []\n[kernel]\n\
             flavour = 'cloud'\nmodules = []\ninitramfs-modules = []\n{addons}"
        );
        toml::from_str(&text).unwrap()
    }

    fn read_in(folder: &Path, of_profile: &str, of_file: &str) -> Read {
        let text = format!(
            "[cluster]\nname = 'x'\nendpoint = '10.0.0.1'\npod-cidr = '10.1.0.0/16'\nservice-cidr = '10.2.0.0/16'\n\
             [kubernetes]\nversion = '1.20.2'\n{of_file}"
        );
        let profiles = ["control-plane", "worker"].map(|role| (role.to_owned(), profile(of_profile)));
        read(&toml::from_str(&text).unwrap(), &profiles.into(), folder)
    }

    fn addon(name: &str, manifest: &str) -> String {
        format!("[[addon]]\nname = '{name}'\nmanifests = ['{manifest}']\n")
    }

    #[test]
    fn the_cluster_file_replaces_what_the_profile_has_and_no_worker_gets_any() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            let object = format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n");
            std::fs::write(folder.path().join(name), object).unwrap();
        }
        let of_profile = addon("one", "a") + &addon("two", "b");
        let read = read_in(folder.path(), &of_profile, &addon("one", "c"));
        assert!(read.bad.is_empty());
        assert_eq!(read.by_role.keys().collect::<Vec<_>>(), ["control-plane"]);
        let baked = &read.by_role["control-plane"];
        let names: Vec<_> =
            baked.iter().map(|addon| (&*addon.name, &addon.objects[0]["metadata"]["name"])).collect();
        assert_eq!(names, [("two", &"b".into()), ("one", &"c".into())]);
    }

    #[test]
    fn what_may_be_a_secret_is_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let text = "kind: Secret\napiVersion: v1\nstringData: { password: hunter2 }\n---\nkind: [hunter2\n";
        std::fs::write(folder.path().join("secret.yaml"), text).unwrap();
        let bad = read_in(folder.path(), "", &addon("one", "secret.yaml")).bad;
        let all = bad.iter().map(Findings::plain).collect::<String>()
            + &serde_json::to_string(&bad[0].json()).unwrap();
        assert!(bad[0].errors() == 2 && !all.contains("hunter2"), "{all}");
    }

    #[test]
    fn a_manifest_that_is_not_there_is_said_once() {
        let folder = tempfile::tempdir().unwrap();
        let bad = read_in(folder.path(), &(addon("one", "lost.yaml") + &addon("two", "lost.yaml")), "").bad;
        assert_eq!(bad.len(), 1);
        assert!(bad[0].plain().contains("lost.yaml: no such file or folder"), "{}", bad[0].plain());
        assert!(
            read_in(folder.path(), "", &addon("two", "lost.yaml")).bad.is_empty(),
            "it is told elsewhere"
        );
    }
}
