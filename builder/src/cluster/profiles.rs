//! Role profiles: the ones that come with the program, and the ones that replace them.

use std::path::{Path, PathBuf};

use bootwright_model::profile::Profile;
use include_dir::{Dir, include_dir};

static EMBEDDED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../profiles");

/// Where profiles come from.
#[derive(Debug, Clone)]
pub struct ProfileStore {
    /// Folders in the order they are asked; the embedded profiles come last.
    folders: Vec<PathBuf>,
}

/// Why a profile cannot be had.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ProfileError {
    /// There is no such role.
    #[error("there is no profile for role \"{role}\"")]
    #[diagnostic(help("roles with a profile: {known}"))]
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
    #[error("{}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Why.
        message: String,
    },
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

    /// The profile of `role`.
    pub fn load(&self, role: &str) -> Result<Profile, ProfileError> {
        let (path, text) = self.find(role)?;
        toml::from_str(&text).map_err(|error| ProfileError::Syntax { path, message: error.to_string() })
    }

    fn find(&self, role: &str) -> Result<(PathBuf, String), ProfileError> {
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
        match embedded {
            Some(text) => Ok((Path::new("profiles").join(name), text.to_owned())),
            None => Err(ProfileError::Unknown { role: role.to_owned(), known: self.roles().join(", ") }),
        }
    }
}
