//! The seed partition: `node.toml` in the root folder of a FAT filesystem.
//!
//! Read with the fatfs crate, not mounted: the kernel needs no FAT and code page modules, and a
//! damaged filesystem is an error here instead of in the kernel.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::Claim;
use super::document::{self, MOST_BYTES};
use super::drives::volume::Bounded;
use super::machine::Machine;
use super::source::{Source, SourceError};

/// Name of the file.
pub const SEED_FILE: &str = "node.toml";

/// Bytes that are read of the partition, all in all: node.toml, and a root folder of more files than anybody has there.
const MOST_READ: u64 = MOST_BYTES + (1 << 20);

/// The partition `SEED` of the disk that was booted from.
pub struct SeedPartition;

impl Source for SeedPartition {
    fn name(&self) -> &'static str {
        "the seed partition"
    }

    fn evidence(&self, machine: &Machine) -> bool {
        machine.seed_partition.is_some()
    }

    fn read(&self, machine: &Machine) -> Vec<Result<Claim, SourceError>> {
        machine.seed_partition.iter().filter_map(|device| read(device).transpose()).collect()
    }
}

/// Reads the seed of a partition or image file; `None` without a `node.toml`.
pub fn read(device: &Path) -> Result<Option<Claim>, SourceError> {
    let filesystem = |source| SourceError::Unreadable {
        what: format!("{}: no readable FAT filesystem", device.display()),
        next: "write the seed partition again: a FAT filesystem with node.toml",
        source,
    };
    let unreadable = |source| SourceError::Unreadable {
        what: format!("{}: {SEED_FILE} cannot be read", device.display()),
        next: "write node.toml again; the seed partition may be damaged",
        source,
    };
    let file = File::open(device).map_err(filesystem)?;
    // This is the thread that boots the machine: a folder that goes round in a circle must not hold it up.
    let file = Bounded::new(file, MOST_READ);
    let fat = fatfs::FileSystem::new(file, fatfs::FsOptions::new()).map_err(filesystem)?;
    let file = match fat.root_dir().open_file(SEED_FILE) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    let place = format!("{SEED_FILE} on {}", device.display());
    let next = "correct node.toml on the seed partition from any machine that reads FAT";
    let says = document::seed(&bytes, &place, next)?;
    Ok(Some(Claim::new(format!("the seed ({})", device.display()), says)))
}

#[cfg(test)]
mod tests;
