//! What the builder baked for this node: three JSON files.

use std::io;
use std::path::{Path, PathBuf};

use bootwright_model::baked::{ClusterLayer, OsRelease};
use bootwright_model::layout;
use bootwright_model::profile::Profile;
use serde::de::DeserializeOwned;

use super::Advice;
use crate::report::under;

/// A baked file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BakedError {
    /// It cannot be read.
    #[error("{path}: cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what this program expects.
    #[error("{path}, line {line}, column {column}: {message}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// The parser's words.
        message: String,
    },
}

impl Advice for BakedError {
    fn advice(&self) -> String {
        "build the image again: builder and first boot must be of one version, and the file whole".to_owned()
    }
}

/// The cluster layer that the initramfs carried over.
pub fn cluster_layer(root: &Path) -> Result<ClusterLayer, BakedError> {
    read(&under(root, layout::RUN_CLUSTER).join(layout::CLUSTER_FILE))
}

/// What the OS layer is made of.
pub fn os_release(root: &Path) -> Result<OsRelease, BakedError> {
    read(&under(root, layout::OS_FILE))
}

/// The role's profile.
pub fn profile(root: &Path) -> Result<Profile, BakedError> {
    read(&under(root, layout::PROFILE_FILE))
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, BakedError> {
    let path = path.to_owned();
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(source) => return Err(BakedError::Read { path, source }),
    };
    serde_json::from_slice(&text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        // serde_json ends its message with the place, which is in the error already.
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or_default().to_owned();
        BakedError::Syntax { path, line, column, message }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_is_shown_with_its_place() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("run/bootwright/cluster");
        std::fs::create_dir_all(&folder).unwrap();
        let text = |root: &Path| {
            cluster_layer(root).unwrap_err().to_string().replace(&root.display().to_string(), "")
        };
        assert_eq!(text(root.path()), "/run/bootwright/cluster/cluster.json: cannot be read");
        std::fs::write(folder.join("cluster.json"), "{\n  \"role\": \u{0}").unwrap();
        assert_eq!(
            text(root.path()),
            "/run/bootwright/cluster/cluster.json, line 2, column 11: expected value"
        );
    }
}
