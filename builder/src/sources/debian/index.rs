//! Packages indexes: 60 000 paragraphs of which eleven fields matter.
//!
//! An index is reduced once, while it is decompressed, to those fields, one line each, and kept so in the
//! cache; then reading it takes milliseconds. `deb822-fast` reads the other files of the archive, but
//! takes its copies of every field of a 50 MB text, most of which are descriptions.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead, Write};

use debversion::Version;

use crate::digests::is_sha256;

/// Name of the reduced form in the cache; counts up when [`FIELDS`] or the layout changes.
pub const REDUCED: &str = "packages-1";

const FIELDS: [&str; 11] = [
    "Package",
    "Version",
    "Architecture",
    "Pre-Depends",
    "Depends",
    "Provides",
    "Conflicts",
    "Breaks",
    "Filename",
    "Size",
    "SHA256",
];

/// Why an index is not usable. It was signed, so the archive itself is at fault.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// A paragraph lacks something.
    #[error(
        "package {package:?} of {suite} has no usable {field}; the archive is damaged: use another mirror"
    )]
    Field {
        /// The suite.
        suite: String,
        /// `Package`, or what is known.
        package: String,
        /// The field.
        field: &'static str,
    },
    /// A version that is none.
    #[error("package {package:?}: {version:?} is not a version; the archive is damaged: use another mirror")]
    Version {
        /// The package.
        package: String,
        /// The version.
        version: String,
    },
}

/// One binary package of one suite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package<'i> {
    /// Its name.
    pub name: &'i str,
    /// Its version.
    pub version: &'i str,
    /// `amd64` or `all`.
    pub architecture: &'i str,
    /// The suite it is in.
    pub suite: &'i str,
    /// What must be installed before it, unparsed.
    pub pre_depends: &'i str,
    /// What must be installed with it, unparsed.
    pub depends: &'i str,
    /// Further names, unparsed.
    pub provides: &'i str,
    /// What it cannot be installed with, unparsed.
    pub conflicts: &'i str,
    /// The same, weaker.
    pub breaks: &'i str,
    /// Path below the archive's root.
    pub path: &'i str,
    /// Bytes.
    pub size: u64,
    /// Digest.
    pub sha256: &'i str,
}

/// Copies the fields that matter from `reader` to `writer`, each as one line.
pub fn reduce(mut reader: impl BufRead, mut writer: impl Write) -> io::Result<()> {
    let mut line = Vec::new();
    let mut kept = false;
    let mut open = false;
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let text = line.trim_ascii_end();
        match text.first() {
            None => {
                if open {
                    writer.write_all(b"\n\n")?;
                }
                (open, kept) = (false, false);
            }
            Some(b' ' | b'\t') => {
                if kept {
                    writer.write_all(b" ")?;
                    writer.write_all(text.trim_ascii_start())?;
                }
            }
            Some(_) => {
                let name = text.split(|byte| *byte == b':').next().unwrap_or(text);
                kept = FIELDS.iter().any(|field| field.as_bytes().eq_ignore_ascii_case(name));
                if kept {
                    if open {
                        writer.write_all(b"\n")?;
                    }
                    writer.write_all(text)?;
                    open = true;
                }
            }
        }
    }
    if open {
        writer.write_all(b"\n\n")?;
    }
    writer.flush()
}

/// Reads a reduced index.
fn parse<'i>(suite: &'i str, text: &'i str, packages: &mut Vec<Package<'i>>) -> Result<(), IndexError> {
    for paragraph in text.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
        let mut fields = [""; FIELDS.len()];
        for line in paragraph.lines() {
            let Some((name, value)) = line.split_once(':') else { continue };
            if let Some(number) = FIELDS.iter().position(|field| field.eq_ignore_ascii_case(name)) {
                fields[number] = value.trim();
            }
        }
        let [
            name,
            version,
            architecture,
            pre_depends,
            depends,
            provides,
            conflicts,
            breaks,
            path,
            size,
            sha256,
        ] = fields;
        let bad = |field| IndexError::Field { suite: suite.to_owned(), package: name.to_owned(), field };
        if name.is_empty() {
            return Err(bad("Package"));
        }
        if version.is_empty() {
            return Err(bad("Version"));
        }
        if !is_sha256(sha256) {
            return Err(bad("SHA256"));
        }
        // The path is appended to a mirror that may be a folder of this machine.
        if path.is_empty() || path.starts_with('/') || path.split('/').any(|part| part == "..") {
            return Err(bad("Filename"));
        }
        let size = size.parse().map_err(|_| bad("Size"))?;
        packages.push(Package {
            name,
            version,
            architecture,
            suite,
            pre_depends,
            depends,
            provides,
            conflicts,
            breaks,
            path,
            size,
            sha256,
        });
    }
    Ok(())
}

/// A version, or an error that names the package.
pub fn version(package: &str, text: &str) -> Result<Version, IndexError> {
    Version::parse_lenient(text)
        .map_err(|_| IndexError::Version { package: package.to_owned(), version: text.to_owned() })
}

/// All packages of all suites: of each name the highest version, as apt prefers it when all sources
/// have the same priority.
pub struct Universe<'i> {
    packages: BTreeMap<&'i str, Package<'i>>,
    providers: HashMap<&'i str, Vec<&'i str>>,
}

impl<'i> Universe<'i> {
    /// Reads reduced indexes, each with the name of its suite. Of equal versions the earlier suite's counts.
    pub fn new(indexes: impl IntoIterator<Item = (&'i str, &'i str)>) -> Result<Universe<'i>, IndexError> {
        let mut all = Vec::new();
        for (suite, text) in indexes {
            parse(suite, text, &mut all)?;
        }
        let mut packages: HashMap<&str, Package> = HashMap::with_capacity(all.len());
        for package in all {
            match packages.get(package.name) {
                Some(known) if known.version == package.version => {}
                Some(known) => {
                    if version(package.name, package.version)? > version(known.name, known.version)? {
                        packages.insert(package.name, package);
                    }
                }
                None => {
                    packages.insert(package.name, package);
                }
            }
        }
        let packages: BTreeMap<&str, Package> = packages.into_iter().collect();
        let mut providers: HashMap<&str, Vec<&str>> = HashMap::new();
        for package in packages.values() {
            for provided in package.provides.split(',').map(str::trim).filter(|name| !name.is_empty()) {
                let name = provided.split([' ', '(', ':']).next().unwrap_or(provided);
                providers.entry(name).or_default().push(package.name);
            }
        }
        Ok(Universe { packages, providers })
    }

    /// The highest version of a package.
    pub fn package(&self, name: &str) -> Option<&Package<'i>> {
        self.packages.get(name)
    }

    /// Names of the packages that provide `name`, sorted.
    pub fn providers(&self, name: &str) -> &[&'i str] {
        self.providers.get(name).map_or(&[], Vec::as_slice)
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &'i str> + '_ {
        self.packages.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "515e692f2c4121c6fcec444ef100cc18f79a991910615f3a88c8b7becfc94d2f";

    fn reduced(text: &str) -> String {
        let mut output = Vec::new();
        reduce(text.as_bytes(), &mut output).unwrap();
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn reducing_keeps_fields_and_joins_lines() {
        let text = format!(
            "\nPackage: a\nVersion: 1\nDescription: x\n more\nTag: t,\n u\nDepends: b,\n c | d\nFilename: p/a.deb\n\
             Size: 3\nSHA256: {DIGEST}\n\n\n\nPackage: b\nSection: x"
        );
        let expected = format!(
            "Package: a\nVersion: 1\nDepends: b, c | d\nFilename: p/a.deb\nSize: 3\nSHA256: {DIGEST}\n\nPackage: b\n\n"
        );
        assert_eq!(reduced(&text), expected);
    }

    fn paragraph(name: &str, version: &str, extra: &str) -> String {
        format!(
            "Package: {name}\nVersion: {version}\nFilename: pool/{name}_{version}.deb\nSize: 1\nSHA256: {DIGEST}\n{extra}\n"
        )
    }

    #[test]
    fn the_highest_version_of_all_suites_wins() {
        let release = paragraph("a", "1.9", "") + &paragraph("b", "1:1", "Provides: v (= 2), w\n");
        let security = paragraph("a", "1.10", "") + &paragraph("b", "2", "");
        let (release, security) = (reduced(&release), reduced(&security));
        let universe = Universe::new([("s", release.as_str()), ("s-security", security.as_str())]).unwrap();
        let a = universe.package("a").unwrap();
        assert_eq!((a.version, a.suite), ("1.10", "s-security"));
        assert_eq!(universe.package("b").unwrap().version, "1:1");
        assert_eq!(universe.providers("v"), ["b"]);
        assert_eq!(universe.providers("w"), ["b"]);
        assert_eq!(universe.names().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn paths_out_of_the_archive_are_refused() {
        for wrong in ["/etc/passwd", "pool/../../x", ""] {
            let text = format!("Package: a\nVersion: 1\nFilename: {wrong}\nSize: 1\nSHA256: {DIGEST}\n\n");
            let error = Universe::new([("s", text.as_str())]).err().unwrap();
            assert!(matches!(error, IndexError::Field { field: "Filename", .. }), "{error}");
        }
        let text = "Package: a\nVersion: 1\nFilename: x\nSize: -1\n\n";
        assert!(Universe::new([("s", text)]).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "(Package|Version|Size|SHA256|:| |\n|a|\\.|\u{e9}){0,40}") {
            let reduced = reduced(&text);
            let _ = Universe::new([("s", reduced.as_str())]);
        }
    }
}
