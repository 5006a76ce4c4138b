//! GUIDs: text as people write them, bytes as GPT stores them (UEFI 2.10, appendix A).

use std::fmt;
use std::str::FromStr;

/// A GUID, in the order of its text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Guid(pub [u8; 16]);

/// First three fields are stored little-endian, the last two in the order of the text.
const DISK_ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];

impl Guid {
    /// All zero: an unused entry.
    pub const NONE: Guid = Guid([0; 16]);

    /// From the 16 bytes in a table.
    pub fn from_disk(bytes: [u8; 16]) -> Guid {
        Guid(DISK_ORDER.map(|place| bytes[place]))
    }

    /// The 16 bytes for a table. The order is its own inverse.
    pub fn to_disk(self) -> [u8; 16] {
        DISK_ORDER.map(|place| self.0[place])
    }

    /// A name-based GUID: the same disk and number always give the same, so that a first boot that is
    /// cut off and begins again writes the same table. Version 8 of RFC 9562 (custom, SHA-256).
    pub fn derived(disk: Guid, purpose: &str) -> Guid {
        let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
        digest.update(&disk.0);
        digest.update(purpose.as_bytes());
        let digest = digest.finish();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest.as_ref()[..16]);
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Guid(bytes)
    }
}

/// Text that is no GUID.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no GUID: 32 hexadecimal digits, with or without dashes, are expected")]
pub struct GuidError(String);

impl FromStr for Guid {
    type Err = GuidError;

    fn from_str(text: &str) -> Result<Guid, GuidError> {
        let error = || GuidError(text.to_owned());
        let digits: Vec<u8> = text.bytes().filter(|&byte| byte != b'-').collect();
        let mut bytes = [0; 16];
        if digits.len() != 2 * bytes.len() || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(error());
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| error())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| error())?;
        }
        Ok(Guid(bytes))
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, byte) in self.0.iter().enumerate() {
            if matches!(place, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
