//! Takes one image for linux/amd64 out of an OCI archive; its blobs stay where they are in the file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use serde::de::DeserializeOwned;

use super::spec::{self, Config, Descriptor, Index, Manifest, Platform};
use super::{Blobs, Image, ImageError};
use crate::rootfs::tree::Content;

/// Nested indexes are followed this deep; a circle is impossible, but a file can be hostile.
const DEEPEST: usize = 4;
/// JSON documents larger than this are none.
const LARGEST_DOCUMENT: u64 = 4 << 20;

/// Reads the image of an archive; every blob that comes along is checked against its digest.
pub(super) fn read(name: &str, path: &Path) -> Result<Image, ImageError> {
    let archive = Archive::open(name, path)?;
    let index: Index = archive.json("index.json", archive.file("index.json")?)?;
    let manifest = archive.choose(index, 0)?;
    let mut blobs = Blobs::new();
    let document: Manifest = archive.json(&manifest.digest, &archive.blob(&manifest)?)?;
    let config: Config = archive.json(&document.config.digest, &archive.blob(&document.config)?)?;
    if (config.os.as_str(), config.architecture.as_str()) != ("linux", "amd64") {
        return Err(archive.wrong(format!(
            "its image is for {}/{}, nodes are linux/amd64; export the image for that platform",
            config.os, config.architecture
        )));
    }
    for descriptor in [&manifest, &document.config].into_iter().chain(&document.layers) {
        blobs.insert(descriptor.digest.clone(), archive.blob(descriptor)?);
    }
    let platform = Some(Platform::ours());
    Ok(Image { manifest: Descriptor { platform, ..manifest }, blobs })
}

struct Archive<'a> {
    name: &'a str,
    path: &'a Path,
    files: BTreeMap<String, Content>,
}

impl<'a> Archive<'a> {
    fn open(name: &'a str, path: &'a Path) -> Result<Archive<'a>, ImageError> {
        let mut archive = Archive { name, path, files: BTreeMap::new() };
        let read = |source| ImageError::Read { name: name.to_owned(), path: path.to_owned(), source };
        let mut start = Vec::new();
        let mut file = File::open(path).map_err(read)?;
        std::io::Read::read_to_end(&mut std::io::Read::take(&mut file, 6), &mut start).map_err(read)?;
        let compressed = [b"\x1f\x8b".as_slice(), b"\x28\xb5\x2f\xfd", b"\xfd7zXZ", b"BZh"];
        if compressed.iter().any(|magic| start.starts_with(magic)) {
            return Err(archive.wrong(
                "it is compressed; decompress it first (the image is compressed as a whole)".to_owned(),
            ));
        }
        let file = BufReader::with_capacity(4 << 10, File::open(path).map_err(read)?);
        let no_tar = |e: std::io::Error| archive.wrong(format!("it is no tar archive, or cut off: {e}"));
        let mut files = BTreeMap::new();
        for member in tar::Archive::new(file).entries_with_seek().map_err(no_tar)? {
            let member = member.map_err(no_tar)?;
            if member.header().entry_type().is_file() {
                let place = String::from_utf8_lossy(&member.path_bytes()).trim_start_matches("./").to_owned();
                let content = Content::Range {
                    path: path.to_owned(),
                    offset: member.raw_file_position(),
                    length: member.size(),
                    // Blobs get their digest when they are taken.
                    source: "".into(),
                };
                files.insert(place, content);
            }
        }
        archive.files = files;
        Ok(archive)
    }

    fn wrong(&self, what: String) -> ImageError {
        ImageError::Archive { name: self.name.to_owned(), path: self.path.to_owned(), what }
    }

    fn file(&self, place: &str) -> Result<&Content, ImageError> {
        self.files.get(place).ok_or_else(|| {
            let docker = self.files.contains_key("manifest.json") && !self.files.contains_key("oci-layout");
            self.wrong(if docker {
                "it is an archive as `docker save` of old wrote them; convert it to an OCI archive \
                 (skopeo copy docker-archive:IN oci-archive:OUT)"
                    .to_owned()
            } else {
                format!(
                    "it has no {place}; it is no OCI archive (a tar of an OCI image layout), or not whole"
                )
            })
        })
    }

    fn json<T: DeserializeOwned>(&self, what: &str, content: &Content) -> Result<T, ImageError> {
        if content.len() > LARGEST_DOCUMENT {
            return Err(
                self.wrong(format!("{what} has {} bytes, too many for a JSON document", content.len()))
            );
        }
        let bytes = content.read().map_err(|e| self.wrong(e.to_string()))?;
        serde_json::from_slice(&bytes)
            .map_err(|e| self.wrong(format!("{what} is not as the OCI image format has it: {e}")))
    }

    /// The blob of a descriptor, its size and digest checked.
    fn blob(&self, descriptor: &Descriptor) -> Result<Content, ImageError> {
        let Descriptor { digest, size, .. } = descriptor;
        let Some(hex) = digest.strip_prefix("sha256:") else {
            return Err(self.wrong(format!("blob {digest} has a digest of another kind than sha256")));
        };
        let content = self.file(&format!("blobs/sha256/{hex}"))?;
        let found = content.sha256().map_err(|e| self.wrong(e.to_string()))?;
        if content.len() != *size || found != hex {
            return Err(self.wrong(format!(
                "blob {digest} is damaged: it should have {size} bytes and has {}, with SHA-256 {found}; export the image again",
                content.len()
            )));
        }
        let Content::Range { path, offset, length, .. } = content.clone() else { return Ok(content.clone()) };
        // From now on the range counts as these bytes: the source is their own digest, so the place does not matter.
        Ok(Content::Range { path, offset, length, source: hex.into() })
    }

    /// The one manifest for linux/amd64 that an index leads to.
    fn choose(&self, index: Index, depth: usize) -> Result<Descriptor, ImageError> {
        let fits = |descriptor: &Descriptor| {
            descriptor.platform.as_ref().is_none_or(|platform| *platform == Platform::ours())
        };
        let all = index.manifests.len();
        let mut fitting: Vec<Descriptor> = index.manifests.into_iter().filter(fits).collect();
        let (Some(descriptor), true) = (fitting.pop(), fitting.is_empty()) else {
            return Err(self.wrong(format!(
                "it has {all} images, and {} of them are for linux/amd64; an archive for `[[image]]` has one",
                if fitting.is_empty() { 0 } else { fitting.len() + 1 }
            )));
        };
        match descriptor.media_type.as_str() {
            spec::MANIFEST | spec::DOCKER_MANIFEST => Ok(descriptor),
            spec::INDEX | spec::DOCKER_LIST if depth < DEEPEST => {
                let nested = self.json(&descriptor.digest, &self.blob(&descriptor)?)?;
                self.choose(nested, depth + 1)
            }
            other => Err(self.wrong(format!("its index leads to a {other}, which is no image manifest"))),
        }
    }
}
