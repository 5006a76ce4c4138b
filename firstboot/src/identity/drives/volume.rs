//! A filesystem with a label: FAT or ISO 9660.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use super::iso9660;

/// Bytes that are read of one filesystem, all in all: far more than the few small files are.
const MOST_READ: u64 = 16 << 20;

/// A device that is read so far and no farther, and never written to: the library follows the chains of a filesystem without
/// an end, and a damaged one may go round in a circle.
#[derive(Debug)]
pub struct Bounded {
    file: File,
    most: u64,
    left: u64,
}

impl Bounded {
    /// The device, of which `most` bytes are read all in all.
    pub fn new(file: File, most: u64) -> Bounded {
        Bounded { file, most, left: most }
    }
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            let most = self.most;
            io::Error::other(format!(
                "more than {most} bytes would have to be read of a filesystem for small files"
            ))
        })?;
        Ok(read)
    }
}

impl Seek for Bounded {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// The library wants it; the device is open for reading alone.
impl Write for Bounded {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A filesystem to read from.
pub enum Volume {
    /// FAT, of any width.
    Fat(fatfs::FileSystem<Bounded>),
    /// ISO 9660, with Joliet or Rock Ridge names or without.
    Iso(iso9660::Volume),
}

impl Volume {
    /// `None` if it is neither. Of a device that holds neither two sectors are read.
    pub fn open(file: File) -> Option<Volume> {
        if let Some(volume) = iso9660::Volume::open(&file) {
            return Some(Volume::Iso(volume));
        }
        let mut sector = [0; 512];
        file.read_exact_at(&mut sector, 0).ok()?;
        // The signature and the type's name, which every tool writes although a driver must not need it (Microsoft's FAT
        // specification, section 3): a partition table has the signature too.
        let names_fat = sector[54..].starts_with(b"FAT") || sector[82..].starts_with(b"FAT32");
        if sector[510..] != [0x55, 0xaa] || !names_fat {
            return None;
        }
        let file = Bounded::new(file, MOST_READ);
        fatfs::FileSystem::new(file, fatfs::FsOptions::new()).ok().map(Volume::Fat)
    }

    /// Without spaces at its end; empty if it has none.
    pub fn label(&self) -> String {
        let label = match self {
            // The root folder has the one that a person sees; some tools write that of the boot sector only.
            Volume::Fat(fat) => match fat.read_volume_label_from_root_dir() {
                Ok(Some(label)) => label,
                _ => fat.volume_label(),
            },
            Volume::Iso(iso) => iso.label().to_owned(),
        };
        label.trim().to_owned()
    }

    /// The bytes of a file; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read, or has more than `most` bytes.
    pub fn read(&self, path: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
        match self {
            Volume::Iso(iso) => iso.read(path, most),
            Volume::Fat(fat) => {
                let file = match fat.root_dir().open_file(path) {
                    Ok(file) => file,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    Err(error) => return Err(error),
                };
                let mut bytes = Vec::new();
                file.take(most + 1).read_to_end(&mut bytes)?;
                if bytes.len() as u64 > most {
                    return Err(io::Error::other(format!("it has more than {most} bytes")));
                }
                Ok(Some(bytes))
            }
        }
    }
}
