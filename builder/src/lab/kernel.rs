//! Takes the kernel out of a built image: ESP, unified kernel image, section `.linux`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use fscommon::StreamSlice;
use gpt::GptConfig;
use object::{Object, ObjectSection};

use super::Error;

/// Folder of unified kernel images on the ESP (Boot Loader Specification, type 2).
const UKI_FOLDER: &str = "EFI/Linux";
/// Section of the kernel in a unified kernel image (UAPI group's UKI specification).
const KERNEL_SECTION: &str = ".linux";

/// The kernel of the first unified kernel image in `image`, a raw disk.
///
/// # Errors
/// The image is not one of ours, or cannot be read.
pub fn extract(image: &Path) -> Result<Vec<u8>, Error> {
    let wrong = |reason: String| Error::NoKernel { path: image.to_owned(), reason };
    let block_size = super::disk::sector_size(image)?.logical();
    let disk = GptConfig::new()
        .writable(false)
        .logical_block_size(block_size)
        .open(image)
        .map_err(|error| wrong(format!("no partition table: {error}")))?;
    let esp = disk
        .partitions()
        .values()
        .find(|partition| partition.part_type_guid == gpt::partition_types::EFI)
        .ok_or_else(|| wrong("no EFI system partition".to_owned()))?;
    let start = esp.bytes_start(block_size).map_err(|error| wrong(error.to_string()))?;
    let length = esp.bytes_len(block_size).map_err(|error| wrong(error.to_string()))?;
    let file = File::open(image).map_err(Error::file("read", image))?;
    let slice = StreamSlice::new(file, start, start + length).map_err(Error::file("read", image))?;
    let uki = read_uki(slice).map_err(|error| wrong(format!("/{UKI_FOLDER} on the ESP: {error}")))?;
    let parsed = object::File::parse(uki.as_slice())
        .map_err(|error| wrong(format!("unified kernel image: {error}")))?;
    let section = parsed
        .section_by_name(KERNEL_SECTION)
        .ok_or_else(|| wrong(format!("the unified kernel image has no section {KERNEL_SECTION}")))?;
    section.data().map(<[u8]>::to_vec).map_err(|error| wrong(format!("section {KERNEL_SECTION}: {error}")))
}

fn read_uki(partition: StreamSlice<File>) -> std::io::Result<Vec<u8>> {
    let filesystem = fatfs::FileSystem::new(ReadOnly(partition), fatfs::FsOptions::new())?;
    let folder = filesystem.root_dir().open_dir(UKI_FOLDER)?;
    for entry in folder.iter() {
        let entry = entry?;
        if entry.is_file() && entry.file_name().to_ascii_lowercase().ends_with(".efi") {
            let mut uki = Vec::new();
            entry.to_file().read_to_end(&mut uki)?;
            return Ok(uki);
        }
    }
    Err(std::io::Error::new(std::io::ErrorKind::NotFound, "no .efi file"))
}

/// fatfs wants to write (it updates its own counters on unmount); the image is opened for reading only.
struct ReadOnly(StreamSlice<File>);

impl Read for ReadOnly {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl std::io::Seek for ReadOnly {
    fn seek(&mut self, position: std::io::SeekFrom) -> std::io::Result<u64> {
        self.0.seek(position)
    }
}

impl std::io::Write for ReadOnly {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        Ok(buffer.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
