//! Where the bytes of a file are, and how they are read.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::digests::hex;

/// Where the bytes of a regular file are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// In memory.
    Bytes(Arc<[u8]>),
    /// `length` bytes at `offset` of a file that does not change while the tree lives: an unpacked
    /// package in the cache, a Kubernetes binary.
    Range {
        /// The file.
        path: PathBuf,
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
        /// What determines the file's bytes: the SHA-256 of the package or binary, as hexadecimal
        /// digits. [`super::tree::RootTree::digest`] is made from it, so that nothing is read again.
        source: Arc<str>,
    },
    /// One after the other: an archive made of headers and of ranges of other files.
    Joined(Arc<[Content]>),
}

impl Content {
    /// Bytes in memory.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Content {
        Content::Bytes(bytes.into().into())
    }

    /// A whole file of this machine, of known digest (see [`Content::file`] if it is not known).
    pub fn known_file(path: &Path, sha256: &str) -> io::Result<Content> {
        let length = std::fs::metadata(path)?.len();
        Ok(Content::Range { path: path.to_owned(), offset: 0, length, source: sha256.into() })
    }

    /// A whole file of this machine; reads it once for its digest.
    pub fn file(path: &Path) -> io::Result<Content> {
        let mut hash = Sha256::new();
        let length = io::copy(&mut File::open(path)?, &mut HashWriter(&mut hash))?;
        Ok(Content::Range { path: path.to_owned(), offset: 0, length, source: hex(&hash.finalize()).into() })
    }

    /// Size in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Range { length, .. } => *length,
            Content::Joined(parts) => parts.iter().map(Content::len).sum(),
        }
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All bytes, in memory.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(usize::try_from(self.len()).unwrap_or_default());
        self.copy_to(&mut bytes)?;
        Ok(bytes)
    }

    /// At most the first `limit` bytes.
    pub fn read_start(&self, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match self {
            Content::Bytes(all) => {
                bytes.extend_from_slice(&all[..all.len().min(usize::try_from(limit).unwrap_or(usize::MAX))]);
            }
            Content::Range { path, offset, length, .. } => {
                let mut file = File::open(path)?;
                file.seek(SeekFrom::Start(*offset))?;
                file.take(limit.min(*length)).read_to_end(&mut bytes)?;
            }
            Content::Joined(parts) => {
                for part in parts.iter() {
                    bytes.extend(part.read_start(limit - bytes.len() as u64)?);
                    if bytes.len() as u64 == limit {
                        break;
                    }
                }
            }
        }
        Ok(bytes)
    }

    /// Writes all bytes to `out`; the error names the file that could not be read to its end.
    pub fn copy_to(&self, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Content::Bytes(bytes) => out.write_all(bytes),
            Content::Range { path, offset, length, .. } => {
                let named =
                    |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
                let mut file = File::open(path).map_err(named)?;
                file.seek(SeekFrom::Start(*offset)).map_err(named)?;
                // No buffered reader: packages are read once, in pieces as large as the pipe behind takes.
                let mut buffer = vec![0; 256 << 10];
                let mut left = *length;
                while left > 0 {
                    let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                    let got = file.read(&mut buffer[..want]).map_err(named)?;
                    if got == 0 {
                        let message = format!("ends {left} bytes before byte {}", offset + length);
                        return Err(named(io::Error::new(io::ErrorKind::UnexpectedEof, message)));
                    }
                    out.write_all(&buffer[..got])?;
                    left -= got as u64;
                }
                Ok(())
            }
            Content::Joined(parts) => parts.iter().try_for_each(|part| part.copy_to(out)),
        }
    }

    /// SHA-256 of the bytes, 64 lower-case hexadecimal digits; reads them.
    pub fn sha256(&self) -> io::Result<String> {
        let mut hash = Sha256::new();
        self.copy_to(&mut HashWriter(&mut hash))?;
        Ok(hex(&hash.finalize()))
    }

    /// Whether the bytes are the same; reads both when their places differ.
    pub fn same_bytes(&self, other: &Content) -> io::Result<bool> {
        Ok(self == other || (self.len() == other.len() && self.sha256()? == other.sha256()?))
    }

    /// Adds to `hash` what determines the bytes, without reading a file.
    pub(super) fn identify(&self, hash: &mut Sha256) {
        match self {
            Content::Bytes(bytes) => {
                hash.update(format!("bytes {}\0", bytes.len()));
                hash.update(bytes);
            }
            Content::Range { offset, length, source, .. } => {
                hash.update(format!("range {source} {offset} {length}\0"));
            }
            Content::Joined(parts) => {
                hash.update(format!("joined {}\0", parts.len()));
                parts.iter().for_each(|part| part.identify(hash));
            }
        }
    }
}

/// Feeds a digest.
pub(super) struct HashWriter<'a>(pub &'a mut Sha256);

impl Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(path: &Path, offset: u64, length: u64) -> Content {
        Content::Range { path: path.to_owned(), offset, length, source: "s".into() }
    }

    #[test]
    fn joined_parts_are_read_in_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("f");
        std::fs::write(&path, b"0123456789").expect("written");
        let content =
            Content::Joined([Content::bytes(*b"ab"), range(&path, 3, 4), Content::bytes(*b"z")].into());
        assert_eq!(content.len(), 7);
        assert_eq!(content.read().expect("read"), b"ab3456z");
        assert_eq!(content.read_start(4).expect("read"), b"ab34");
        assert!(content.same_bytes(&Content::bytes(*b"ab3456z")).expect("read"));
        assert!(!content.same_bytes(&Content::bytes(*b"ab3457z")).expect("read"));
    }

    #[test]
    fn a_file_that_became_short_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("short");
        std::fs::write(&path, b"0123").expect("written");
        let error = range(&path, 2, 5).read().expect_err("three bytes are missing");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(error.to_string().ends_with("short: ends 3 bytes before byte 7"), "{error}");
    }
}
