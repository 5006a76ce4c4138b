//! What the image has below `/var`, which the state hides: folders that packages expect, and what their files begin as.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::StateError;

/// Something below `/var` in the image.
pub struct Entry {
    path: PathBuf,
    mode: u32,
    owner: (u32, u32),
    kind: Kind,
}

enum Kind {
    Folder,
    Link(PathBuf),
    File(Vec<u8>),
}

/// What the image has below `/var`, before the state hides it.
pub fn read(var: &Path) -> Result<Vec<Entry>, StateError> {
    let mut entries = Vec::new();
    let mut folders = vec![var.to_owned()];
    while let Some(folder) = folders.pop() {
        let error = |source| StateError::Io { path: folder.clone(), what: "be read", source };
        for entry in fs::read_dir(&folder).map_err(error)? {
            let path = entry.map_err(error)?.path();
            let metadata = fs::symlink_metadata(&path).map_err(error)?;
            let kind = if metadata.is_dir() {
                folders.push(path.clone());
                Kind::Folder
            } else if metadata.is_symlink() {
                Kind::Link(fs::read_link(&path).map_err(error)?)
            } else {
                Kind::File(fs::read(&path).map_err(error)?)
            };
            let owner = (metadata.uid(), metadata.gid());
            entries.push(Entry { path, mode: metadata.permissions().mode() & 0o7777, owner, kind });
        }
    }
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
}

/// Makes what is missing. What is there is the node's and stays.
pub fn make(var: &Path, image: &[Entry]) -> Result<(), StateError> {
    for entry in image.iter().filter(|entry| fs::symlink_metadata(&entry.path).is_err()) {
        let made = match &entry.kind {
            Kind::Folder => fs::DirBuilder::new().mode(entry.mode).create(&entry.path),
            Kind::Link(target) => std::os::unix::fs::symlink(target, &entry.path),
            Kind::File(bytes) => fs::write(&entry.path, bytes),
        };
        let (uid, gid) = entry.owner;
        let made = made.and_then(|()| std::os::unix::fs::lchown(&entry.path, Some(uid), Some(gid)));
        let made = made.and_then(|()| match entry.kind {
            Kind::Link(_) => Ok(()),
            _ => fs::set_permissions(&entry.path, fs::Permissions::from_mode(entry.mode)),
        });
        made.map_err(|source| StateError::Io { path: entry.path.clone(), what: "be made", source })?;
    }
    // Without these nothing of Debian's runs, whatever the profile forgot.
    for (name, mode) in [("lib", 0o755), ("log", 0o755), ("cache", 0o755), ("tmp", 0o1777)] {
        let path = var.join(name);
        if !path.exists() {
            let made = fs::create_dir(&path)
                .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)));
            made.map_err(|source| StateError::Io { path, what: "be made", source })?;
        }
    }
    for (name, target) in [("run", "/run"), ("lock", "/run/lock")] {
        let path = var.join(name);
        if fs::symlink_metadata(&path).is_err() {
            let made = std::os::unix::fs::symlink(target, &path);
            made.map_err(|source| StateError::Io { path, what: "be made", source })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_gets_what_the_image_has_and_keeps_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let var = folder.path().join("var");
        fs::create_dir_all(var.join("lib/etcd")).unwrap();
        fs::set_permissions(var.join("lib/etcd"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(var.join("lib/seed"), "image").unwrap();
        std::os::unix::fs::symlink("/run", var.join("run")).unwrap();
        let image = read(&var).unwrap();
        fs::rename(&var, folder.path().join("image")).unwrap();
        fs::create_dir_all(var.join("lib")).unwrap();
        fs::write(var.join("lib/seed"), "node").unwrap();
        for _ in 0..2 {
            make(&var, &image).unwrap();
        }
        assert_eq!(fs::metadata(var.join("lib/etcd")).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_to_string(var.join("lib/seed")).unwrap(), "node");
        assert_eq!(fs::read_link(var.join("run")).unwrap(), Path::new("/run"));
        assert_eq!(fs::metadata(var.join("tmp")).unwrap().permissions().mode() & 0o7777, 0o1777);
    }
}
