//! What an earlier boot left on the state partition and this one must not believe.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Host;
use super::definitions::Definition;
use super::markers::Marker;

/// Files and folders that hold the state of processes which do not outlive a boot. Kubelet refuses to start
/// with a checkpoint file that a power cut damaged, and needs none after a reboot: every container is new.
/// Paths: kubelet's root folder, and the caches of libcni and of its host-local plugin.
const OF_DEAD_PROCESSES: &[&str] = &[
    "/var/lib/kubelet/cpu_manager_state",
    "/var/lib/kubelet/memory_manager_state",
    "/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint",
    "/var/lib/cni/cache",
    "/var/lib/cni/networks",
    "/var/lib/cni/results",
];

/// Something that could not be removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot remove {path}")]
pub struct LeftoversError {
    /// File or folder.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// Clears leftovers; to be called once per boot, before any service runs.
pub fn clear(host: &Host, definitions: &[Definition]) -> Result<(), LeftoversError> {
    for path in OF_DEAD_PROCESSES {
        remove(&host.below_root(path))?;
    }
    for definition in definitions {
        let Some(once) = &definition.service.once else { continue };
        if Marker::of(host, &definition.service.name).exists() {
            continue;
        }
        for folder in &once.clears {
            clear_folder(&host.below_root(folder))?;
        }
    }
    Ok(())
}

/// Removes what is in a folder and leaves the folder.
fn clear_folder(folder: &Path) -> Result<(), LeftoversError> {
    let fail = |source| LeftoversError { path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(fail)?,
    };
    for entry in entries {
        remove(&entry.map_err(fail)?.path())?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), LeftoversError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(|source| LeftoversError { path: path.to_owned(), source }),
    }
}
