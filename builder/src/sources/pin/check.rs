//! Whether a lock describes the build that is asked for.

use std::collections::BTreeSet;
use std::path::Path;

use super::{PackageSet, Pinned, Request};
use crate::sources::lock::{Lock, LockedSet};

/// Compares the request and the local files with a lock; the error is the first difference. What the lock
/// has beyond the request (another role's) is no difference.
pub fn check(pinned: &Pinned, request: &Request, lock: &Lock) -> Result<(), String> {
    if lock.suite != request.base.suite {
        return Err(format!("suite is {:?} and was {:?}", request.base.suite, lock.suite));
    }
    // Another component may have packages that a set does without, and newer ones.
    if lock.components != request.base.components {
        let named = |components: &[String]| match components {
            [] => "not named".to_owned(),
            components => components.join(" "),
        };
        let (now, was) = (named(&request.base.components), named(&lock.components));
        return Err(format!("the components of the archive are {now} and were {was}"));
    }
    for set in &request.sets {
        let locked = lock.sets.iter().find(|locked| locked.name == set.name);
        check_set(set, locked.ok_or_else(|| format!("package set {:?} is new", set.name))?)?;
    }
    for name in &request.binaries {
        let locked = lock.binaries.iter().find(|locked| &locked.name == name);
        let locked = locked.ok_or_else(|| format!("binary {name} is new"))?;
        let wanted = &request.kubernetes.version;
        if &locked.version != wanted {
            return Err(format!("Kubernetes is {wanted} and was {} ({name})", locked.version));
        }
        let local = pinned.local_binaries.iter().find(|local| &local.name == name);
        if let Some(local) = local.filter(|local| local.sha256 != locked.sha256) {
            return Err(changed(&local.path, &local.sha256, local.size, &locked.sha256, locked.size));
        }
    }
    for (path, file) in &pinned.files {
        let locked = lock.files.iter().find(|locked| &locked.path == path);
        let locked = locked.ok_or_else(|| format!("file {path} is new"))?;
        if locked.sha256 != file.sha256 {
            return Err(changed(&file.path, &file.sha256, file.size, &locked.sha256, locked.size));
        }
    }
    Ok(())
}

fn changed(path: &Path, sha256: &str, size: u64, was: &str, was_size: u64) -> String {
    let path = path.display();
    format!("{path} changed: SHA-256 {sha256}, {size} bytes, and was {was}, {was_size} bytes")
}

fn check_set(set: &PackageSet, locked: &LockedSet) -> Result<(), String> {
    let lists =
        [("packages", &set.install, &locked.install), ("excluded packages", &set.exclude, &locked.exclude)];
    for (what, now, was) in lists {
        let (now, was): (BTreeSet<_>, BTreeSet<_>) = (now.iter().collect(), was.iter().collect());
        let names = |sign: char, names: Vec<&&String>| -> Vec<String> {
            names.iter().map(|name| format!("{sign}{name}")).collect()
        };
        let mut differences = names('+', now.difference(&was).collect());
        differences.extend(names('-', was.difference(&now).collect()));
        if !differences.is_empty() {
            return Err(format!("the {what} of set {:?} changed ({})", set.name, differences.join(" ")));
        }
    }
    if set.dependencies != locked.dependencies {
        let now = if set.dependencies { "with" } else { "without" };
        return Err(format!("package set {:?} is now {now} dependencies", set.name));
    }
    Ok(())
}
