//! A role's disk image: the cached OS layer with the cluster layer around it.
//!
//! Runs no tool and reads nothing but the layer: this is all that a changed cluster file costs.

use std::path::Path;

use sha2::{Digest as _, Sha256};
use thiserror::Error;
use uuid::Uuid;

use bootwright_model::layout;

use super::bios::{self, BiosError};
use super::disk::{self, DiskError, DiskSpec, DiskSummary, Part, SectorSize};
use super::esp::{self, EspSpec};
use super::fat::{self, FatError, FatSpec};
use super::initramfs::{self, InitramfsError, Packing};
use super::layer::{LayerError, OsLayer};
use super::uki::{self, Uki, UkiError, UkiSpec};
use crate::progress::{Progress, Unit};
use crate::rootfs::tree::RootTree;

/// Namespace of the GUIDs that are derived from an image's contents.
const NAMESPACE: Uuid = Uuid::from_u128(0x5b0f_32c1_6f0e_5d6a_8c1e_94a2_5d7e_3f20);
/// Size of the seed partition, bytes.
const SEED_SIZE: u64 = 8 << 20;
/// Name of the seed's file.
const SEED_FILE: &str = "node.toml";

/// Why no image was written.
#[derive(Debug, Error)]
pub enum RoleError {
    /// The OS layer could not be read.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// Cluster segment.
    #[error(transparent)]
    Initramfs(#[from] InitramfsError),
    /// UKI or command line.
    #[error(transparent)]
    Uki(#[from] UkiError),
    /// ESP or seed.
    #[error(transparent)]
    Fat(#[from] FatError),
    /// BIOS loader.
    #[error(transparent)]
    Bios(#[from] BiosError),
    /// Disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A name that does not do for files.
    #[error("`{name}` cannot name an image: use letters, digits, `-`, `_`, `.` and `+`, at most 64")]
    Name {
        /// Name.
        name: String,
    },
    /// Text that would break os-release.
    #[error("{text:?} cannot stand in os-release: leave out quotes, `$`, backslashes and control characters")]
    OsRelease {
        /// Text.
        text: String,
    },
    /// The command line has a root hash of its own.
    #[error("the kernel argument `{argument}` is set by the builder: remove it from `command-line`")]
    Reserved {
        /// Argument.
        argument: String,
    },
}

/// What a role's image is made of, besides the OS layer.
#[derive(Debug, Clone, Copy)]
pub struct RoleImage<'a> {
    /// Name of the slot: the UKI is `EFI/Linux/<name>.efi`.
    pub name: &'a str,
    /// For people, in the loader's menu: `PRETTY_NAME` of os-release(5).
    pub title: &'a str,
    /// `IMAGE_VERSION` of os-release(5); systemd-boot sorts by it.
    pub version: &'a str,
    /// Kernel arguments; the root hash is put in front.
    pub command_line: &'a [String],
    /// What the second initramfs segment holds: files below [`layout::INITRAMFS_CLUSTER`].
    pub cluster_layer: &'a RootTree,
    /// `node.toml` for the seed partition.
    pub seed: Option<&'a [u8]>,
    /// Sectors of the disk.
    pub sector_size: SectorSize,
    /// Build time, seconds since the Unix epoch.
    pub epoch: u64,
}

/// Writes the image to `out`.
pub fn write(
    layer: &OsLayer,
    image: &RoleImage<'_>,
    out: &Path,
    progress: &dyn Progress,
) -> Result<DiskSummary, RoleError> {
    progress.begin("disk", None, Unit::Bytes);
    let uki = uki(layer, image)?;
    let uki_name = format!("{}.efi", image.name);
    let bios_loader = if image.sector_size == SectorSize::S512 { Some(layer.bios()?) } else { None };
    let bios_config =
        bios_loader.as_ref().map(|_| bios::config(&uki, &esp::uki_path(&uki_name))).transpose()?;

    // Everything on the ESP that differs between images is in the UKI, or follows from it.
    let identity =
        Sha256::new().chain_update(&uki.bytes).chain_update(image.seed.unwrap_or_default()).finalize();
    let guid = Uuid::new_v5(&NAMESPACE, &identity);
    let esp = esp::image(&EspSpec {
        systemd_boot: &layer.systemd_boot()?,
        uki_name: &uki_name,
        uki: &uki.bytes,
        bios_config: bios_config.as_deref(),
        volume_id: volume_id(guid, 0),
        sector_size: image.sector_size,
    })?;
    let seed = seed(image.seed, volume_id(guid, 1), image.sector_size)?;
    let summary = disk::assemble(
        &DiskSpec {
            guid,
            sector_size: image.sector_size,
            esp: &esp,
            root: Part { path: &layer.squashfs(), size: layer.squashfs_size() },
            verity: Part { path: &layer.verity(), size: layer.verity_size() },
            root_hash: &layer.facts.root_hash,
            seed: &seed,
            bios: bios_loader.as_ref(),
        },
        out,
    )?;
    progress.end("disk", &format!("{} MB, UKI {} MB", summary.size / 1_000_000, uki.bytes.len() / 1_000_000));
    Ok(summary)
}

/// The role's UKI: the layer's kernel, microcode and initramfs, then the cluster layer.
pub fn uki(layer: &OsLayer, image: &RoleImage<'_>) -> Result<Uki, RoleError> {
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
    if image.name.is_empty()
        || image.name.len() > 64
        || image.name.starts_with('.')
        || !image.name.chars().all(name)
    {
        return Err(RoleError::Name { name: image.name.to_owned() });
    }
    let command_line = command_line(&layer.facts.root_hash, image.command_line)?;
    // Plain: a few kilobytes, and what is in the image can be looked at.
    let cluster = initramfs::segment(image.cluster_layer, image.epoch, Packing::Plain)?;
    let (microcode, system) = (layer.microcode()?, layer.initramfs()?);
    let segments: Vec<&[u8]> = microcode.iter().chain([&system, &cluster]).map(Vec::as_slice).collect();
    let uki = uki::build(&UkiSpec {
        stub: &layer.stub()?,
        os_release: &os_release(image)?,
        command_line: &command_line,
        uname: &layer.facts.kernel_release,
        initramfs: &segments,
        kernel: &layer.kernel()?,
    })?;
    Ok(uki)
}

fn command_line(root_hash: &str, arguments: &[String]) -> Result<String, RoleError> {
    let reserved = format!("{}=", layout::CMDLINE_ROOT_HASH);
    if let Some(argument) = arguments.iter().find(|argument| argument.contains(&reserved)) {
        return Err(RoleError::Reserved { argument: argument.clone() });
    }
    let mut all = vec![format!("{reserved}{root_hash}")];
    all.extend_from_slice(arguments);
    uki::check_command_line(&all)?;
    // Blanks are made single, as GRUB would make them.
    Ok(all.iter().flat_map(|argument| argument.split_ascii_whitespace()).collect::<Vec<_>>().join(" "))
}

/// Text of `.osrel`. systemd-boot leaves out an entry without name or version.
fn os_release(image: &RoleImage<'_>) -> Result<String, RoleError> {
    for text in [image.title, image.version] {
        if text.is_empty() || text.chars().any(|c| c.is_control() || matches!(c, '"' | '$' | '\\' | '`')) {
            return Err(RoleError::OsRelease { text: text.to_owned() });
        }
    }
    let RoleImage { name, title, version, .. } = image;
    Ok(format!(
        "ID=bootwright\nNAME=\"bootwright\"\nPRETTY_NAME=\"{title}\"\nIMAGE_ID=\"{name}\"\nIMAGE_VERSION=\"{version}\"\n\
         VERSION_ID=\"{version}\"\n"
    ))
}

/// The seed partition's filesystem, empty or with `node.toml`.
pub fn seed(node: Option<&[u8]>, volume_id: u32, sector_size: SectorSize) -> Result<Vec<u8>, FatError> {
    let files: Vec<(&str, &[u8])> = node.into_iter().map(|text| (SEED_FILE, text)).collect();
    fat::image(&FatSpec {
        label: layout::SEED_LABEL,
        volume_id,
        size: SEED_SIZE,
        sector_size,
        cluster: None,
        fat_type: None,
        files: &files,
    })
}

/// A FAT serial number out of the disk's GUID; `index` tells the filesystems of one disk apart.
fn volume_id(guid: Uuid, index: u8) -> u32 {
    let derived = Uuid::new_v5(&guid, &[b'v', index]);
    derived.as_fields().0
}

#[cfg(test)]
#[path = "role_tests.rs"]
mod tests;
