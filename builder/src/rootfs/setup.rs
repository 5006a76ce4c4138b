//! What maintainer scripts would have done and a node needs, as the profile declares it.

use std::collections::BTreeSet;
use std::sync::Arc;

use bootwright_model::profile::{Setup, User};

use super::paths;
use super::tree::{Content, Entry, Kind, RootTree, TreeError};

/// Where programs look for the bundle of certificate authorities.
const CA_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Why the setup could not be done.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A mode is no octal number.
    #[error("setup.folders: {path} has mode {mode:?}; write an octal number such as \"0755\"")]
    Mode {
        /// Folder.
        path: String,
        /// As written.
        mode: String,
    },
    /// A user cannot be.
    #[error("setup.users: {name:?} {what}")]
    User {
        /// Login name.
        name: String,
        /// What is wrong with it.
        what: String,
    },
    /// A link leads nowhere.
    #[error(
        "setup.links: {link} points to {target}, which nothing in the root brings; correct it, or install and keep what it needs"
    )]
    Dangling {
        /// Path.
        link: String,
        /// As written.
        target: String,
    },
    /// No certificates.
    #[error(
        "setup.ca-certificates: there is no .crt file below {folder}; install ca-certificates and keep its files"
    )]
    NoCertificates {
        /// Folder.
        folder: String,
    },
    /// A certificate could not be read.
    #[error("{path}: {reason}")]
    Certificate {
        /// Path in the root.
        path: String,
        /// Why.
        reason: String,
    },
    /// It cannot be in the tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// The links of the merged `/usr`.
pub fn merged_usr(tree: &mut RootTree) -> Result<(), TreeError> {
    let origin: Arc<str> = "merged /usr".into();
    for name in paths::MERGED {
        tree.insert(&format!("/usr/{name}"), Entry::folder(&origin))?;
        tree.insert(&format!("/{name}"), Entry::link(format!("usr/{name}"), &origin))?;
    }
    Ok(())
}

/// Does what `setup` declares to a tree that has all packages.
pub fn apply(tree: &mut RootTree, setup: &Setup) -> Result<(), SetupError> {
    let origin: Arc<str> = "setup of the profile".into();
    for (path, mode) in &setup.folders {
        let bits = u32::from_str_radix(mode, 8).ok().filter(|bits| *bits <= 0o7777);
        let bits = bits.ok_or_else(|| SetupError::Mode { path: path.clone(), mode: mode.clone() })?;
        tree.replace(path, Entry::new(Kind::Folder, bits, &origin))?;
    }
    for (path, target) in &setup.links {
        tree.insert(path, Entry::link(target.as_str(), &origin))?;
    }
    for (link, target) in &setup.links {
        check_link(tree, link, target)?;
    }
    users(tree, &setup.users, &origin)?;
    if let Some(folder) = &setup.ca_certificates {
        bundle(tree, folder, &origin)?;
    }
    Ok(())
}

/// Links to the running node's own folders lead somewhere only there.
fn check_link(tree: &RootTree, link: &str, target: &str) -> Result<(), SetupError> {
    const RUNNING: [&str; 5] = ["/proc/", "/run/", "/sys/", "/dev/", "/var/"];
    let dangling = || SetupError::Dangling { link: link.to_owned(), target: target.to_owned() };
    let place =
        paths::canonical(link).and_then(|link| paths::target_of(&link, target)).map_err(|_| dangling())?;
    let running = RUNNING.iter().any(|folder| place.starts_with(folder));
    if running || tree.resolve(&place).is_some() { Ok(()) } else { Err(dangling()) }
}

/// passwd, group and shadow: root, and the users, each with a group of its own; nobody can log in.
fn users(tree: &mut RootTree, users: &[User], origin: &Arc<str>) -> Result<(), SetupError> {
    let mut passwd = "root:x:0:0:root:/root:/usr/sbin/nologin\n".to_owned();
    let mut group = "root:x:0:\n".to_owned();
    let mut shadow = "root:*:19000:0:99999:7:::\n".to_owned();
    let (mut names, mut ids) = (BTreeSet::from(["root"]), BTreeSet::from([0]));
    for user in users {
        let User { name, id, home } = user;
        let wrong = |what: &str| Err(SetupError::User { name: name.clone(), what: what.to_owned() });
        let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
        if name.is_empty() || name.len() > 32 || !name.chars().all(letter) {
            return wrong("is no user name: up to 32 of a-z, 0-9, _ and -");
        }
        if !home.starts_with('/') || home.contains([':', '\n']) {
            return wrong("has a home that is no absolute path");
        }
        if !names.insert(name) || !ids.insert(*id) {
            return wrong("has the name or the id of another user");
        }
        passwd.push_str(&format!("{name}:x:{id}:{id}::{home}:/usr/sbin/nologin\n"));
        group.push_str(&format!("{name}:x:{id}:\n"));
        shadow.push_str(&format!("{name}:!*:19000::::::\n"));
    }
    tree.insert("/etc/passwd", Entry::file(passwd, 0o644, origin))?;
    tree.insert("/etc/group", Entry::file(group, 0o644, origin))?;
    tree.insert("/etc/shadow", Entry::file(shadow, 0o600, origin))?;
    Ok(())
}

/// One file of all certificates below `folder`, in the order of their paths; the single files go.
fn bundle(tree: &mut RootTree, folder: &str, origin: &Arc<str>) -> Result<(), SetupError> {
    let below = format!("{}/", folder.trim_end_matches('/'));
    let paths: Vec<String> = tree.entries.keys().filter(|path| path.starts_with(&below)).cloned().collect();
    let mut bundle = Vec::new();
    for path in paths.iter().filter(|path| path.ends_with(".crt")) {
        let fail = |reason: String| SetupError::Certificate { path: path.clone(), reason };
        let Some(Entry { kind: Kind::File(content), .. }) = tree.entries.get(path) else { continue };
        let bytes = content.read().map_err(|e| fail(e.to_string()))?;
        if !bytes.starts_with(b"-----BEGIN CERTIFICATE-----") {
            return Err(fail("is no PEM certificate".to_owned()));
        }
        bundle.extend(bytes);
        if bundle.last() != Some(&b'\n') {
            bundle.push(b'\n');
        }
    }
    if bundle.is_empty() {
        return Err(SetupError::NoCertificates { folder: folder.to_owned() });
    }
    // Nothing reads the single files: no update-ca-certificates runs on a read-only root.
    for path in paths {
        tree.entries.remove(&path);
    }
    tree.entries.remove(folder.trim_end_matches('/'));
    let content = Kind::File(Content::bytes(bundle));
    tree.insert(CA_BUNDLE, Entry::new(content, 0o644, origin))?;
    Ok(())
}

/// Facts for `/etc/os-release`.
pub struct Identity<'a> {
    /// Version of the composing program.
    pub version: &'a str,
    /// Role of the image.
    pub role: &'a str,
    /// Kubernetes version.
    pub kubernetes: &'a str,
}

/// `/etc/os-release` (a link to `/usr/lib/os-release`, as os-release(5) has it).
pub fn os_release(tree: &mut RootTree, identity: &Identity) -> Result<(), TreeError> {
    let Identity { version, role, kubernetes } = identity;
    let origin: Arc<str> = "os-release".into();
    let text = format!(
        "ID=bootwright\nNAME=bootwright\nPRETTY_NAME=\"bootwright {version} {role}, Kubernetes {kubernetes}\"\n\
         VERSION_ID={version}\nVARIANT_ID={role}\nIMAGE_ID={role}\nIMAGE_VERSION={version}+k{kubernetes}\n"
    );
    tree.insert("/usr/lib/os-release", Entry::file(text, 0o644, &origin))?;
    tree.insert("/etc/os-release", Entry::link("../usr/lib/os-release", &origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, id: u32) -> User {
        User { name: name.to_owned(), id, home: "/nonexistent".to_owned() }
    }

    fn text(tree: &RootTree, path: &str) -> String {
        let Kind::File(content) = &tree.get(path).expect("is there").kind else {
            panic!("{path} is no file")
        };
        String::from_utf8(content.read().expect("read")).expect("text")
    }

    #[test]
    fn users_folders_links_and_the_bundle_are_made() {
        let mut tree = RootTree::default();
        let by = "package x".into();
        merged_usr(&mut tree).expect("linked");
        for (path, bytes) in [
            ("/usr/share/ca/b.crt", "-----BEGIN CERTIFICATE-----\nB"),
            ("/usr/share/ca/a.crt", "-----BEGIN CERTIFICATE-----\nA\n"),
            ("/usr/sbin/multi", "program"),
        ] {
            tree.insert(path, Entry::file(bytes, 0o644, &by)).expect("inserted");
        }
        let setup = Setup {
            links: [
                ("/sbin/iptables".to_owned(), "multi".to_owned()),
                ("/etc/mtab".to_owned(), "/proc/mounts".to_owned()),
            ]
            .into(),
            folders: [("/tmp".to_owned(), "1777".to_owned())].into(),
            users: vec![user("_chrony", 101)],
            ca_certificates: Some("/usr/share/ca".to_owned()),
        };
        apply(&mut tree, &setup).expect("applied");
        assert_eq!(
            text(&tree, "/etc/passwd"),
            "root:x:0:0:root:/root:/usr/sbin/nologin\n_chrony:x:101:101::/nonexistent:/usr/sbin/nologin\n"
        );
        assert_eq!(text(&tree, "/etc/shadow"), "root:*:19000:0:99999:7:::\n_chrony:!*:19000::::::\n");
        assert_eq!(tree.get("/etc/shadow").map(|entry| entry.mode), Some(0o600));
        assert_eq!(tree.get("/tmp").map(|entry| entry.mode), Some(0o1777));
        assert_eq!(
            text(&tree, CA_BUNDLE),
            "-----BEGIN CERTIFICATE-----\nA\n-----BEGIN CERTIFICATE-----\nB\n"
        );
        assert_eq!(tree.get("/usr/share/ca"), None);
        assert_eq!(
            tree.resolve("/usr/sbin/iptables").map(|found| found.0).as_deref(),
            Some("/usr/sbin/multi")
        );
    }

    #[test]
    fn what_is_wrong_in_a_profile_is_said() {
        let cases: [(Setup, &str); 5] = [
            (
                Setup { links: [("/a".to_owned(), "/nowhere".to_owned())].into(), ..Setup::default() },
                "setup.links: /a points to /nowhere, which nothing in the root brings; correct it, or install and keep what it needs",
            ),
            (
                Setup { folders: [("/a".to_owned(), "0855".to_owned())].into(), ..Setup::default() },
                "setup.folders: /a has mode \"0855\"; write an octal number such as \"0755\"",
            ),
            (
                Setup { users: vec![user("a", 5), user("b", 5)], ..Setup::default() },
                "setup.users: \"b\" has the name or the id of another user",
            ),
            (
                Setup { users: vec![user("A:b", 5)], ..Setup::default() },
                "setup.users: \"A:b\" is no user name: up to 32 of a-z, 0-9, _ and -",
            ),
            (
                Setup { ca_certificates: Some("/usr/share/ca".to_owned()), ..Setup::default() },
                "setup.ca-certificates: there is no .crt file below /usr/share/ca; install ca-certificates and keep its files",
            ),
        ];
        for (setup, expected) in cases {
            let error = apply(&mut RootTree::default(), &setup).expect_err("wrong");
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn os_release_names_the_image() {
        let mut tree = RootTree::default();
        let identity = Identity { version: "0.1.0", role: "all-in-one", kubernetes: "1.20.2" };
        os_release(&mut tree, &identity).expect("made");
        insta::assert_snapshot!(text(&tree, "/usr/lib/os-release"), @r#"
        ID=bootwright
        NAME=bootwright
        PRETTY_NAME="bootwright 0.1.0 all-in-one, Kubernetes 1.20.2"
        VERSION_ID=0.1.0
        VARIANT_ID=all-in-one
        IMAGE_ID=all-in-one
        IMAGE_VERSION=0.1.0+k1.20.2
        "#);
    }
}
