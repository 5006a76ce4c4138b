//! ISO 9660 (ECMA-119) as far as a few small files need it, with the names of Joliet or Rock Ridge.
//!
//! Own code, for want of a crate: the one that reads these names (cdfs 0.2) panics at what it does not expect, and
//! brings FUSE and a command line. The kernel's isofs would need a mount, and shows its errors to nobody but its log.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes of a logical sector (ECMA-119, section 6.1.2). Blocks are of the same size on every medium in use.
const SECTOR: u64 = 2048;
/// First sector of the volume descriptors (section 6.2.1).
const DESCRIPTORS: u64 = 16;
/// So many are looked at: primary, Joliet, boot and terminator are usual.
const MOST_DESCRIPTORS: u64 = 16;
/// Where a descriptor has the record of the root folder (section 8.4.18).
const ROOT_RECORD: usize = 156;
/// Escape sequences that stand for Joliet's levels (Joliet specification, "SVD Escape Sequences Field").
const JOLIET: [&[u8]; 3] = [b"%/@", b"%/C", b"%/E"];
/// More than a folder of a few files needs, bytes.
const MOST_FOLDER_BYTES: u64 = 1 << 20;
/// Bit of a record's flags: it is a folder (section 9.1.6).
const FOLDER: u8 = 2;
/// Bit of a record's flags: the file goes on in another record.
const MORE: u8 = 0x80;

/// A filesystem on a device or in a file.
pub struct Volume {
    file: File,
    label: String,
    root: Extent,
    joliet: bool,
}

/// Where a file or a folder lies.
#[derive(Debug, Clone, Copy)]
struct Extent {
    sector: u32,
    bytes: u32,
    flags: u8,
}

impl Volume {
    /// `None` if it is none.
    pub fn open(file: &File) -> Option<Volume> {
        let (mut primary, mut joliet) = (None, None);
        for place in DESCRIPTORS..DESCRIPTORS + MOST_DESCRIPTORS {
            let mut sector = [0; SECTOR as usize];
            file.read_exact_at(&mut sector, place * SECTOR).ok()?;
            if &sector[1..6] != b"CD001" {
                break;
            }
            let root = Record::read(&sector[ROOT_RECORD..]).map(|(record, _)| record.extent);
            match sector[0] {
                1 if primary.is_none() => {
                    primary = Some((String::from_utf8_lossy(&sector[40..72]).trim().to_owned(), root?));
                }
                2 if JOLIET.iter().any(|level| sector[88..].starts_with(level)) => joliet = root,
                255 => break,
                _ => {}
            }
        }
        let (label, root) = primary?;
        let file = file.try_clone().ok()?;
        Some(Volume { file, label, root: joliet.unwrap_or(root), joliet: joliet.is_some() })
    }

    /// The volume identifier.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The bytes of a file; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read, or has more than `most` bytes.
    pub fn read(&self, path: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
        let mut here = self.root;
        for name in path.split('/') {
            if here.flags & FOLDER == 0 {
                return Ok(None);
            }
            match self.entry(here, name)? {
                Some(extent) => here = extent,
                None => return Ok(None),
            }
        }
        if here.flags & FOLDER != 0 {
            return Ok(None);
        }
        if here.flags & MORE != 0 || u64::from(here.bytes) > most {
            return Err(io::Error::other(format!("it has more than {most} bytes")));
        }
        self.bytes(here).map(Some)
    }

    fn entry(&self, folder: Extent, name: &str) -> io::Result<Option<Extent>> {
        if u64::from(folder.bytes) > MOST_FOLDER_BYTES {
            return Err(io::Error::other(format!("its folder has more than {MOST_FOLDER_BYTES} bytes")));
        }
        for sector in self.bytes(folder)?.chunks(SECTOR as usize) {
            let mut rest = sector;
            // No record crosses the end of a sector; zeros fill it (section 6.8.1.1).
            while let Some((record, after)) = Record::read(rest) {
                if record.name(self.joliet).eq_ignore_ascii_case(name) {
                    return Ok(Some(record.extent));
                }
                rest = after;
            }
        }
        Ok(None)
    }

    fn bytes(&self, extent: Extent) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; extent.bytes as usize];
        self.file.read_exact_at(&mut bytes, u64::from(extent.sector) * SECTOR)?;
        Ok(bytes)
    }
}

/// A record of a folder (section 9.1).
struct Record<'a> {
    extent: Extent,
    identifier: &'a [u8],
    /// What Rock Ridge uses.
    system_use: &'a [u8],
}

impl Record<'_> {
    /// The record that `bytes` begin with, and what comes after it.
    fn read(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
        let length = usize::from(*bytes.first()?);
        let (record, after) = bytes.split_at_checked(length)?;
        let number = |at: usize| Some(u32::from_le_bytes(record.get(at..at + 4)?.try_into().ok()?));
        let extent = Extent { sector: number(2)?, bytes: number(10)?, flags: *record.get(25)? };
        let end = 33 + usize::from(*record.get(32)?);
        let identifier = record.get(33..end)?;
        // A byte of padding makes the identifier's end even (section 9.1.12).
        let system_use = record.get(end + end % 2..).unwrap_or_default();
        Some((Record { extent, identifier, system_use }, after))
    }

    fn name(&self, joliet: bool) -> String {
        let name = if joliet {
            let pairs = self.identifier.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            char::decode_utf16(pairs).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
        } else if let Some(name) = self.rock_ridge() {
            return name;
        } else {
            String::from_utf8_lossy(self.identifier).into_owned()
        };
        // A version follows, and a dot even if the name has no extension (section 7.5.1).
        let name = name.split_once(';').map_or(name.as_str(), |(name, _)| name);
        name.trim_end_matches('.').to_owned()
    }

    /// The alternate name, `NM` (IEEE P1282, section 4.1.4). Those that go on in another sector are longer than any that
    /// is looked for.
    fn rock_ridge(&self) -> Option<String> {
        let mut rest = self.system_use;
        let mut name = Vec::new();
        while let [first, second, length, _, ..] = *rest {
            let parts = rest.split_at_checked(usize::from(length)).filter(|_| length >= 4);
            let Some((entry, after)) = parts else { break };
            if [first, second] == *b"NM" {
                name.extend(entry.get(5..).unwrap_or_default());
            }
            rest = after;
        }
        (!name.is_empty()).then(|| String::from_utf8_lossy(&name).into_owned())
    }
}
