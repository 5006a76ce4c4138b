//! Role profiles: the ones that come with the program, and the ones that replace them.

mod layers;

use std::path::{Path, PathBuf};

use bootwright_model::cluster::ClusterFile;
use bootwright_model::parts::PARTS;
use bootwright_model::profile::Profile;
use include_dir::{Dir, include_dir};

use super::checks;
use super::text::render::Findings;
use super::text::{self, Reading};

static EMBEDDED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../profiles");

/// Where profiles come from.
#[derive(Debug, Clone)]
pub struct ProfileStore {
    /// Folders in the order they are asked; the embedded profiles come last.
    folders: Vec<PathBuf>,
}

/// Why a profile cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// There is no such role.
    #[error("there is no profile for role \"{role}\"; there are {known}")]
    Unknown {
        /// The role.
        role: String,
        /// Those there are.
        known: String,
    },
    /// A profile cannot be read.
    #[error("cannot read the profile {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A profile is not what it should be.
    #[error("{0}")]
    Invalid(Findings),
}

impl ProfileStore {
    /// Profiles of `explicit`, then of `profiles/` beside the cluster file, then the embedded ones.
    pub fn new(cluster_folder: &Path, explicit: Option<&Path>) -> Self {
        let mut folders: Vec<PathBuf> = explicit.map(Path::to_owned).into_iter().collect();
        folders.push(cluster_folder.join("profiles"));
        ProfileStore { folders }
    }

    /// Names of all roles that have a profile, sorted.
    pub fn roles(&self) -> Vec<String> {
        self.names("")
    }

    /// Names of all parts of profiles, sorted.
    fn parts(&self) -> Vec<String> {
        self.names(PARTS)
    }

    /// Names of the files `<name>.toml` in a folder of every place.
    fn names(&self, below: &str) -> Vec<String> {
        let folders = self.folders.iter().filter_map(|folder| std::fs::read_dir(folder.join(below)).ok());
        let mut paths: Vec<PathBuf> = folders.flatten().flatten().map(|entry| entry.path()).collect();
        let embedded = if below.is_empty() { Some(&EMBEDDED) } else { EMBEDDED.get_dir(below) };
        paths.extend(embedded.into_iter().flat_map(Dir::files).map(|file| file.path().to_owned()));
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
        let mut names: Vec<String> =
            paths.iter().filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
        names.sort();
        names.dedup();
        names
    }

    /// The profile of `role` in a cluster, put together from those of its parts that apply there, and checked.
    pub fn load(&self, role: &str, file: &ClusterFile) -> Result<Profile, ProfileError> {
        let Some((path, text)) = self.read(&format!("{role}.toml"), role)? else {
            return Err(ProfileError::Unknown { role: role.to_owned(), known: self.roles().join(", ") });
        };
        if layers::has_parts(&text) {
            return layers::load(self, role, file, &path, text);
        }
        let mut reading: Reading<Profile> = text::read(text);
        if let Some(profile) = &reading.value {
            let findings = checks::profile(profile, role);
            reading.add(findings);
        }
        let value = reading.value.take();
        let findings = reading.finish(&path);
        match value {
            Some(profile) if !findings.has_errors() => Ok(profile),
            _ => Err(ProfileError::Invalid(findings)),
        }
    }

    /// The first file of this path below the folders, or the embedded one. `name` is the part of the path that
    /// a person wrote: one that is a path itself must not be able to leave the folder.
    fn read(&self, below: &str, name: &str) -> Result<Option<(PathBuf, String)>, ProfileError> {
        if !super::checks::is_role_name(name) {
            return Ok(None);
        }
        for folder in &self.folders {
            let path = folder.join(below);
            match std::fs::read_to_string(&path) {
                Ok(text) => return Ok(Some((path, text))),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(ProfileError::Read { path, source }),
            }
        }
        let embedded = EMBEDDED.get_file(below).and_then(include_dir::File::contents_utf8);
        Ok(embedded.map(|text| (Path::new("profiles").join(below), text.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use bootwright_model::cluster::{Network, NetworkMode, Node};

    use super::*;

    fn cluster() -> ClusterFile {
        toml::from_str(include_str!("../../../examples/all-in-one.toml")).unwrap()
    }

    #[test]
    fn a_part_is_left_out_where_it_does_not_apply() {
        let folder = tempfile::tempdir().unwrap();
        let store = ProfileStore::new(folder.path(), None);
        let mut file = cluster();
        let has = |file: &ClusterFile| {
            let profile = store.load("control-plane", file).unwrap();
            let server = profile.services.iter().find(|service| service.name == "kube-apiserver").unwrap();
            let parts = [
                profile.services.iter().any(|service| service.name == "etcd"),
                profile.packages.install.contains(&"etcd-server".to_owned()),
                server.after.contains(&"etcd-promote".to_owned()),
            ];
            assert!(profile.when.is_none());
            parts
        };
        assert_eq!(has(&file), [true; 3]);
        let etcd = Node { name: "e1".to_owned(), role: "etcd".to_owned(), ..file.nodes[0].clone() };
        file.nodes.push(etcd);
        assert_eq!(has(&file), [false; 3]);

        // A machine of etcd has that, the clock, its links, and nothing of a node's.
        let profile = store.load("etcd", &file).unwrap();
        let mut services: Vec<&str> = profile.services.iter().map(|service| service.name.as_str()).collect();
        services.sort_unstable();
        assert_eq!(services, ["chrony", "dhcp", "dhcp6", "etcd", "etcd-promote", "links"]);
        assert_eq!(profile.binaries, [] as [&str; 0]);
        assert!(!profile.packages.install.iter().any(|package| package == "containerd" || package == "runc"));
        assert!(!profile.sysctl.keys().any(|key| key.starts_with("net.")));
    }

    #[test]
    fn bird_is_in_the_images_of_one_mode_only() {
        let store = ProfileStore::new(Path::new("/nowhere"), None);
        let mut file = cluster();
        let has_bird = |file: &ClusterFile, role: &str| {
            let profile = store.load(role, file).unwrap();
            let service = profile.services.iter().any(|service| service.name == "bird");
            assert_eq!(profile.packages.install.contains(&"bird2".to_owned()), service);
            service
        };
        for mode in [NetworkMode::Vxlan, NetworkMode::Routes, NetworkMode::Cloud, NetworkMode::None] {
            file.network.mode = mode;
            assert!(!store.roles().iter().any(|role| has_bird(&file, role)), "{mode:?}");
        }
        file.network.mode = NetworkMode::Bgp;
        assert_eq!(
            ["control-plane", "worker", "etcd"].map(|role| has_bird(&file, role)),
            [true, true, false]
        );
    }

    #[test]
    fn every_embedded_profile_is_sound() {
        let folder = tempfile::tempdir().unwrap();
        let store = ProfileStore::new(folder.path(), None);
        let roles = store.roles();
        assert!(!roles.is_empty());
        let with_bird =
            ClusterFile { network: Network { mode: NetworkMode::Bgp, ..Network::default() }, ..cluster() };
        for (role, file) in roles.iter().flat_map(|role| [(role, cluster()), (role, with_bird.clone())]) {
            if let Err(ProfileError::Invalid(findings)) = store.load(role, &file) {
                panic!("{}", findings.plain());
            }
        }
    }

    #[test]
    fn a_role_cannot_leave_the_folder_of_profiles() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret.toml"), "role = 'x'").unwrap();
        let store = ProfileStore::new(folder.path(), None);
        for role in ["../secret", "/etc/passwd", "", "."] {
            assert!(matches!(store.load(role, &cluster()), Err(ProfileError::Unknown { .. })), "{role}");
        }
    }

    #[test]
    fn a_profile_beside_the_cluster_file_replaces_and_is_checked() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("profiles")).unwrap();
        let text = "role = \"edge\"\ndescription = \"x\"\nkubernetes = [\"1.x\"]\nbinarys = []\n[packages]\ninstall = [\"Nope\"]\n[kernel]\nflavour = \"cloudy\"\nmodules = []\ninitramfs-modules = []\n";
        std::fs::write(folder.path().join("profiles/all-in-one.toml"), text).unwrap();
        let store = ProfileStore::new(folder.path(), None);
        let Err(ProfileError::Invalid(findings)) = store.load("all-in-one", &cluster()) else { panic!() };
        let plain = findings.plain().replace(&folder.path().display().to_string(), "");
        insta::assert_snapshot!(plain);
    }

    /// Findings about a profile beside the cluster file that is put together from parts.
    fn composed(files: &[(&str, &str)]) -> Result<Profile, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("profiles/parts")).unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join("profiles").join(name), text).unwrap();
        }
        let store = ProfileStore::new(folder.path(), None);
        store.load("edge", &cluster()).map_err(|error| match error {
            ProfileError::Invalid(findings) => {
                findings.plain().replace(&folder.path().display().to_string(), "")
            }
            other => panic!("{other}"),
        })
    }

    const EDGE: &str = "role = \"edge\"\ndescription = \"x\"\nkubernetes = [\"1.20\"]\n";

    #[test]
    fn a_profile_of_ones_own_is_a_few_lines_on_top_of_parts() {
        let own = "parts = [\"machine\", \"node\", \"gpu\"]\n[kernel]\nflavour = \"full\"\n";
        let gpu = "[packages]\ninstall = [\"pciutils\"]\n[[service]]\nname = \"kubelet\"\noom-score = -500\n";
        let profile = composed(&[("edge.toml", &format!("{EDGE}{own}")), ("parts/gpu.toml", gpu)]).unwrap();
        assert!(profile.parts.is_empty());
        assert_eq!(profile.kernel.flavour.package(), "linux-image-amd64");
        assert!(profile.packages.install.ends_with(&["util-linux".to_owned(), "pciutils".to_owned()]));
        let kubelet = profile.services.iter().find(|service| service.name == "kubelet").unwrap();
        assert_eq!((kubelet.oom_score, kubelet.component.as_deref()), (-500, Some("kubelet")));
    }

    #[test]
    fn mistakes_are_shown_where_they_were_written() {
        let own = "parts = [\"machine\", \"node\"]\n[packages]\ninstall = [\"Nope\", \"chrony\"]\n[[service]]\nname = \"kubelet\"\nafter = [\"lost\"]\n";
        let own = composed(&[("edge.toml", &format!("{EDGE}{own}"))]).unwrap_err();
        let unknown = composed(&[("edge.toml", &format!("{EDGE}parts = [\"nodes\"]\n"))]).unwrap_err();
        let lacking = composed(&[
            ("edge.toml", &format!("{EDGE}parts = [\"gpu\"]\n")),
            ("parts/gpu.toml", "[packages]\ninstall = []\n"),
        ]);
        let in_part = composed(&[
            ("edge.toml", &format!("{EDGE}parts = [\"gpu\"]\n")),
            ("parts/gpu.toml", "role = \"edge\"\n[packages]\ninstal = []\n"),
        ]);
        let when = "when = \"etcd\"\n[kernel]\nload = []\n";
        let wrong = composed(&[("edge.toml", &format!("{EDGE}parts = [\"x\"]\n")), ("parts/x.toml", when)]);
        let here = composed(&[(
            "edge.toml",
            &format!("{EDGE}parts = [\"machine\", \"node\"]\nwhen = \"etcd-member\"\n"),
        )]);
        let all =
            [own, unknown, lacking.unwrap_err(), in_part.unwrap_err(), wrong.unwrap_err(), here.unwrap_err()];
        insta::assert_snapshot!(all.join("\n"));
    }
}
