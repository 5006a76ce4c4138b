//! Workload images: composed by the code that composes the root, or taken from OCI archives, and merged
//! into one OCI archive that containerd imports at first boot.

mod archive;
mod compose;
mod spec;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::globs::GlobError;
use super::packages::{Package, PackageError};
use super::tar::Writer;
use super::tree::{Content, TreeError};
use crate::digests::sha256;
use spec::{Descriptor, Index};

/// Reference of the pause image, which containerd's sandbox image is pinned to.
pub const PAUSE_IMAGE: &str = "bootwright.local/pause:1";

/// One image to be baked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSpec {
    /// From an OCI archive (tar) that holds one image for linux/amd64.
    Archive {
        /// Reference that pods use.
        name: String,
        /// The tar.
        path: PathBuf,
    },
    /// Composed.
    Composed {
        /// Reference that pods use.
        name: String,
        /// Unpacked packages.
        packages: Vec<Package>,
        /// Globs of the packages' paths that come along; all if empty.
        keep: Vec<String>,
        /// Path in the image to a file of this machine, which is 0755 if anybody may execute it, else 0644.
        files: BTreeMap<String, PathBuf>,
        /// Path in the image to a link's target.
        links: BTreeMap<String, String>,
        /// Entry point with its arguments.
        entrypoint: Vec<String>,
    },
}

impl ImageSpec {
    /// Reference that pods use.
    pub fn name(&self) -> &str {
        match self {
            ImageSpec::Archive { name, .. } | ImageSpec::Composed { name, .. } => name,
        }
    }
}

/// Why an image could not be made or taken.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Two images of one name.
    #[error("image {0}: two images have this name; rename one")]
    Twice(String),
    /// A reference that containerd would not find again.
    #[error("image {name}: {what}; write it as host/name:tag, for example bootwright.local/web:1")]
    Name {
        /// As written.
        name: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A file of this machine could not be read.
    #[error("image {name}: {path}: {source}")]
    Read {
        /// Reference.
        name: String,
        /// On this machine.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An archive is none that can be baked.
    #[error("image {name}: {path}: {what}")]
    Archive {
        /// Reference.
        name: String,
        /// On this machine.
        path: PathBuf,
        /// What is wrong, and what to do.
        what: String,
    },
    /// The entry point is not in the image.
    #[error(
        "image {name}: its entry point {program} is not in the image; it has {count} files, correct the path or `keep` it"
    )]
    EntryPoint {
        /// Reference.
        name: String,
        /// First word of the entry point.
        program: String,
        /// Files in the image.
        count: usize,
    },
    /// The entry point is missing.
    #[error("image {0}: a composed image needs an `entrypoint`")]
    NoEntryPoint(String),
    /// A package of it.
    #[error("image {name}: {source}")]
    Package {
        /// Reference.
        name: String,
        /// Why.
        source: Box<PackageError>,
    },
    /// It cannot be in the image.
    #[error("image {name}: {source}")]
    Tree {
        /// Reference.
        name: String,
        /// Why.
        source: Box<TreeError>,
    },
    /// A glob.
    #[error("image {name}: {source}")]
    Glob {
        /// Reference.
        name: String,
        /// Why.
        source: GlobError,
    },
    /// The contents of a blob could not be read.
    #[error("image {name}: {source}")]
    Contents {
        /// Reference.
        name: String,
        /// Why.
        source: std::io::Error,
    },
}

/// An image: its manifest, and every blob that the manifest leads to, itself included.
struct Image {
    manifest: Descriptor,
    blobs: Blobs,
}

/// Contents by digest (`sha256:…`).
type Blobs = BTreeMap<String, Content>;

/// All images in one OCI archive (an OCI image layout in a tar), each under its name.
///
/// Layers are not compressed: the squashfs does that, and better.
pub fn archive(images: &[ImageSpec]) -> Result<Content, ImageError> {
    let mut blobs = Blobs::new();
    let mut manifests = Vec::new();
    let mut names = BTreeSet::new();
    for spec in images {
        check_name(spec.name())?;
        if !names.insert(spec.name()) {
            return Err(ImageError::Twice(spec.name().to_owned()));
        }
        let image = match spec {
            ImageSpec::Archive { name, path } => archive::read(name, path)?,
            ImageSpec::Composed { name, packages, keep, files, links, entrypoint } => {
                compose::compose(&compose::Recipe { name, packages, keep, files, links, entrypoint })?
            }
        };
        manifests.push(image.manifest.named(spec.name()));
        blobs.extend(image.blobs);
    }
    manifests.sort_by(|a, b| a.annotations.cmp(&b.annotations));
    layout(&blobs, &Index::new(manifests))
        .map_err(|source| ImageError::Contents { name: "*".to_owned(), source })
}

fn layout(blobs: &Blobs, index: &Index) -> std::io::Result<Content> {
    let mut writer = Writer::default();
    // Sorted, and `oci-layout` and `index.json` after the blobs, as the names are.
    for (digest, content) in blobs {
        writer.plain_file(&format!("blobs/{}", digest.replace(':', "/")), content)?;
    }
    writer.plain_file("index.json", &Content::bytes(spec::json(index)))?;
    writer.plain_file("oci-layout", &Content::bytes(*br#"{"imageLayoutVersion":"1.0.0"}"#))?;
    Ok(writer.finish())
}

/// containerd keeps images by their whole reference: a name without host or tag would never be found by
/// the kubelet, which completes what a pod says with `docker.io/library/` and `:latest`.
fn check_name(name: &str) -> Result<(), ImageError> {
    let wrong = |what| Err(ImageError::Name { name: name.to_owned(), what });
    let (rest, digest) = name.split_once('@').map_or((name, None), |(rest, digest)| (rest, Some(digest)));
    if digest.is_some() {
        return wrong("a name with a digest cannot be given to an image");
    }
    let Some((host, path)) = rest.split_once('/') else { return wrong("there is no host in it") };
    if !(host.contains(['.', ':']) || host == "localhost") {
        return wrong("the first part is no host");
    }
    let Some((path, tag)) = path.rsplit_once(':') else { return wrong("there is no tag in it") };
    let good = |text: &str, more: &str| {
        !text.is_empty()
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || more.contains(c))
    };
    if !path.split('/').all(|part| good(part, "._-")) {
        return wrong("a path has lower-case letters, digits, `.`, `_` and `-` only");
    }
    if tag.len() > 128
        || !tag.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        || tag.is_empty()
    {
        return wrong("the tag has other characters than letters, digits, `.`, `_` and `-`");
    }
    Ok(())
}

fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", sha256(bytes))
}

#[cfg(test)]
mod tests;
