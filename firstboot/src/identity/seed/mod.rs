//! The seed partition: `node.toml` in the root folder of a FAT filesystem.
//!
//! Read with the fatfs crate, not mounted: the kernel needs no FAT and code page modules, and a
//! damaged filesystem is an error here instead of in the kernel.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bootwright_model::seed::Seed;

use super::Claim;
use crate::stages::Advice;

/// Name of the file.
pub const SEED_FILE: &str = "node.toml";
/// Far more than a node's description needs, bytes.
const MOST_BYTES: u64 = 64 << 10;

/// Why the seed cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// The partition holds no readable FAT filesystem.
    #[error("{device}: no readable FAT filesystem")]
    Filesystem {
        /// The seed partition.
        device: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is there and cannot be read.
    #[error("{device}: {SEED_FILE} cannot be read")]
    File {
        /// The seed partition.
        device: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no seed.
    #[error("{SEED_FILE} on {device}, line {line}, column {column}: {message}")]
    Syntax {
        /// The seed partition.
        device: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// The parser's words.
        message: String,
    },
}

impl Advice for SeedError {
    fn advice(&self) -> String {
        match self {
            SeedError::Filesystem { .. } => "write the seed partition again: a FAT filesystem with node.toml",
            SeedError::File { .. } => "write node.toml again; the seed partition may be damaged",
            SeedError::Syntax { .. } => {
                "correct node.toml on the seed partition from any machine that reads FAT"
            }
        }
        .to_owned()
    }
}

/// Reads the seed of a partition or image file; `None` without a `node.toml`.
pub fn read(device: &Path) -> Result<Option<Claim>, SeedError> {
    let filesystem = |source| SeedError::Filesystem { device: device.to_owned(), source };
    let file = File::open(device).map_err(filesystem)?;
    let fat = fatfs::FileSystem::new(file, fatfs::FsOptions::new()).map_err(filesystem)?;
    let unreadable = |source| SeedError::File { device: device.to_owned(), source };
    let file = match fat.root_dir().open_file(SEED_FILE) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let mut text = String::new();
    file.take(MOST_BYTES).read_to_string(&mut text).map_err(unreadable)?;
    parse(&text, device).map(|says| Some(Claim { source: format!("the seed ({})", device.display()), says }))
}

fn parse(text: &str, device: &Path) -> Result<Seed, SeedError> {
    // Some editors put a byte order mark in front.
    let text = text.trim_start_matches('\u{feff}');
    toml::from_str(text).map_err(|error| {
        let before = &text[..error.span().map_or(0, |span| span.start.min(text.len()))];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        SeedError::Syntax {
            device: device.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: error.message().replace('\n', " "),
        }
    })
}

#[cfg(test)]
mod tests;
