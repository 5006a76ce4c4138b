//! The disk of a machine: a copy of the built file, grown to the size of a real disk.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::Error;
use crate::image::disk::SectorSize;

/// What a header of a GUID partition table begins with (UEFI specification, section 5.3.2).
const TABLE_SIGNATURE: &[u8; 8] = b"EFI PART";

/// Copies `image` to `disk` and makes it `bytes` long, at least as long as the image.
///
/// A plain copy, not an overlay: QEMU makes overlays only with qemu-img, which a machine may lack, and
/// the copy of some hundred megabytes takes a fraction of a second. What is grown is a hole.
///
/// # Errors
/// A file cannot be read or written.
pub fn copy_grown(image: &Path, disk: &Path, bytes: u64) -> Result<(), Error> {
    std::fs::copy(image, disk).map_err(Error::file("copy", image))?;
    let file = File::options().write(true).open(disk).map_err(Error::file("write", disk))?;
    let size = file.metadata().map_err(Error::file("read", disk))?.len();
    if size < bytes {
        file.set_len(bytes).map_err(Error::file("grow", disk))?;
    }
    Ok(())
}

/// Size of the sectors that an image was built for: its partition table's header lies in the second. 512 bytes if
/// there is none.
///
/// # Errors
/// The image cannot be read.
pub fn sector_size(image: &Path) -> Result<SectorSize, Error> {
    let file = File::open(image).map_err(Error::file("read", image))?;
    let mut start = [0; TABLE_SIGNATURE.len()];
    let size = SectorSize::S4096;
    let there = file.read_exact_at(&mut start, size.bytes()).is_ok() && start == *TABLE_SIGNATURE;
    // A table of 512-byte sectors has an entry there, which begins with a GUID.
    Ok(if there { size } else { SectorSize::S512 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn the_size_of_sectors_is_seen_from_where_the_table_is() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        for (offset, expected) in [(512, SectorSize::S512), (4096, SectorSize::S4096)] {
            let mut bytes = vec![0; 8192];
            bytes[offset..offset + 8].copy_from_slice(TABLE_SIGNATURE);
            std::fs::write(&image, bytes).unwrap();
            assert_eq!(sector_size(&image).unwrap(), expected);
        }
        std::fs::write(&image, b"short").unwrap();
        assert_eq!(sector_size(&image).unwrap(), SectorSize::S512);
        assert!(sector_size(&folder.path().join("none")).is_err());
    }

    #[test]
    fn a_copy_is_grown_sparsely_and_the_image_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (image, disk) = (folder.path().join("image"), folder.path().join("disk"));
        std::fs::write(&image, [7; 4096]).unwrap();
        copy_grown(&image, &disk, 1 << 30).unwrap();
        let grown = disk.metadata().unwrap();
        assert_eq!(grown.len(), 1 << 30);
        assert!(grown.blocks() * 512 < 1 << 20);
        assert_eq!(std::fs::read(&image).unwrap(), [7; 4096]);
        copy_grown(&image, &disk, 1).unwrap();
        assert_eq!(disk.metadata().unwrap().len(), 4096);
    }
}
