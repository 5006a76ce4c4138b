//! What the tests of this module stand on: packages made in memory, a signed archive in a folder, and a
//! small server on loopback that can misbehave.

mod repository;
mod server;

use std::io::Write;

pub use repository::{Repository, Signer};
pub use server::{Fault, Server, refusing_port};

/// How `control.tar` and `data.tar` of a package are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    Plain,
    Gzip,
    Xz,
    Zstd,
}

/// A package with the file `/usr/share/<name>`, and those that a test adds.
#[derive(Debug, Clone)]
pub struct Deb {
    pub name: String,
    pub version: String,
    pub fields: Vec<(String, String)>,
    pub contents: Vec<u8>,
    /// Absolute path, contents.
    pub files: Vec<(String, Vec<u8>)>,
}

impl Deb {
    pub fn new(name: &str, version: &str) -> Deb {
        let contents = format!("{name} {version}\n").into_bytes();
        let (fields, files) = (Vec::new(), Vec::new());
        Deb { name: name.to_owned(), version: version.to_owned(), fields, contents, files }
    }

    pub fn field(mut self, name: &str, value: &str) -> Deb {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn contents(mut self, contents: Vec<u8>) -> Deb {
        self.contents = contents;
        self
    }

    pub fn file(mut self, path: &str, contents: impl Into<Vec<u8>>) -> Deb {
        self.files.push((path.to_owned(), contents.into()));
        self
    }

    /// The paragraph of `control`, and the first half of the one in Packages.
    pub fn control(&self) -> String {
        let mut text = format!("Package: {}\nVersion: {}\nArchitecture: amd64\n", self.name, self.version);
        for (name, value) in &self.fields {
            text.push_str(&format!("{name}: {value}\n"));
        }
        text + "Description: for a test\n which makes it itself\n"
    }

    /// The package as a file.
    pub fn packed(&self, packing: Packing) -> Vec<u8> {
        let ending = match packing {
            Packing::Plain => "",
            Packing::Gzip => ".gz",
            Packing::Xz => ".xz",
            Packing::Zstd => ".zst",
        };
        let control = compress(&tar(&[("/control".to_owned(), self.control().into_bytes())]), packing);
        let mut files = vec![(format!("/usr/share/{}", self.name), self.contents.clone())];
        files.extend(self.files.iter().cloned());
        let data = compress(&tar(&files), packing);
        let mut builder = ar::Builder::new(Vec::new());
        let mut append = |name: String, bytes: &[u8]| {
            let header = ar::Header::new(name.into_bytes(), bytes.len() as u64);
            builder.append(&header, bytes).unwrap();
        };
        append("debian-binary".to_owned(), b"2.0\n");
        append(format!("control.tar{ending}"), &control);
        append(format!("data.tar{ending}"), &data);
        builder.into_inner().unwrap()
    }
}

fn tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        // By hand: the crate drops the leading "./" that dpkg writes.
        let name = format!(".{path}");
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_cksum();
        builder.append(&header, bytes.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

pub fn compress(bytes: &[u8], packing: Packing) -> Vec<u8> {
    match packing {
        Packing::Plain => bytes.to_vec(),
        Packing::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        Packing::Xz => {
            let options = lzma_rust2::XzOptions::with_preset(1);
            let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        Packing::Zstd => zstd::encode_all(bytes, 1).unwrap(),
    }
}
