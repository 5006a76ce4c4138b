//! Paths of the root: absolute, normalised, with `/usr` merged.
//!
//! Debian's packages of this age still ship `/bin/mount` and `/lib/x86_64-linux-gnu/libc.so.6`, while the
//! installed system has `/bin`, `/sbin`, `/lib` and `/lib64` as links into `/usr`. Every path is brought
//! to its place under `/usr` before it enters a tree, so that two spellings of a file are one entry.

/// Top folders that are links to the folder of the same name under `/usr`.
pub const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

/// Why a path cannot be in a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// `..` climbs out of the root.
    #[error("path {0:?} leaves the root")]
    Escapes(String),
    /// A NUL byte or a control character, which no tool on the way would pass on unharmed.
    #[error("path {0:?} contains a control character")]
    Control(String),
}

/// `path` made absolute, `.`, `..` and doubled slashes resolved by their letters, `/usr` merged.
/// The root itself is the empty string.
pub fn canonical(path: &str) -> Result<String, PathError> {
    Ok(merge(lexical("", path)?))
}

/// The place that a link at canonical path `link` with target `target` points to, by its letters.
pub fn target_of(link: &str, target: &str) -> Result<String, PathError> {
    let folder = if target.starts_with('/') { "" } else { parent(link) };
    Ok(merge(lexical(folder, target)?))
}

/// The folder that a canonical path is in; empty for entries of the root.
pub fn parent(path: &str) -> &str {
    path.rfind('/').map_or("", |slash| &path[..slash])
}

/// The last component.
pub fn name(path: &str) -> &str {
    path.rfind('/').map_or(path, |slash| &path[slash + 1..])
}

/// The target for a link that a package ships at `shipped` (any spelling) with `target`, once the link
/// lies at its canonical path.
///
/// `/bin/x -> ../usr/bin/y` would point to `/usr/usr/bin/y` from `/usr/bin`; such a target is rewritten.
/// A target that is still right is kept verbatim.
pub fn moved_target(shipped: &str, target: &str) -> Result<String, PathError> {
    if target.starts_with('/') {
        return Ok(target.to_owned());
    }
    let before = lexical("", shipped)?;
    let meant = merge(lexical(parent(&before), target)?);
    let now = canonical(shipped)?;
    if target_of(&now, target).is_ok_and(|points| points == meant) {
        return Ok(target.to_owned());
    }
    Ok(relative(parent(&now), &meant))
}

/// The relative path from canonical folder `from` to canonical path `to`.
fn relative(from: &str, to: &str) -> String {
    let from: Vec<&str> = from.split('/').filter(|part| !part.is_empty()).collect();
    let to: Vec<&str> = to.split('/').filter(|part| !part.is_empty()).collect();
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let mut parts = vec![".."; from.len() - common];
    parts.extend(&to[common..]);
    parts.join("/")
}

fn lexical(folder: &str, path: &str) -> Result<String, PathError> {
    if path.chars().any(char::is_control) {
        return Err(PathError::Control(path.to_owned()));
    }
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if parts.pop().is_none() {
                    return Err(PathError::Escapes(path.to_owned()));
                }
            }
            part => parts.push(part),
        }
    }
    Ok(parts.iter().map(|part| format!("/{part}")).collect())
}

fn merge(path: String) -> String {
    let first = path[1.min(path.len())..].split('/').next().unwrap_or_default();
    // The link /bin itself stays where it is: only what lies below moves.
    if MERGED.contains(&first) && path.len() > first.len() + 1 { format!("/usr{path}") } else { path }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spellings_of_a_file_are_one_path() {
        for spelling in
            ["./bin/mount", "/bin/mount", "bin//mount", "usr/bin/mount", "/usr/./sbin/../bin/mount"]
        {
            assert_eq!(canonical(spelling).as_deref(), Ok("/usr/bin/mount"), "{spelling}");
        }
        assert_eq!(canonical("./").as_deref(), Ok(""));
        assert_eq!(canonical("/lib64").as_deref(), Ok("/lib64"));
        assert_eq!(canonical("/library/x").as_deref(), Ok("/library/x"));
    }

    #[test]
    fn a_path_out_of_the_root_is_refused() {
        assert_eq!(canonical("../etc/passwd"), Err(PathError::Escapes("../etc/passwd".to_owned())));
        assert_eq!(canonical("/usr/../../x"), Err(PathError::Escapes("/usr/../../x".to_owned())));
        assert!(matches!(canonical("/usr/a\nb"), Err(PathError::Control(_))));
    }

    #[test]
    fn a_link_moved_into_usr_still_points_where_it_did() {
        for (shipped, target, expected) in [
            ("/bin/x", "../usr/bin/y", "y"),
            ("/sbin/ip", "/bin/ip", "/bin/ip"),
            ("/sbin/modprobe", "../bin/kmod", "../bin/kmod"),
            ("/lib/x86_64-linux-gnu/libss.so.2", "libss.so.2.0", "libss.so.2.0"),
            ("/lib/a/b", "../../usr/share/c", "../../share/c"),
            ("/usr/bin/x", "../../bin/y", "../../bin/y"),
            ("/lib/modules/6.1/build", "../../../usr/src/linux", "../../../src/linux"),
        ] {
            let moved = moved_target(shipped, target).expect("a good target");
            assert_eq!(moved, expected, "{shipped} -> {target}");
            let place = canonical(shipped).expect("a good path");
            let before = lexical(parent(shipped), target).map(merge);
            let before = if target.starts_with('/') { canonical(target) } else { before };
            assert_eq!(target_of(&place, &moved), before);
        }
    }

    proptest! {
        #[test]
        fn canonical_paths_stay_as_they_are(path in "(/?(bin|lib|usr|etc|/\\./|a b|é)){1,6}") {
            let once = canonical(&path).expect("nothing in it climbs");
            prop_assert_eq!(canonical(&once).expect("still good"), once);
        }

        #[test]
        fn any_text_is_a_path_or_an_error(path in ".{0,40}", target in ".{0,40}") {
            if canonical(&path).is_ok() {
                let _ = moved_target(&path, &target);
            }
        }
    }
}
