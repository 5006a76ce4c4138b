//! The OS layer of a role: its digest from all inputs, and building it when the cache has none.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bootwright_model::probe::PROBE_IMAGE;
use bootwright_model::profile::Profile;
use bootwright_model::workload_image::WorkloadImage;

use super::inputs::{BIOS_SET, UEFI_SET, firmware_set, image_set, os_set};
use super::runtime::Runtime;
use super::{Build, ComposeError};
use crate::cluster::Loaded;
use crate::digests::sha256;
use crate::image::bios::GRUB_FILES;
use crate::image::layer::{OsInputs, OsLayer};
use crate::rootfs::oci::PAUSE_IMAGE;
use crate::rootfs::overlays::Overlay;
use crate::rootfs::packages::Package;
use crate::rootfs::tree::{Content, Entry, Kind, RootTree};
use crate::rootfs::{self, ImageSpec, RootError, RootSpec};
use crate::sources::{Cache, FetchedPackage, Inputs, Pinned};

/// Digest of the source code that makes a layer (see `build.rs`), an input like the others.
const RECIPE: &str = env!("BOOTWRIGHT_RECIPE");

const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";
const SYSTEMD_BOOT: &str = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi";
const GRUB_MODULES: &str = "/usr/lib/grub/i386-pc";

/// What an OS layer is made from, besides a profile.
pub struct LayerInputs<'a> {
    /// The cluster file.
    pub loaded: &'a Loaded,
    /// Our own programs.
    pub runtime: &'a Runtime,
    /// Which packages, binaries and files.
    pub pinned: &'a Pinned,
    /// Build time, seconds since the Unix epoch.
    pub epoch: u64,
}

/// Digest of everything that the OS layer is made from: known from the lock and from stat(2) alone,
/// so that an unchanged layer costs no reading.
pub fn digest(inputs: &LayerInputs, profile: &Profile, cache: &Cache) -> Result<String, ComposeError> {
    let LayerInputs { loaded, runtime, pinned, epoch } = inputs;
    let (firstboot, _) = cache.digest_file(&runtime.firstboot)?;
    let (agent, _) = cache.digest_file(&runtime.agent)?;
    let (pause, _) = cache.digest_file(&runtime.pause)?;
    let (probe, _) = cache.digest_file(&runtime.probe)?;
    let images = &loaded.file.images;
    let sets: Vec<String> =
        [os_set(&profile.role), firmware_set(&profile.role), UEFI_SET.to_owned(), BIOS_SET.to_owned()]
            .into_iter()
            .chain(images.iter().map(image_set))
            .collect();
    // Versions too, although the digests say more: one that somebody changed in the lock is noticed only when
    // the packages are opened.
    let packages: BTreeMap<&str, Vec<[&str; 4]>> =
        sets.iter()
            .map(|set| {
                let packages = pinned.packages(set).into_iter().map(|package| {
                    [&*package.name, &*package.version, &*package.architecture, &*package.sha256]
                });
                (&**set, packages.collect())
            })
            .collect();
    // Those of other roles of the cluster do not matter here.
    let binaries = pinned.binaries().into_iter().filter(|binary| profile.binaries.contains(&binary.name));
    let binaries: Vec<_> = binaries.map(|binary| (&*binary.name, &*binary.sha256)).collect();
    let files: Vec<_> = pinned.files().iter().map(|(path, file)| (&**path, &*file.sha256)).collect();
    let mut overlays = Vec::new();
    for name in &profile.overlays {
        let mut tree = RootTree::default();
        Overlay::load(name, Some(&loaded.folder))
            .and_then(|overlay| overlay.lay(&mut tree))
            .map_err(RootError::from)?;
        overlays.push((name, tree.digest()));
    }
    let mut inputs = serde_json::json!({
        "recipe": RECIPE,
        "epoch": epoch,
        "kubernetes": loaded.file.kubernetes.version,
        "profile": profile,
        "overlays": overlays,
        "packages": packages,
        "binaries": binaries,
        "images": images,
        "files": files,
        "firstboot": firstboot,
        "agent": agent,
        "pause": pause,
        "probe": probe,
        // Their names are in no file that has a digest here.
        "own-images": [PAUSE_IMAGE, PROBE_IMAGE],
    });
    inputs.sort_all_objects();
    Ok(sha256(inputs.to_string().as_bytes()))
}

/// Fetches what is missing, lays the tree and makes the layer.
pub(super) fn build(build: &Build, profile: &Profile, digest: &str) -> Result<OsLayer, ComposeError> {
    let inputs = build.pinned.fetch(build.cache, build.progress)?;
    build.progress.checkpoint()?;
    let packages = unpacked(&inputs, &os_set(&profile.role));
    let firmware = unpacked(&inputs, &firmware_set(&profile.role));
    let images: Vec<ImageSpec> =
        build.loaded.file.images.iter().map(|image| image_spec(image, &inputs)).collect();
    let composed = rootfs::build(&RootSpec {
        profile,
        kubernetes: &build.loaded.file.kubernetes.version,
        packages: &packages,
        firmware: &firmware,
        binaries: &inputs.binaries,
        firstboot: &build.runtime.firstboot,
        agent: &build.runtime.agent,
        pause: &build.runtime.pause,
        probe: &build.runtime.probe,
        beside: Some(&build.loaded.folder),
        images: &images,
    })?;
    build.progress.checkpoint()?;
    let loaders = Loaders::find(&inputs)?;
    Ok(crate::image::layer::build(
        build.cache.root(),
        &OsInputs {
            digest,
            tree: &composed.tree,
            initramfs: &composed.initramfs,
            microcode: composed.microcode.as_ref(),
            firmware: composed.firmware,
            kernel: &composed.kernel,
            kernel_release: &composed.os.kernel_release,
            stub: &loaders.stub,
            systemd_boot: &loaders.systemd_boot,
            grub: &loaders.grub,
            epoch: build.epoch(),
        },
        build.progress,
    )?)
}

/// A tree of root-only files below `folder`: 0600 in folders of 0700.
pub fn private_tree(folder: &str, files: BTreeMap<String, Vec<u8>>) -> Result<RootTree, ComposeError> {
    let mut tree = RootTree::default();
    let entry =
        |kind, mode| Entry { kind, mode, uid: 0, gid: 0, capability: None, origin: "cluster layer".into() };
    tree.insert(folder, entry(Kind::Folder, 0o700))?;
    for (name, contents) in files {
        let path = format!("{folder}/{name}");
        let parent = &path[..path.rfind('/').unwrap_or(0)];
        if tree.get(parent).is_none() {
            tree.insert(parent, entry(Kind::Folder, 0o700))?;
        }
        tree.insert(&path, entry(Kind::File(Content::Bytes(contents.into())), 0o600))?;
    }
    Ok(tree)
}

/// Single files out of the loaders' packages.
struct Loaders {
    stub: Content,
    systemd_boot: Content,
    grub: BTreeMap<String, Content>,
}

impl Loaders {
    fn find(inputs: &Inputs) -> Result<Loaders, ComposeError> {
        let file = |set: &str, path: &str| -> Result<Content, ComposeError> {
            let packages = unpacked(inputs, set);
            let package = packages.first().expect("a loader set names one package");
            Ok(rootfs::packages::file(package, path)?)
        };
        let mut grub = BTreeMap::new();
        for name in GRUB_FILES {
            grub.insert((*name).to_owned(), file(BIOS_SET, &format!("{GRUB_MODULES}/{name}"))?);
        }
        Ok(Loaders { stub: file(UEFI_SET, STUB)?, systemd_boot: file(UEFI_SET, SYSTEMD_BOOT)?, grub })
    }
}

fn image_spec(image: &WorkloadImage, inputs: &Inputs) -> ImageSpec {
    let local = |name: &String| -> PathBuf { inputs.files[name].path.clone() };
    match &image.archive {
        Some(archive) => ImageSpec::Archive { name: image.name.clone(), path: local(archive) },
        None => ImageSpec::Composed {
            name: image.name.clone(),
            packages: unpacked(inputs, &image_set(image)),
            keep: image.keep.clone(),
            files: image.files.iter().map(|(target, file)| (target.clone(), local(file))).collect(),
            links: image.links.clone(),
            entrypoint: image.entrypoint.clone(),
        },
    }
}

fn unpacked(inputs: &Inputs, set: &str) -> Vec<Package> {
    let fetched = inputs.packages.get(set).map(Vec::as_slice).unwrap_or_default();
    fetched.iter().map(as_package).collect()
}

fn as_package(fetched: &FetchedPackage) -> Package {
    Package {
        name: fetched.name.clone(),
        version: fetched.version.clone(),
        sha256: fetched.deb.sha256.clone(),
        data: fetched.data_tar.clone(),
    }
}
