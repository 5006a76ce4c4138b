//! An image of one layer, made of packages, files and links.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::spec::{self, Config, Descriptor, Manifest, Platform, RootFs, Run};
use super::{Blobs, Image, ImageError, digest_of};
use crate::rootfs::globs::Globs;
use crate::rootfs::packages::{self, Package, Selection};
use crate::rootfs::setup;
use crate::rootfs::tar;
use crate::rootfs::tree::{Content, Entry, Kind, RootTree};

/// What an image is made of; fields as in [`super::ImageSpec::Composed`].
pub(super) struct Recipe<'a> {
    pub name: &'a str,
    pub packages: &'a [Package],
    pub keep: &'a [String],
    pub files: &'a BTreeMap<String, PathBuf>,
    pub links: &'a BTreeMap<String, String>,
    pub entrypoint: &'a [String],
}

pub(super) fn compose(recipe: &Recipe) -> Result<Image, ImageError> {
    let tree = tree(recipe)?;
    let program =
        recipe.entrypoint.first().ok_or_else(|| ImageError::NoEntryPoint(recipe.name.to_owned()))?;
    let found = tree.resolve(program).is_some_and(|(_, entry)| matches!(entry.kind, Kind::File(_)));
    if program.starts_with('/') && !found {
        let count = tree.entries.values().filter(|entry| matches!(entry.kind, Kind::File(_))).count();
        return Err(ImageError::EntryPoint { name: recipe.name.to_owned(), program: program.clone(), count });
    }
    let contents = |source| ImageError::Contents { name: recipe.name.to_owned(), source };
    let layer = tar::archive(&tree).map_err(contents)?;
    let layer_digest = format!("sha256:{}", layer.sha256().map_err(contents)?);
    let platform = Platform::ours();
    let config = spec::json(&Config {
        architecture: platform.architecture,
        os: platform.os,
        config: Run {
            env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()],
            entrypoint: recipe.entrypoint.to_vec(),
        },
        rootfs: RootFs { kind: "layers".to_owned(), diff_ids: vec![layer_digest.clone()] },
    });
    let manifest = spec::json(&Manifest {
        schema_version: 2,
        media_type: spec::MANIFEST.to_owned(),
        config: Descriptor::new(spec::CONFIG, digest_of(&config), config.len() as u64),
        layers: vec![Descriptor::new(spec::LAYER, layer_digest.clone(), layer.len())],
    });
    let mut descriptor = Descriptor::new(spec::MANIFEST, digest_of(&manifest), manifest.len() as u64);
    descriptor.platform = Some(Platform::ours());
    let blobs: Blobs = [
        (layer_digest, layer),
        (digest_of(&config), Content::bytes(config)),
        (digest_of(&manifest), Content::bytes(manifest)),
    ]
    .into();
    Ok(Image { manifest: descriptor, blobs })
}

fn tree(recipe: &Recipe) -> Result<RootTree, ImageError> {
    let name = recipe.name;
    let tree_error = |source| ImageError::Tree { name: name.to_owned(), source: Box::new(source) };
    let glob_error = |source| ImageError::Glob { name: name.to_owned(), source };
    let mut tree = RootTree::default();
    // With `keep`, all but that is pruned.
    let all = if recipe.keep.is_empty() { Vec::new() } else { vec!["/**".to_owned()] };
    let prune = Globs::new("keep", &all).map_err(glob_error)?;
    let keep = Globs::new("keep", recipe.keep).map_err(glob_error)?;
    for package in recipe.packages {
        packages::lay(&mut tree, package, &Selection { prune: &prune, keep: &keep })
            .map_err(|source| ImageError::Package { name: name.to_owned(), source: Box::new(source) })?;
    }
    if !recipe.packages.is_empty() {
        setup::merged_usr(&mut tree).map_err(tree_error)?;
    }
    let origin: Arc<str> = format!("image {name}").into();
    for (path, file) in recipe.files {
        let read = |source| ImageError::Read { name: name.to_owned(), path: file.clone(), source };
        let executable = std::fs::metadata(file).map_err(read)?.permissions().mode() & 0o111 != 0;
        let content = Content::file(file).map_err(read)?;
        let mode = if executable { 0o755 } else { 0o644 };
        tree.insert(path, Entry::new(Kind::File(content), mode, &origin)).map_err(tree_error)?;
    }
    for (path, target) in recipe.links {
        tree.insert(path, Entry::link(target.as_str(), &origin)).map_err(tree_error)?;
    }
    Ok(tree)
}
