//! The OS layer in the cache: squashfs, hash tree, initramfs segment and loaders of a role.
//!
//! A layer is a folder named by the digest of its inputs, written under a temporary name and renamed, so
//! that it is whole or absent. It holds no secret and no cluster's name. What changes with the cluster
//! file is put around it by [`super::role`] without running any tool.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use uuid::Uuid;

use super::bios::{self, BOOT_CODE, BiosError, BiosLoader};
use super::host::MissingTool;
use super::initramfs::{self, InitramfsError, Packing};
use super::squashfs::{self, SquashfsError};
use super::verity::{self, VerityError};
use crate::digests::is_sha256;
use crate::files;
use crate::progress::interrupt::Temporary;
use crate::progress::{Counted, Progress, Unit};
use crate::rootfs::tree::{Content, RootTree};
use crate::rootfs::{FirmwareFacts, tar};
use crate::sources::cache::{CacheError, full_or_io, is_full};

/// Raised when a file is added to a layer or its making changes, so that an old layer is not taken for a new one.
const FORMAT: u32 = 2;
/// zstd level of the initramfs segment.
const INITRAMFS_LEVEL: i32 = 12;
/// Namespace of the GUIDs that are derived from a layer's digest.
const NAMESPACE: Uuid = Uuid::from_u128(0x8d3c_6f6e_3b57_5c6f_9f5a_0d2f_6d0b_7a11);

const SQUASHFS: &str = "root.squashfs";
const VERITY: &str = "root.verity";
const INITRAMFS: &str = "initramfs.cpio.zst";
const MICROCODE: &str = "microcode.cpio";
const KERNEL: &str = "vmlinuz";
const STUB: &str = "linuxx64.efi.stub";
const SYSTEMD_BOOT: &str = "systemd-bootx64.efi";
const BIOS_BOOT: &str = "bios-boot.img";
const BIOS_CORE: &str = "bios-core.img";
const FACTS: &str = "layer.json";

/// Why there is no layer.
#[derive(Debug, Error)]
pub enum LayerError {
    /// Host tool.
    #[error(transparent)]
    Tool(#[from] MissingTool),
    /// Squashfs.
    #[error(transparent)]
    Squashfs(#[from] SquashfsError),
    /// Hash tree.
    #[error(transparent)]
    Verity(#[from] VerityError),
    /// Initramfs.
    #[error(transparent)]
    Initramfs(#[from] InitramfsError),
    /// BIOS loader.
    #[error(transparent)]
    Bios(#[from] BiosError),
    /// The filesystem of the cache has no room.
    #[error(transparent)]
    Full(#[from] CacheError),
    /// A file could not be read or written.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// File.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not a digest.
    #[error("`{text}` is not a SHA-256 digest of 64 lower-case hexadecimal digits")]
    Digest {
        /// Text.
        text: String,
    },
    /// The cached layer is not whole.
    #[error("the cached OS layer {path} is damaged ({reason}): delete this folder and build again")]
    Damaged {
        /// Folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// What a layer is made from.
pub struct OsInputs<'a> {
    /// SHA-256 over all inputs, 64 lower-case hexadecimal digits; salt and UUID of the hash tree derive from it.
    pub digest: &'a str,
    /// The root.
    pub tree: &'a RootTree,
    /// What the initramfs holds besides the cluster layer.
    pub initramfs: &'a RootTree,
    /// Microcode, which the kernel takes from the front of the initramfs.
    pub microcode: Option<&'a RootTree>,
    /// What the trees have of packages of device firmware, for the record.
    pub firmware: Option<FirmwareFacts>,
    /// `vmlinuz`.
    pub kernel: &'a Content,
    /// `uname -r`.
    pub kernel_release: &'a str,
    /// `linuxx64.efi.stub` of systemd-boot-efi.
    pub stub: &'a Content,
    /// `systemd-bootx64.efi` of systemd-boot-efi.
    pub systemd_boot: &'a Content,
    /// The files of grub-pc-bin that [`bios::GRUB_FILES`] names.
    pub grub: &'a BTreeMap<String, Content>,
    /// Build time, seconds since the Unix epoch.
    pub epoch: u64,
}

/// `layer.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LayerFacts {
    /// Version of the layer's folder.
    pub format: u32,
    /// Root hash, 64 hexadecimal digits.
    pub root_hash: String,
    /// `uname -r`.
    pub kernel_release: String,
    /// What it has of packages of device firmware, if any were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<FirmwareFacts>,
    /// File name to bytes, for every file of the layer but this.
    pub files: BTreeMap<String, u64>,
}

/// A whole layer in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OsLayer {
    /// Its folder.
    pub folder: PathBuf,
    /// The digest that it was asked for with.
    pub digest: String,
    /// What was recorded.
    pub facts: LayerFacts,
}

/// Looks for the tools that making a layer runs.
pub fn check_tools() -> Result<(), MissingTool> {
    squashfs::check_tools()?;
    bios::check_tools()
}

/// The layer of this digest, if it is in the cache.
///
/// Sizes are compared, contents are not: a flipped bit is found by dm-verity on the node.
pub fn cached(cache: &Path, digest: &str) -> Result<Option<OsLayer>, LayerError> {
    let folder = folder_of(cache, digest)?;
    let path = folder.join(FACTS);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(LayerError::Io { action: "read", path, source }),
    };
    let damaged = |reason: String| LayerError::Damaged { path: folder.clone(), reason };
    let facts: LayerFacts =
        serde_json::from_slice(&text).map_err(|error| damaged(format!("{FACTS}: {error}")))?;
    for (name, size) in &facts.files {
        match folder.join(name).metadata() {
            Ok(found) if found.len() == *size => {}
            Ok(found) => return Err(damaged(format!("{name} has {} bytes instead of {size}", found.len()))),
            Err(error) => return Err(damaged(format!("{name}: {error}"))),
        }
    }
    Ok(Some(OsLayer { folder, digest: digest.to_owned(), facts }))
}

/// Makes the layer, or takes the one in the cache.
pub fn build(cache: &Path, inputs: &OsInputs<'_>, progress: &dyn Progress) -> Result<OsLayer, LayerError> {
    if let Some(layer) = cached(cache, inputs.digest)? {
        return Ok(layer);
    }
    check_tools()?;
    let folder = folder_of(cache, inputs.digest)?;
    let layers = cache.join("layers");
    let io = |action, path: &Path| {
        let path = path.to_owned();
        move |source| LayerError::Io { action, path, source }
    };
    std::fs::create_dir_all(&layers).map_err(io("create", &layers))?;
    let temporary =
        tempfile::Builder::new().prefix(".new-").tempdir_in(&layers).map_err(io("write into", &layers))?;
    let temporary = Temporary::new(temporary.keep());
    let facts = make(temporary.path(), inputs, progress)?;
    let json = serde_json::to_vec_pretty(&facts).map_err(|error| io("write", &folder)(error.into()))?;
    let path = temporary.path().join(FACTS);
    files::replace(&path, &json, 0o644).map_err(|source| not_written(&path, json.len(), source))?;

    if let Err(error) = std::fs::rename(temporary.path(), &folder) {
        // Another build of the same inputs was faster; its layer has the same bytes.
        return cached(cache, inputs.digest)?.ok_or_else(|| io("rename to", &folder)(error));
    }
    Ok(OsLayer { folder, digest: inputs.digest.to_owned(), facts })
}

/// Writes every file but `layer.json`. Squashfs takes longest and keeps tar2sqfs's threads busy; the rest is done
/// beside it.
fn make(folder: &Path, inputs: &OsInputs<'_>, progress: &dyn Progress) -> Result<LayerFacts, LayerError> {
    let (root, rest) = std::thread::scope(|scope| {
        let rest = scope.spawn(|| make_boot_files(folder, inputs));
        (make_root(folder, inputs, progress), rest.join())
    });
    let root_hash = root?;
    rest.expect("making the boot files does not panic")?;
    let mut files = BTreeMap::new();
    let always = [SQUASHFS, VERITY, INITRAMFS, KERNEL, STUB, SYSTEMD_BOOT, BIOS_BOOT, BIOS_CORE];
    for name in always.into_iter().chain(inputs.microcode.map(|_| MICROCODE)) {
        let path = folder.join(name);
        let size =
            path.metadata().map_err(|source| LayerError::Io { action: "look at", path, source })?.len();
        files.insert(name.to_owned(), size);
    }
    Ok(LayerFacts {
        format: FORMAT,
        root_hash,
        kernel_release: inputs.kernel_release.to_owned(),
        firmware: inputs.firmware.clone(),
        files,
    })
}

/// Squashfs and hash tree; returns the root hash.
fn make_root(folder: &Path, inputs: &OsInputs<'_>, progress: &dyn Progress) -> Result<String, LayerError> {
    let path = folder.join(SQUASHFS);
    let io = |action| {
        let path = path.clone();
        move |source| LayerError::Io { action, path, source }
    };
    let archive = tar::archive(inputs.tree).map_err(|error| SquashfsError::Feed(Box::new(error)))?;
    progress.begin("squashfs", Some(archive.len()), Unit::Bytes);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    // What the packer has taken is what it has packed, but for a few blocks.
    let feed = |out: &mut dyn Write| archive.copy_to(&mut Counted { out, step: "squashfs", progress });
    let size = squashfs::build(feed, inputs.epoch, threads, &path, progress)?;
    progress.end("squashfs", &format!("{} MB", size / 1_000_000));

    progress.begin("verity", None, Unit::Bytes);
    let mut data = File::open(&path).map_err(io("open"))?;
    let salt = Sha256::digest(format!("bootwright verity salt {}", inputs.digest));
    let uuid = Uuid::new_v5(&NAMESPACE, inputs.digest.as_bytes());
    let tree = verity::hash_tree(&mut data, &salt, uuid)?;
    // What tar2sqfs left in the page cache has to be on the disk before the layer gets its name.
    data.sync_all().map_err(|source| not_written(&path, 0, source))?;
    write(folder, VERITY, &tree.bytes)?;
    let root_hash = tree.root_hash_hex();
    progress.end("verity", &format!("root hash {}…", &root_hash[..12]));
    Ok(root_hash)
}

fn make_boot_files(folder: &Path, inputs: &OsInputs<'_>) -> Result<(), LayerError> {
    let segment = initramfs::segment(inputs.initramfs, inputs.epoch, Packing::Zstd(INITRAMFS_LEVEL))?;
    write(folder, INITRAMFS, &segment)?;
    if let Some(microcode) = inputs.microcode {
        // Plain: the kernel looks for it before it can unpack anything.
        write(folder, MICROCODE, &initramfs::segment(microcode, inputs.epoch, Packing::Plain)?)?;
    }
    for (name, content) in [(KERNEL, inputs.kernel), (STUB, inputs.stub), (SYSTEMD_BOOT, inputs.systemd_boot)]
    {
        let bytes =
            content.read().map_err(|source| LayerError::Io { action: "read", path: name.into(), source })?;
        write(folder, name, &bytes)?;
    }
    let loader = bios::loader(inputs.grub)?;
    write(folder, BIOS_BOOT, &loader.boot_code)?;
    write(folder, BIOS_CORE, &loader.core)
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), LayerError> {
    let path = folder.join(name);
    files::replace(&path, bytes, 0o644).map_err(|source| not_written(&path, bytes.len(), source))
}

/// A file of the layer that could not be written; a full filesystem is told apart.
fn not_written(path: &Path, length: usize, source: io::Error) -> LayerError {
    match is_full(&source) {
        true => full_or_io("write", path, length as u64, source).into(),
        false => LayerError::Io { action: "write", path: path.to_owned(), source },
    }
}

/// `<cache>/layers/<digest>-<format>`.
fn folder_of(cache: &Path, digest: &str) -> Result<PathBuf, LayerError> {
    if !is_sha256(digest) {
        return Err(LayerError::Digest { text: digest.to_owned() });
    }
    Ok(cache.join("layers").join(format!("{digest}-{FORMAT}")))
}

impl OsLayer {
    /// The squashfs.
    pub fn squashfs(&self) -> PathBuf {
        self.folder.join(SQUASHFS)
    }

    /// The hash tree.
    pub fn verity(&self) -> PathBuf {
        self.folder.join(VERITY)
    }

    /// Bytes of the squashfs.
    pub fn squashfs_size(&self) -> u64 {
        self.size(SQUASHFS)
    }

    /// Bytes of the hash tree.
    pub fn verity_size(&self) -> u64 {
        self.size(VERITY)
    }

    /// Contents of the kernel.
    pub fn kernel(&self) -> Result<Vec<u8>, LayerError> {
        self.read(KERNEL)
    }

    /// The OS segment of the initramfs.
    pub fn initramfs(&self) -> Result<Vec<u8>, LayerError> {
        self.read(INITRAMFS)
    }

    /// The segment that comes before it, if there is any: microcode.
    pub fn microcode(&self) -> Result<Option<Vec<u8>>, LayerError> {
        self.facts.files.contains_key(MICROCODE).then(|| self.read(MICROCODE)).transpose()
    }

    /// systemd's EFI stub.
    pub fn stub(&self) -> Result<Vec<u8>, LayerError> {
        self.read(STUB)
    }

    /// systemd-boot.
    pub fn systemd_boot(&self) -> Result<Vec<u8>, LayerError> {
        self.read(SYSTEMD_BOOT)
    }

    /// Boot code and core image for a BIOS.
    pub fn bios(&self) -> Result<BiosLoader, LayerError> {
        let boot = self.read(BIOS_BOOT)?;
        let boot_code: [u8; BOOT_CODE] = boot.try_into().map_err(|boot: Vec<u8>| LayerError::Damaged {
            path: self.folder.clone(),
            reason: format!("{BIOS_BOOT} has {} bytes instead of {BOOT_CODE}", boot.len()),
        })?;
        Ok(BiosLoader { boot_code, core: self.read(BIOS_CORE)? })
    }

    fn size(&self, name: &str) -> u64 {
        self.facts.files.get(name).copied().unwrap_or(0)
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, LayerError> {
        let path = self.folder.join(name);
        std::fs::read(&path).map_err(|source| LayerError::Io { action: "read", path, source })
    }
}

#[cfg(test)]
#[path = "layer_tests.rs"]
mod tests;
