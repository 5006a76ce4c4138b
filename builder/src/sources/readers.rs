//! Small `Read` and `Write` adapters that fetching and unpacking are composed from.

use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

use crate::digests::hex;

/// Hashes and counts what passes through, for readers and writers alike.
pub struct Hashing<T> {
    inner: T,
    hash: Sha256,
    size: u64,
}

impl<T> Hashing<T> {
    /// Wraps `inner`; nothing is hashed yet.
    pub fn new(inner: T) -> Self {
        Hashing { inner, hash: Sha256::new(), size: 0 }
    }

    /// Counts `bytes` as if they had passed: the part of a file that an earlier attempt left.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
    }

    /// Bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The wrapped value, the digest in hexadecimal, and the bytes counted.
    pub fn finish(self) -> (T, String, u64) {
        (self.inner, hex(&self.hash.finalize()), self.size)
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.update(&buffer[..length]);
        Ok(length)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let length = self.inner.write(buffer)?;
        self.update(&buffer[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The stream was longer than allowed; the inner error of an [`io::Error`] that [`Limited`] returns.
#[derive(Debug, thiserror::Error)]
#[error("more than the allowed {limit} bytes")]
pub struct TooLong {
    /// Bytes allowed.
    pub limit: u64,
}

/// Fails after `limit` bytes, where [`Read::take`] would pretend that the stream ended.
pub struct Limited<R> {
    inner: R,
    limit: u64,
    left: u64,
}

impl<R> Limited<R> {
    /// Allows `limit` bytes of `inner`.
    pub fn new(inner: R, limit: u64) -> Self {
        Limited { inner, limit, left: limit }
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // One byte beyond the limit is asked for: only so can a stream that ends there be told from a
        // longer one.
        let most = usize::try_from(self.left.saturating_add(1)).unwrap_or(usize::MAX).min(buffer.len());
        let length = self.inner.read(&mut buffer[..most])?;
        match self.left.checked_sub(length as u64) {
            Some(left) => self.left = left,
            None => return Err(io::Error::new(io::ErrorKind::FileTooLarge, TooLong { limit: self.limit })),
        }
        Ok(length)
    }
}

/// Fails if the stream ends before `length` bytes, and ends there itself.
pub struct Exactly<R> {
    inner: R,
    left: u64,
}

impl<R> Exactly<R> {
    /// The next `length` bytes of `inner`.
    pub fn new(inner: R, length: u64) -> Self {
        Exactly { inner, left: length }
    }
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let length = self.inner.read(&mut buffer[..most])?;
        if length == 0 {
            let message = format!("{} bytes are missing at the end", self.left);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        self.left -= length as u64;
        Ok(length)
    }
}

/// Tells a callback how many bytes passed; the callback may stop the stream with an error.
pub struct Watched<R, F> {
    inner: R,
    watch: F,
}

impl<R, F: FnMut(u64) -> io::Result<()>> Watched<R, F> {
    /// Calls `watch` with the size of each read.
    pub fn new(inner: R, watch: F) -> Self {
        Watched { inner, watch }
    }
}

impl<R: Read, F: FnMut(u64) -> io::Result<()>> Read for Watched<R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        (self.watch)(length as u64)?;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashing_counts_what_passes_in_both_directions() {
        let mut reader = Hashing::new(&b"abc"[..]);
        io::copy(&mut reader, &mut io::sink()).unwrap();
        let (_, digest, size) = reader.finish();
        // FIPS 180-4, example of one block.
        assert_eq!(digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(size, 3);
        let mut writer = Hashing::new(Vec::new());
        writer.write_all(b"abc").unwrap();
        assert_eq!(writer.finish().1, digest);
    }

    #[test]
    fn limited_tells_the_limit_from_a_longer_stream() {
        let mut exact = Vec::new();
        Limited::new(&b"abc"[..], 3).read_to_end(&mut exact).unwrap();
        assert_eq!(exact, b"abc");
        let error = Limited::new(&b"abcd"[..], 3).read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn exactly_refuses_a_short_stream_and_stops_in_a_long_one() {
        let mut text = String::new();
        Exactly::new(&b"abcd"[..], 3).read_to_string(&mut text).unwrap();
        assert_eq!(text, "abc");
        let error = Exactly::new(&b"ab"[..], 3).read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "1 bytes are missing at the end");
    }
}
