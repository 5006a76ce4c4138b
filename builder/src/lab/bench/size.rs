//! Sizes of the image, as it is and compressed, and of a worker's beside it.

use std::io::{Read, Write};
use std::path::Path;

use super::figure::Figure;
use super::table::Table;
use super::{Error, Options, compose, demo};

/// Level of the `zstd` program unless it is told otherwise.
const ZSTD_LEVEL: i32 = 3;

/// The role whose image is measured as well.
const WORKER: &str = "worker";

/// Looks at the image of the node that is booted, and at the image that a worker of the same cluster boots.
pub fn measure(options: &Options, table: &mut Table) -> Result<(), Error> {
    let image = &demo::image_path(&options.boot)?;
    let size = image.metadata().map_err(Error::file("read", image))?.len();
    table.record(Figure::RawImage, megabytes(size));
    table.record(Figure::CompressedImage, megabytes(compressed(image)?));
    let output = &options.boot.output;
    let folder = tempfile::tempdir_in(output).map_err(Error::file("make a folder in", output))?;
    let cluster = compose::cluster_with(&options.loaded, WORKER)?;
    compose::build_into(
        options,
        &cluster.path().join(compose::CLUSTER_FILE),
        &options.boot.cache,
        folder.path(),
    )?;
    let worker = folder.path().join(format!("{WORKER}.raw"));
    table.record(Figure::CompressedWorker, megabytes(compressed(&worker)?));
    Ok(())
}

/// Length of the file when it is compressed.
fn compressed(image: &Path) -> Result<u64, Error> {
    let file = std::fs::File::open(image).map_err(Error::file("read", image))?;
    let mut encoder = zstd::Encoder::new(Count(0), ZSTD_LEVEL).map_err(Error::file("compress", image))?;
    let mut reader = std::io::BufReader::with_capacity(1 << 20, file);
    std::io::copy(&mut reader.by_ref(), &mut encoder).map_err(Error::file("compress", image))?;
    Ok(encoder.finish().map_err(Error::file("compress", image))?.0)
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
