//! The disk of a machine: a copy of the built file, grown to the size of a real disk.

use std::fs::File;
use std::path::Path;

use super::Error;

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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

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
