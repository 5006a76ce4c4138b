//! Files that a cluster file names: whether they are there.

use std::path::Path;

use bootwright_model::cluster::ClusterFile;

use super::{addon, image, plain};
use crate::cluster::text::finding::{Finding, KeyPath};

pub fn check(file: &ClusterFile, folder: &Path, findings: &mut Vec<Finding>) {
    for (index, one) in file.images.iter().enumerate() {
        if let Some(archive) = &one.archive {
            regular_file(folder, archive, image(index, "archive"), "OCI archive", findings);
        }
        for (target, source) in &one.files {
            regular_file(folder, source, image(index, "files").key(target), "file", findings);
        }
    }
    for (index, one) in file.addons.iter().enumerate() {
        for (position, manifest) in one.manifests.iter().enumerate() {
            let place = addon(index, "manifests").index(position);
            regular_file(folder, manifest, place, "manifest", findings);
        }
    }
    if let Some(keyring) = &file.base.keyring {
        regular_file(folder, keyring, KeyPath::of("base").key("keyring"), "keyring", findings);
    }
    if let Some(directory) = file.kubernetes.directory.as_ref().filter(|directory| !directory.is_empty()) {
        let path = folder.join(directory);
        let place = KeyPath::of("kubernetes").key("directory");
        match std::fs::metadata(&path) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => findings.push(
                Finding::new("not-a-folder", format!("{} is not a folder", path.display()))
                    .at_value(place, "not a folder")
                    .help("name the folder that holds the Kubernetes binaries"),
            ),
            // Not an error: the file can be right before the binaries are built.
            Err(error) => findings.push(
                Finding::new("missing-folder", format!("{}: {}", path.display(), plain(&error)))
                    .warning()
                    .at_value(place, "nothing there yet")
                    .help("put kube-apiserver, kubelet and the others there before `bootwright build`"),
            ),
        }
    }
}

fn regular_file(folder: &Path, name: &str, place: KeyPath, what: &str, findings: &mut Vec<Finding>) {
    let path = folder.join(name);
    let why = match std::fs::metadata(&path) {
        Ok(found) if found.is_file() => return,
        Ok(_) => "it is not a regular file".to_owned(),
        Err(error) => plain(&error),
    };
    findings.push(
        Finding::new("missing-file", format!("{what} {}: {why}", path.display()))
            .at_value(place, "cannot be read")
            .help("paths are relative to this file; correct it, or put the file there"),
    );
}
