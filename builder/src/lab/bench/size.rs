//! Sizes of the image, as it is and compressed.

use std::io::{Read, Write};

use super::figure::Figure;
use super::table::Table;
use super::{Error, Options, demo};

/// Level of the `zstd` program unless it is told otherwise.
const ZSTD_LEVEL: i32 = 3;

/// Looks at the image of the node that is booted.
pub fn measure(options: &Options, table: &mut Table) -> Result<(), Error> {
    let image = &demo::image_path(&options.boot)?;
    let size = image.metadata().map_err(Error::file("read", image))?.len();
    table.record(Figure::RawImage, megabytes(size));
    let file = std::fs::File::open(image).map_err(Error::file("read", image))?;
    let mut encoder = zstd::Encoder::new(Count(0), ZSTD_LEVEL).map_err(Error::file("compress", image))?;
    let mut reader = std::io::BufReader::with_capacity(1 << 20, file);
    std::io::copy(&mut reader.by_ref(), &mut encoder).map_err(Error::file("compress", image))?;
    let compressed = encoder.finish().map_err(Error::file("compress", image))?.0;
    table.record(Figure::CompressedImage, megabytes(compressed));
    Ok(())
}

/// Millions of bytes, as disks are sold.
pub fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// A writer that counts.
struct Count(u64);

impl Write for Count {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        self.0 += buffer.len() as u64;
        Ok(buffer.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
