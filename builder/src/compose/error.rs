//! Why a build stopped.

use std::path::{Path, PathBuf};

use miette::Diagnostic;
use thiserror::Error;

use crate::cluster::ClusterError;
use crate::image::host::MissingTool;
use crate::image::layer::LayerError;
use crate::image::role::RoleError;
use crate::progress::Interrupted;
use crate::rootfs::packages::PackageError;
use crate::rootfs::{RootError, tree::TreeError};
use crate::sources::SourcesError;
use crate::sources::cache::CacheError;
use crate::sources::lock::LockError;

/// A build that did not come to its end. Nothing half-written is left in the output folder.
#[derive(Debug, Error, Diagnostic)]
pub enum ComposeError {
    /// The cluster file or a profile.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Cluster(#[from] ClusterError),
    /// A host tool is missing.
    #[error(transparent)]
    Tool(#[from] MissingTool),
    /// An archive, mirror, folder or download.
    #[error(transparent)]
    Sources(#[from] SourcesError),
    /// The cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The lock.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The secrets folder.
    #[error(transparent)]
    Pki(#[from] crate::pki::PkiError),
    /// The root tree.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The cluster layer's tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A loader's package lacks a file.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// Squashfs, verity, initramfs.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// UKI, ESP, disk.
    #[error(transparent)]
    Role(#[from] RoleError),
    /// Ctrl-C.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// One of our programs is missing or of the wrong kind.
    #[error("{}: {why}", path.display())]
    #[diagnostic(help(
        "name the folder that holds `firstboot`, `agent`, `pause` and `probe` with --runtime or BOOTWRIGHT_RUNTIME; `./run demo` makes them, in out/runtime"
    ))]
    Runtime {
        /// The program.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The path of this program is unknown.
    #[error("cannot find out where this program lies: {0}")]
    #[diagnostic(help(
        "name the folder that holds `firstboot`, `agent`, `pause` and `probe` with --runtime"
    ))]
    OwnPath(#[source] std::io::Error),
    /// A value of ours does not serialise: a defect.
    #[error("cannot write a value as JSON: {0}")]
    Serialise(#[source] serde_json::Error),
    /// Something else lies at the place of the output folder.
    #[error("-o names {}, which is a file and no folder", path.display())]
    #[diagnostic(help(
        "the images are written into a folder: name one with -o; it is made if it does not exist"
    ))]
    NoFolder {
        /// As given.
        path: PathBuf,
    },
    /// The output folder or a file in it.
    #[error("cannot write {}: {source}", path.display())]
    #[diagnostic(help("choose another folder with -o, or make room there"))]
    Output {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Makes the output folder and its parents, and asks whether files can be made in it: better now than when
/// there is an image to write.
pub fn create_folder(path: &Path) -> Result<(), ComposeError> {
    if path.is_file() {
        return Err(ComposeError::NoFolder { path: path.to_owned() });
    }
    let failed = |source| ComposeError::Output { path: path.to_owned(), source };
    std::fs::create_dir_all(path).map_err(failed)?;
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    rustix::fs::access(path, access).map_err(|error| failed(error.into()))
}
