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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dead_processes_left_goes_and_the_rest_stays() {
        let root = tempfile::tempdir().unwrap();
        let host = Host { root: root.path().to_owned(), ..Host::node() };
        clear(&host, &[]).unwrap();
        let kubelet = root.path().join("var/lib/kubelet");
        fs::create_dir_all(kubelet.join("pods/1")).unwrap();
        fs::create_dir_all(root.path().join("var/lib/cni/networks/pods")).unwrap();
        fs::write(kubelet.join("cpu_manager_state"), "{ half").unwrap();
        // A link is removed, never what it points to.
        std::os::unix::fs::symlink(kubelet.join("pods"), kubelet.join("memory_manager_state")).unwrap();
        clear(&host, &[]).unwrap();
        assert!(kubelet.join("pods/1").exists());
        assert_eq!(fs::read_dir(&kubelet).unwrap().count(), 1);
        assert_eq!(fs::read_dir(root.path().join("var/lib/cni")).unwrap().count(), 0);
    }
}
