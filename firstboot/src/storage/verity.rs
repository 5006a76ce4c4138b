//! dm-verity: the superblock of a hash partition, the table for the kernel, and the mapping.
//!
//! Raw ioctls (linux/dm-ioctl.h) instead of the devicemapper crate, which links libdevmapper.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::report::under;

/// `verity\0\0`, cryptsetup's on-disk format 1.
const MAGIC: &[u8; 8] = b"verity\0\0";
const SUPERBLOCK_BYTES: usize = 512;
/// `struct dm_ioctl`.
const DM_IOCTL_BYTES: usize = 312;
/// `struct dm_target_spec`.
const DM_TARGET_BYTES: usize = 40;
const DM_DEV_CREATE: u8 = 3;
const DM_DEV_SUSPEND: u8 = 6;
const DM_TABLE_LOAD: u8 = 9;
const DM_READONLY: u32 = 1;

/// What can go wrong before the root is readable.
#[derive(Debug, thiserror::Error)]
pub enum VerityError {
    /// A device cannot be read.
    #[error("{device}: cannot be read")]
    Read {
        /// The device.
        device: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The hash partition does not begin with a superblock that fits.
    #[error("{device}: damaged verity superblock: {what}")]
    Superblock {
        /// The device.
        device: PathBuf,
        /// Which field, and its value.
        what: String,
    },
    /// The device mapper refused.
    #[error("the device mapper refused {operation}")]
    Mapper {
        /// What was asked of it.
        operation: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// What the superblock says. The salt and everything else is proved by the root hash, not trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    algorithm: String,
    data_block: u32,
    hash_block: u32,
    data_blocks: u64,
    salt: Vec<u8>,
}

impl Superblock {
    /// Reads it from the first bytes of a hash device.
    pub fn read(device: &Path) -> Result<Superblock, VerityError> {
        let mut bytes = [0; SUPERBLOCK_BYTES];
        let read = File::open(device).and_then(|file| file.read_exact_at(&mut bytes, 0));
        read.map_err(|source| VerityError::Read { device: device.to_owned(), source })?;
        Superblock::parse(&bytes).map_err(|what| VerityError::Superblock { device: device.to_owned(), what })
    }

    fn parse(bytes: &[u8; SUPERBLOCK_BYTES]) -> Result<Superblock, String> {
        let word32 = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if &bytes[..8] != MAGIC {
            return Err("no signature".to_owned());
        }
        if (word32(8), word32(12)) != (1, 1) {
            return Err(format!("version {}, hash type {}", word32(8), word32(12)));
        }
        let name = &bytes[32..64];
        let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
        let algorithm = String::from_utf8_lossy(&name[..end]).into_owned();
        if algorithm.is_empty() || !algorithm.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        {
            return Err("no hash algorithm".to_owned());
        }
        let (data_block, hash_block) = (word32(64), word32(68));
        for size in [data_block, hash_block] {
            if !size.is_power_of_two() || !(512..=65536).contains(&size) {
                return Err(format!("blocks of {size} bytes"));
            }
        }
        let data_blocks = u64::from(word32(72)) | u64::from(word32(76)) << 32;
        if data_blocks == 0 || data_blocks > u64::MAX / 65536 {
            return Err(format!("{data_blocks} data blocks"));
        }
        let salt_bytes = usize::from(u16::from_le_bytes([bytes[80], bytes[81]]));
        if salt_bytes > 256 {
            return Err(format!("a salt of {salt_bytes} bytes"));
        }
        let salt = bytes[88..88 + salt_bytes].to_vec();
        Ok(Superblock { algorithm, data_block, hash_block, data_blocks, salt })
    }

    /// Length of the mapping in 512-byte sectors.
    pub fn sectors(&self) -> u64 {
        self.data_blocks * u64::from(self.data_block) / 512
    }

    /// The table's parameters (Linux, Documentation/admin-guide/device-mapper/verity.rst).
    ///
    /// No option for corrupted blocks is set: a read of one fails with an input/output error, so wrong
    /// data never reaches a program, and the console still says what happened. `restart_on_corruption`
    /// would restart the machine for ever without a word as long as there is no other slot to start.
    pub fn table(&self, data: &Path, hash: &Path, root_hash: &str) -> String {
        let hash_start = SUPERBLOCK_BYTES.div_ceil(self.hash_block as usize);
        let salt: String = self.salt.iter().map(|byte| format!("{byte:02x}")).collect();
        format!(
            "1 {} {} {} {} {} {hash_start} {} {root_hash} {}",
            data.display(),
            hash.display(),
            self.data_block,
            self.hash_block,
            self.data_blocks,
            self.algorithm,
            if salt.is_empty() { "-" } else { &salt },
        )
    }
}

/// Maps `data`, proved by `hash` and `root_hash`, as `/dev/mapper`'s `name`; returns the device.
pub fn activate(
    root: &Path,
    name: &str,
    data: &Path,
    hash: &Path,
    root_hash: &str,
) -> Result<PathBuf, VerityError> {
    let superblock = Superblock::read(hash)?;
    let table = superblock.table(data, hash, root_hash);
    let control = OpenOptions::new().read(true).write(true).open(under(root, "/dev/mapper/control"));
    let mapper = |operation| move |source| VerityError::Mapper { operation, source };
    let control = control.map_err(mapper("to be opened"))?;
    let created = Command::new(DM_DEV_CREATE, name, DM_READONLY).run(&control);
    let device = created.map_err(mapper("to make a device"))?;
    let load = Command::new(DM_TABLE_LOAD, name, DM_READONLY).target(superblock.sectors(), "verity", &table);
    load.run(&control).map_err(mapper("the verity table"))?;
    Command::new(DM_DEV_SUSPEND, name, 0).run(&control).map_err(mapper("to start the device"))?;
    // `new_encode_dev` of linux/kdev_t.h: the low byte and the bits from 20 on are the minor number.
    let minor = device & 0xff | device >> 12 & 0xf_ff00;
    Ok(under(root, &format!("/dev/dm-{minor}")))
}

/// One request, a `struct dm_ioctl` with what follows it.
struct Command {
    number: u8,
    bytes: Vec<u8>,
}

impl Command {
    fn new(number: u8, name: &str, flags: u32) -> Command {
        let mut bytes = vec![0; DM_IOCTL_BYTES];
        // Interface version 4.0.0: everything since understands it.
        bytes[0..4].copy_from_slice(&4_u32.to_ne_bytes());
        bytes[16..20].copy_from_slice(&(DM_IOCTL_BYTES as u32).to_ne_bytes());
        bytes[28..32].copy_from_slice(&flags.to_ne_bytes());
        bytes[48..48 + name.len()].copy_from_slice(name.as_bytes());
        Command { number, bytes }
    }

    fn target(mut self, sectors: u64, kind: &str, parameters: &str) -> Command {
        self.bytes[20..24].copy_from_slice(&1_u32.to_ne_bytes());
        let mut target = vec![0; DM_TARGET_BYTES];
        target[8..16].copy_from_slice(&sectors.to_ne_bytes());
        target[24..24 + kind.len()].copy_from_slice(kind.as_bytes());
        target.extend_from_slice(parameters.as_bytes());
        target.push(0);
        target.resize(target.len().next_multiple_of(8), 0);
        self.bytes.extend_from_slice(&target);
        self
    }

    /// Returns the device number that the kernel filled in.
    fn run(mut self, control: &File) -> io::Result<u64> {
        let size = self.bytes.len() as u32;
        self.bytes[12..16].copy_from_slice(&size.to_ne_bytes());
        // `_IOWR(0xfd, number, struct dm_ioctl)`
        let request =
            3 << 30 | (DM_IOCTL_BYTES as libc::c_ulong) << 16 | 0xfd << 8 | libc::c_ulong::from(self.number);
        // SAFETY: the buffer is as long as its data_size field says and outlives the call.
        let result = unsafe { libc::ioctl(control.as_raw_fd(), request, self.bytes.as_mut_ptr()) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut device = [0; 8];
        device.copy_from_slice(&self.bytes[40..48]);
        Ok(u64::from_ne_bytes(device))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superblock() -> [u8; SUPERBLOCK_BYTES] {
        let mut bytes = [0; SUPERBLOCK_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8] = 1;
        bytes[12] = 1;
        bytes[32..38].copy_from_slice(b"sha256");
        bytes[64..68].copy_from_slice(&4096_u32.to_le_bytes());
        bytes[68..72].copy_from_slice(&4096_u32.to_le_bytes());
        bytes[72..80].copy_from_slice(&1000_u64.to_le_bytes());
        bytes[80] = 2;
        bytes[88..90].copy_from_slice(&[0xab, 0xcd]);
        bytes
    }

    #[test]
    fn the_table_is_what_the_kernel_documents() {
        let superblock = Superblock::parse(&superblock()).unwrap();
        assert_eq!(superblock.sectors(), 8000);
        insta::assert_snapshot!(
            superblock.table(Path::new("/dev/vda2"), Path::new("/dev/vda3"), "0123"),
            @"1 /dev/vda2 /dev/vda3 4096 4096 1000 1 sha256 0123 abcd"
        );
    }

    #[test]
    fn a_damaged_superblock_is_named() {
        for (at, value, expected) in [
            (0, 0, "no signature"),
            (8, 9, "version 9"),
            (32, 0, "algorithm"),
            (65, 0, "blocks of 0"),
            (81, 9, "salt"),
        ] {
            let mut bytes = superblock();
            bytes[at] = value;
            let error = Superblock::parse(&bytes).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_superblock_of_veritysetup_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let (data, hash) = (folder.path().join("data"), folder.path().join("hash"));
        std::fs::write(&data, vec![7; 64 * 4096]).unwrap();
        std::fs::write(&hash, "").unwrap();
        let mut command = std::process::Command::new("/usr/sbin/veritysetup");
        let output = command.arg("format").arg(&data).arg(&hash).args(["--salt", "00ff"]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let superblock = Superblock::read(&hash).unwrap();
        assert_eq!(superblock.sectors(), 64 * 8);
        assert_eq!(superblock.salt, [0, 0xff]);
        assert_eq!(superblock.algorithm, "sha256");
    }
}
