//! A project of mkosi's: its configuration (mkosi(1)), the archives, and a file to be changed.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use super::Error;
use crate::sources::debian::Source;

/// The configuration.
pub const FILE: &str = "mkosi.conf";
/// apt's sources in the sandbox. mkosi writes its own, with addresses that it knows, unless this file exists.
const SOURCES: &str = "mkosi.sandbox/etc/apt/sources.list.d/mkosi.sources";
/// Keyrings in the sandbox, which shares /usr with the machine and nothing else.
const KEYRINGS: &str = "etc/apt/keyrings";
/// The file of the image that a changed configuration differs in.
const CHANGED: &str = "mkosi.extra/etc/bench";
/// Folders that mkosi wants to find.
const FOLDERS: [&str; 3] = ["cache", "output", "workspace"];

/// Writes the project into `folder`, which is made.
pub fn write(
    folder: &Path,
    suite: &str,
    packages: &[String],
    sources: &[Source],
    package_cache: &Path,
) -> Result<(), Error> {
    for name in FOLDERS {
        create(&folder.join(name))?;
    }
    put(&folder.join(FILE), configuration(suite, packages, package_cache).as_bytes())?;
    let mut text = String::new();
    for (index, source) in sources.iter().enumerate() {
        let keyrings = keyrings(&folder.join("mkosi.sandbox"), index, source)?;
        text += &stanza(source, &keyrings)?;
    }
    put(&folder.join(SOURCES), text.as_bytes())?;
    change(folder, 0)
}

/// Changes what goes into the image, and no package.
pub fn change(folder: &Path, value: u16) -> Result<(), Error> {
    put(&folder.join(CHANGED), format!("{value}\n").as_bytes())
}

fn configuration(suite: &str, packages: &[String], package_cache: &Path) -> String {
    let packages: String = packages.iter().map(|name| format!("    {name}\n")).collect();
    // Without sources to build, so that the workspace may lie in the project.
    format!(
        "[Distribution]\nDistribution=debian\nRelease={suite}\nArchitecture=x86-64\n\n\
         [Output]\nFormat=tar\nOutput=image\nOutputDirectory=output\n\n\
         [Build]\nPackageCacheDirectory={}\nCacheDirectory=cache\nWorkspaceDirectory=workspace\n\
         BuildSources=\nHistory=no\n\n\
         [Content]\nBootable=no\nPackages=\n{packages}",
        package_cache.display()
    )
}

/// Puts the keys of a source where apt in the sandbox finds them, and returns their paths there. Fingerprints
/// are left to apt's own check of the file: what comes of it is measured, not booted.
fn keyrings(sandbox: &Path, index: usize, source: &Source) -> Result<Vec<PathBuf>, Error> {
    let mut paths = Vec::new();
    for (number, keyring) in source.trust.keyrings.iter().enumerate() {
        let extension = keyring.extension().and_then(|extension| extension.to_str()).unwrap_or("gpg");
        let path = Path::new(KEYRINGS).join(format!("{index}-{number}.{extension}"));
        let key = fs::read(keyring).map_err(Error::file("read", keyring))?;
        put(&sandbox.join(&path), &key)?;
        paths.push(path);
    }
    if let Some(block) = &source.trust.embedded {
        let path = Path::new(KEYRINGS).join(format!("{index}.asc"));
        put(&sandbox.join(&path), block.as_bytes())?;
        paths.push(path);
    }
    Ok(paths)
}

/// A paragraph of sources.list(5).
fn stanza(source: &Source, keyrings: &[PathBuf]) -> Result<String, Error> {
    if !source.url.starts_with("http://") && !source.url.starts_with("https://") {
        return Err(Error::State(format!("mkosi's sandbox cannot see the archive {}", source.url)));
    }
    let keyrings: Vec<String> = keyrings.iter().map(|path| format!("/{}", path.display())).collect();
    let mut text = String::new();
    writeln!(
        text,
        "Types: deb\nURIs: {}\nSuites: {}\nComponents: {}\nSigned-By: {}\n",
        source.url,
        source.suite,
        source.components.join(" "),
        keyrings.join(" ")
    )
    .expect("a String takes everything");
    Ok(text)
}

fn put(path: &Path, content: &[u8]) -> Result<(), Error> {
    if let Some(folder) = path.parent() {
        create(folder)?;
    }
    fs::write(path, content).map_err(Error::file("write", path))
}

fn create(folder: &Path) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(Error::file("make", folder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::debian::source::Trust;

    fn source(url: &str, keyrings: Vec<PathBuf>, embedded: Option<&str>) -> Source {
        Source {
            url: url.to_owned(),
            suite: "bookworm".to_owned(),
            components: vec!["main".to_owned(), "contrib".to_owned()],
            trust: Trust { keyrings, embedded: embedded.map(str::to_owned), fingerprints: Vec::new() },
            check_valid_until: true,
            check_date: true,
            origin: "a test".to_owned(),
            from_machine: true,
            optional: false,
        }
    }

    #[test]
    fn a_project_names_packages_and_archives_and_brings_their_keys() {
        let folder = tempfile::tempdir().unwrap();
        let (project, keyring) = (folder.path().join("p"), folder.path().join("debian.gpg"));
        fs::write(&keyring, "a key").unwrap();
        let sources = [
            source("http://mirror.test/debian", vec![keyring], None),
            source("https://other.test/debian", Vec::new(), Some("a block")),
        ];
        let packages = ["containerd".to_owned(), "linux-image-cloud-amd64".to_owned()];
        write(&project, "bookworm", &packages, &sources, Path::new("/cache/of packages")).unwrap();
        let read = |path: &str| fs::read_to_string(project.join(path)).unwrap();
        let configuration = read(FILE);
        for line in [
            "Release=bookworm",
            "PackageCacheDirectory=/cache/of packages",
            "Packages=\n    containerd\n    linux-image-cloud-amd64",
        ] {
            assert!(configuration.contains(&format!("\n{line}\n")), "{line}: {configuration}");
        }
        insta::assert_snapshot!(read(SOURCES), @r"
        Types: deb
        URIs: http://mirror.test/debian
        Suites: bookworm
        Components: main contrib
        Signed-By: /etc/apt/keyrings/0-0.gpg

        Types: deb
        URIs: https://other.test/debian
        Suites: bookworm
        Components: main contrib
        Signed-By: /etc/apt/keyrings/1.asc
        ");
        assert_eq!(read("mkosi.sandbox/etc/apt/keyrings/0-0.gpg"), "a key");
        assert_eq!(read("mkosi.sandbox/etc/apt/keyrings/1.asc"), "a block");
        let before = read(CHANGED);
        change(&project, 1).unwrap();
        assert_ne!(read(CHANGED), before);
        assert_eq!(read(FILE), configuration);
    }

    #[test]
    fn an_archive_that_the_sandbox_cannot_see_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let sources = [source("/srv/mirror", Vec::new(), None)];
        let error = write(folder.path(), "bookworm", &[], &sources, Path::new("/c")).unwrap_err();
        assert_eq!(error.to_string(), "mkosi's sandbox cannot see the archive /srv/mirror");
    }
}
