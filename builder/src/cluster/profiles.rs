//! Role profiles: the ones that come with the program, and the ones that replace them.

use std::path::{Path, PathBuf};

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
        let files =
            self.folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
        let mut paths: Vec<PathBuf> = files.map(|entry| entry.path()).collect();
        paths.extend(EMBEDDED.files().map(|file| file.path().to_owned()));
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
        let mut roles: Vec<String> =
            paths.iter().filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
        roles.sort();
        roles.dedup();
        roles
    }

    /// The profile of `role`, checked.
    pub fn load(&self, role: &str) -> Result<Profile, ProfileError> {
        let (path, text) = self.find(role)?;
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

    fn find(&self, role: &str) -> Result<(PathBuf, String), ProfileError> {
        let unknown = || ProfileError::Unknown { role: role.to_owned(), known: self.roles().join(", ") };
        // A role is a name: one that is a path must not be able to leave the folder.
        if super::checks::is_role_name(role) {
            let name = format!("{role}.toml");
            for folder in &self.folders {
                let path = folder.join(&name);
                match std::fs::read_to_string(&path) {
                    Ok(text) => return Ok((path, text)),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(source) => return Err(ProfileError::Read { path, source }),
                }
            }
            let embedded = EMBEDDED.get_file(&name).and_then(include_dir::File::contents_utf8);
            return match embedded {
                Some(text) => Ok((Path::new("profiles").join(name), text.to_owned())),
                None => Err(unknown()),
            };
        }
        Err(unknown())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_profile_is_sound() {
        let folder = tempfile::tempdir().unwrap();
        let store = ProfileStore::new(folder.path(), None);
        let roles = store.roles();
        assert!(!roles.is_empty());
        for role in roles {
            if let Err(ProfileError::Invalid(findings)) = store.load(&role) {
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
            assert!(matches!(store.load(role), Err(ProfileError::Unknown { .. })), "{role}");
        }
    }

    #[test]
    fn a_profile_beside_the_cluster_file_replaces_and_is_checked() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("profiles")).unwrap();
        let text = "role = \"edge\"\ndescription = \"x\"\nkubernetes = [\"1.x\"]\nbinarys = []\n[packages]\ninstall = [\"Nope\"]\n[kernel]\nflavour = \"cloudy\"\nmodules = []\ninitramfs-modules = []\n";
        std::fs::write(folder.path().join("profiles/all-in-one.toml"), text).unwrap();
        let store = ProfileStore::new(folder.path(), None);
        let Err(ProfileError::Invalid(findings)) = store.load("all-in-one") else { panic!() };
        let plain = findings.plain().replace(&folder.path().display().to_string(), "");
        insta::assert_snapshot!(plain);
    }
}
