//! Unpacks a `.deb` (deb(5)): an `ar` archive with `debian-binary`, `control.tar.*` and `data.tar.*`.
//!
//! The `ar` headers are read here: of that format a package uses sixty-byte headers only, and the crate
//! for it panics on damaged name tables of the GNU variant.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use deb822_fast::{Deb822, Paragraph};

use crate::sources::Artifact;
use crate::sources::cache::{Cache, CacheError, full_or_io};
use crate::sources::readers::{Exactly, Limited};

/// Kind of the unpacked `data.tar` in the cache, keyed by the package's digest.
pub const DATA_TAR: &str = "data.tar";

/// Largest unpacked package: debug symbols of a kernel are about 1 GB.
const LARGEST_DATA: u64 = 8 << 30;
/// Largest unpacked control archive.
const LARGEST_CONTROL: u64 = 64 << 20;
/// Memory that an xz stream may ask for, KiB: `xz -9` takes 65 MiB.
const XZ_MEMORY_KIB: u32 = 256 << 10;

/// Why a package could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum DebError {
    /// It is damaged or of a form that we do not know.
    #[error("{path}: {reason} (at byte {offset}); remove the file and build again, or report the package")]
    Form {
        /// The package.
        path: PathBuf,
        /// What is wrong.
        reason: String,
        /// Where the member begins.
        offset: u64,
    },
    /// It could not be read.
    #[error("could not read {path}: {source}")]
    Read {
        /// The package.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// The package's `data.tar`, plain, in the cache.
pub fn data_tar(deb: &Artifact, cache: &Cache) -> Result<PathBuf, DebError> {
    cache.derive(DATA_TAR, &deb.sha256, |file| {
        let mut member = Member::find(&deb.path, "data.tar")?;
        let mut reader = member.decoder(LARGEST_DATA)?;
        let mut writer = BufWriter::with_capacity(1 << 20, file);
        let size = copy(&mut reader, &mut writer, &deb.path, cache)?;
        drop(reader);
        // A tar is made of blocks of 512 bytes and ends with two empty ones (POSIX.1-2017, pax, ustar).
        if size % 512 != 0 || size < 1024 {
            return Err(member.form(format!("data.tar has {size} bytes, which is no whole tar archive")));
        }
        Ok(())
    })
}

/// The fields of the package's `control` file.
pub fn control(path: &Path) -> Result<Paragraph, DebError> {
    let mut member = Member::find(path, "control.tar")?;
    let mut tar = Vec::new();
    let read = member.decoder(LARGEST_CONTROL)?.read_to_end(&mut tar);
    read.map_err(|error| member.form(format!("control.tar cannot be unpacked: {error}")))?;
    let mut archive = tar::Archive::new(tar.as_slice());
    let damaged = |error: io::Error| member.form(format!("control.tar cannot be read: {error}"));
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let name = entry.path_bytes().into_owned();
        if name.strip_prefix(b"./").unwrap_or(&name) != b"control" {
            continue;
        }
        let mut text = String::new();
        entry.read_to_string(&mut text).map_err(damaged)?;
        let document: Deb822 =
            text.parse().map_err(|error| member.form(format!("control cannot be read: {error}")))?;
        let mut paragraphs = document.into_iter();
        return paragraphs.next().ok_or_else(|| member.form("control is empty".to_owned()));
    }
    Err(member.form("control.tar has no file control".to_owned()))
}

/// A member of the archive, open at its first byte.
struct Member {
    path: PathBuf,
    file: BufReader<File>,
    offset: u64,
    name: String,
    size: u64,
}

const MAGIC: &[u8; 8] = b"!<arch>\n";
const HEADER: u64 = 60;

impl Member {
    /// The first member whose name begins with `prefix`; checks what comes before it.
    fn find(path: &Path, prefix: &str) -> Result<Member, DebError> {
        let read = |source| DebError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(read)?;
        let end = file.metadata().map_err(read)?.len();
        let file = BufReader::with_capacity(256 << 10, file);
        let mut member = Member { path: path.to_owned(), file, offset: 0, name: String::new(), size: 0 };
        let mut magic = [0; 8];
        member.fill(&mut magic, end)?;
        if &magic != MAGIC {
            return Err(member.form("it is not a Debian package: the ar signature is missing".to_owned()));
        }
        let mut next = MAGIC.len() as u64;
        // deb(5): three members, and perhaps some whose names begin with an underscore.
        for number in 0..16 {
            member.offset = next;
            if next >= end {
                return Err(member.form(format!("it has no member {prefix}")));
            }
            member.header(end)?;
            if number == 0 {
                member.check_format(end)?;
            } else if member.name.starts_with(prefix) {
                return Ok(member);
            }
            next = member.offset + HEADER + member.size + member.size % 2;
            let skip = i64::try_from(next - member.position(number)).unwrap_or(i64::MAX);
            member.file.seek_relative(skip).map_err(read)?;
        }
        Err(member.form(format!("it has no member {prefix}")))
    }

    /// Where the reader is once the header, or the whole first member, was read.
    fn position(&self, number: u32) -> u64 {
        self.offset + HEADER + if number == 0 { self.size } else { 0 }
    }

    fn header(&mut self, end: u64) -> Result<(), DebError> {
        let mut header = [0; HEADER as usize];
        self.fill(&mut header, end)?;
        if &header[58..] != b"`\n" {
            return Err(self.form("an ar header is damaged".to_owned()));
        }
        let text = |range: std::ops::Range<usize>| String::from_utf8_lossy(&header[range]).trim().to_owned();
        // GNU ar ends names with a slash.
        self.name = text(0..16).trim_end_matches('/').to_owned();
        let size = text(48..58);
        self.size = size.parse().map_err(|_| self.form(format!("an ar member has size {size:?}")))?;
        if self.offset + HEADER + self.size > end {
            let missing = self.offset + HEADER + self.size - end;
            return Err(self.form(format!("member {} is cut off: {missing} bytes are missing", self.name)));
        }
        Ok(())
    }

    fn check_format(&mut self, end: u64) -> Result<(), DebError> {
        if self.name != "debian-binary" || self.size > 64 {
            return Err(self.form(format!("its first member is {:?} and not debian-binary", self.name)));
        }
        let mut version = vec![0; usize::try_from(self.size).unwrap_or(64)];
        self.fill(&mut version, end)?;
        if !version.starts_with(b"2.") {
            let version = String::from_utf8_lossy(&version).trim().to_owned();
            return Err(self.form(format!("its format is {version:?}, only 2.x is known")));
        }
        Ok(())
    }

    fn fill(&mut self, buffer: &mut [u8], end: u64) -> Result<(), DebError> {
        self.file.read_exact(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.form(format!("it is cut off after {end} bytes")),
            _ => DebError::Read { path: self.path.clone(), source: error },
        })
    }

    /// Decompresses the member, by its name's ending, to at most `limit` bytes.
    fn decoder(&mut self, limit: u64) -> Result<Box<dyn Read + '_>, DebError> {
        let compression = self.name.rsplit_once(".tar").map_or("", |(_, ending)| ending).to_owned();
        let name = self.name.clone();
        let (path, offset) = (self.path.clone(), self.offset);
        let raw = Exactly::new(&mut self.file, self.size);
        let decoded: Box<dyn Read + '_> = match compression.as_str() {
            "" => Box::new(raw),
            ".gz" => Box::new(flate2::read::MultiGzDecoder::new(raw)),
            ".xz" => Box::new(lzma_rust2::XzReader::new_mem_limit(raw, true, XZ_MEMORY_KIB)),
            ".zst" => Box::new(
                zstd::Decoder::new(raw).map_err(|source| DebError::Read { path: path.clone(), source })?,
            ),
            other => {
                let reason =
                    format!("member {name}: compression {other:?} is not known (xz, zst, gz or none)");
                return Err(DebError::Form { path, reason, offset });
            }
        };
        Ok(Box::new(Limited::new(decoded, limit)))
    }

    fn form(&self, reason: String) -> DebError {
        DebError::Form { path: self.path.clone(), reason, offset: self.offset }
    }
}

fn copy(
    reader: &mut impl Read,
    writer: &mut impl Write,
    path: &Path,
    cache: &Cache,
) -> Result<u64, DebError> {
    let full =
        |length: usize, error| DebError::Cache(full_or_io("write into", cache.root(), length as u64, error));
    let mut buffer = vec![0; 256 << 10];
    let mut size = 0;
    loop {
        let length = reader.read(&mut buffer).map_err(|error| DebError::Form {
            path: path.to_owned(),
            reason: format!("data.tar cannot be unpacked: {error}"),
            offset: size,
        })?;
        if length == 0 {
            break;
        }
        writer.write_all(&buffer[..length]).map_err(|error| full(length, error))?;
        size += length as u64;
    }
    writer.flush().map_err(|error| full(buffer.len(), error))?;
    Ok(size)
}

#[cfg(test)]
#[path = "deb_tests.rs"]
mod tests;
