//! A Debian archive in a folder, signed with a key that lives as long as the test.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bootwright_model::cluster::Base;

use super::{Deb, Packing, compress};
use crate::digests::sha256;

/// A throw-away OpenPGP key.
pub struct Signer {
    home: tempfile::TempDir,
}

impl Signer {
    pub fn new() -> Signer {
        let signer = Signer { home: tempfile::tempdir().unwrap() };
        signer.gpg(&[
            "--passphrase",
            "",
            "--quick-generate-key",
            "Test <test@test.invalid>",
            "ed25519",
            "sign",
            "never",
        ]);
        signer
    }

    fn gpg(&self, arguments: &[&str]) -> Vec<u8> {
        let output = Command::new("gpg")
            .args(["--batch", "--quiet", "--homedir"])
            .arg(self.home.path())
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("the tests need gpg (package gnupg)");
        assert!(output.status.success(), "gpg: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    pub fn public_key(&self, armoured: bool) -> Vec<u8> {
        if armoured { self.gpg(&["--armor", "--export"]) } else { self.gpg(&["--export"]) }
    }

    pub fn clear_sign(&self, text: &str) -> Vec<u8> {
        let input = self.home.path().join("text");
        fs::write(&input, text).unwrap();
        self.gpg(&["--clear-sign", "--output", "-", &input.display().to_string()])
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        // The agent that gpg started for this home, and no other.
        let _ =
            Command::new("gpgconf").arg("--homedir").arg(self.home.path()).args(["--kill", "all"]).status();
    }
}

/// An archive. Packages are added, then [`Repository::publish`]ed.
pub struct Repository {
    pub signer: Signer,
    folder: tempfile::TempDir,
    suites: BTreeMap<String, Vec<(Deb, Packing)>>,
    /// Packages of another component than `main`, by suite.
    others: BTreeMap<String, Vec<(Deb, Packing)>>,
    pub date: String,
    pub valid_until: Option<String>,
    pub origin: String,
    pub index_packing: Packing,
}

impl Repository {
    pub fn new() -> Repository {
        let folder = tempfile::tempdir().unwrap();
        let signer = Signer::new();
        fs::write(folder.path().join("key.gpg"), signer.public_key(false)).unwrap();
        Repository {
            signer,
            folder,
            suites: BTreeMap::new(),
            others: BTreeMap::new(),
            date: "Thu, 01 Jan 2026 00:00:00 UTC".to_owned(),
            valid_until: None,
            origin: "Test".to_owned(),
            index_packing: Packing::Xz,
        }
    }

    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    pub fn add(&mut self, suite: &str, deb: Deb, packing: Packing) {
        self.suites.entry(suite.to_owned()).or_default().push((deb, packing));
    }

    /// Adds a package to the component `non-free-firmware`.
    pub fn add_firmware(&mut self, suite: &str, deb: Deb, packing: Packing) {
        self.others.entry(suite.to_owned()).or_default().push((deb, packing));
    }

    /// `[base]` of a cluster file that uses this archive at `url`.
    pub fn base(&self, url: &str) -> Base {
        Base {
            mirror: Some(url.to_owned()),
            keyring: Some(self.path("key.gpg").display().to_string()),
            ..Base::default()
        }
    }

    /// Path of a package in the pool.
    pub fn pool(name: &str, version: &str) -> String {
        format!("pool/main/{}/{name}/{name}_{version}_amd64.deb", &name[..1])
    }

    fn write(&self, below: &str, bytes: &[u8]) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Writes pool, indexes and InRelease anew.
    pub fn publish(&self) {
        for (suite, debs) in &self.suites {
            let mut indexes = vec![self.index(suite, "main", debs)];
            if let Some(debs) = self.others.get(suite) {
                indexes.push(self.index(suite, "non-free-firmware", debs));
            }
            let release = self.release(suite, &indexes);
            self.write(&format!("dists/{suite}/InRelease"), &self.signer.clear_sign(&release));
        }
    }

    /// Writes the packages and the index of a component; path of that below the suite's folder, and its bytes.
    fn index(&self, suite: &str, component: &str, debs: &[(Deb, Packing)]) -> (String, Vec<u8>) {
        let mut packages = String::new();
        for (deb, packing) in debs {
            let bytes = deb.packed(*packing);
            let path = Self::pool(&deb.name, &deb.version);
            self.write(&path, &bytes);
            packages.push_str(&format!(
                "{}Filename: {path}\nSize: {}\nSHA256: {}\n\n",
                deb.control(),
                bytes.len(),
                sha256(&bytes)
            ));
        }
        let ending = match self.index_packing {
            Packing::Xz => ".xz",
            Packing::Gzip => ".gz",
            _ => "",
        };
        let index = compress(packages.as_bytes(), self.index_packing);
        let below = format!("{component}/binary-amd64");
        let folder = format!("dists/{suite}/{below}");
        self.write(&format!("{folder}/Packages{ending}"), &index);
        self.write(&format!("{folder}/by-hash/SHA256/{}", sha256(&index)), &index);
        (format!("{below}/Packages{ending}"), index)
    }

    fn release(&self, suite: &str, indexes: &[(String, Vec<u8>)]) -> String {
        let valid_until = self.valid_until.as_ref().map(|date| format!("Valid-Until: {date}\n"));
        let mut text = format!(
            "Origin: {}\nSuite: {suite}\nCodename: {suite}\nDate: {}\n{}Acquire-By-Hash: yes\n\
             Architectures: amd64\nComponents: main\nDescription: - a line that is escaped when signed\nSHA256:\n",
            self.origin,
            self.date,
            valid_until.unwrap_or_default(),
        );
        for (path, index) in indexes {
            text.push_str(&format!(" {} {} {path}\n", sha256(index), index.len()));
        }
        text
    }
}
