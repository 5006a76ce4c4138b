//! dm-verity hash tree, the same bytes as `veritysetup format` writes.
//!
//! Format: superblock of version 1, hash type 1 (salt first), SHA-256, data and hash blocks of 4096
//! bytes. Sources: the kernel's `Documentation/admin-guide/device-mapper/verity.rst` and cryptsetup's
//! wiki page on the on-disk format.
//!
//! Own code rather than `veritysetup`: the tool reads its input once more from the disk on one core,
//! and needs a file to write to; this runs on every core and streams.

use std::io::{self, Read};

use rayon::prelude::*;
use sha2::{Digest, Sha256};
use thiserror::Error;
use uuid::Uuid;

/// Bytes of a data block and of a hash block.
pub const BLOCK_SIZE: usize = 4096;
/// Bytes of a SHA-256 digest.
const DIGEST_SIZE: usize = 32;
/// Digests in one hash block.
const FAN_OUT: usize = BLOCK_SIZE / DIGEST_SIZE;
/// Bytes read and hashed at a time; bounds the memory while giving every core work.
const BATCH: usize = 8 << 20;
/// Longest salt that the superblock has room for.
const MAX_SALT: usize = 256;

/// Why no hash tree was made.
#[derive(Debug, Error)]
pub enum VerityError {
    /// The input could not be read.
    #[error("cannot read the root filesystem at offset {offset}: {source}")]
    Read {
        /// Bytes read before.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// The input is empty or is not made of whole blocks.
    #[error(
        "the root filesystem is {length} bytes long; dm-verity needs one or more whole blocks of {BLOCK_SIZE} bytes: \
         pad it"
    )]
    Unaligned {
        /// Bytes of the input.
        length: u64,
    },
    /// The salt does not fit.
    #[error("the verity salt is {length} bytes long, the superblock has room for {MAX_SALT}: shorten it")]
    Salt {
        /// Bytes of the salt.
        length: usize,
    },
}

/// A hash tree and what proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashTree {
    /// Digest of the top block; the kernel command line's `roothash`.
    pub root_hash: [u8; 32],
    /// Contents of the verity partition: the superblock, then the levels from the top down.
    pub bytes: Vec<u8>,
    /// Bytes that were hashed.
    pub data_size: u64,
}

impl HashTree {
    /// The root hash as 64 lower-case hexadecimal digits.
    pub fn root_hash_hex(&self) -> String {
        crate::digests::hex(&self.root_hash)
    }
}

/// Bytes of the hash tree over `data_size` bytes, superblock included.
pub fn tree_size(data_size: u64) -> u64 {
    let mut blocks = data_size.div_ceil(BLOCK_SIZE as u64);
    let mut all = 1;
    while blocks > 1 {
        blocks = blocks.div_ceil(FAN_OUT as u64);
        all += blocks;
    }
    all * BLOCK_SIZE as u64
}

/// Hashes everything that `data` yields.
///
/// `salt` goes before each block; `uuid` names the superblock. Both decide the bytes, so a caller who
/// wants the same image twice derives them from digests.
pub fn hash_tree(data: &mut dyn Read, salt: &[u8], uuid: Uuid) -> Result<HashTree, VerityError> {
    if salt.len() > MAX_SALT {
        return Err(VerityError::Salt { length: salt.len() });
    }
    let (leaves, data_size) = hash_data(data, salt)?;
    if let Ok(root_hash) = <[u8; DIGEST_SIZE]>::try_from(&leaves[..]) {
        // A single data block has no level above it: its own digest is the root hash.
        return Ok(HashTree { root_hash, bytes: superblock(salt, uuid, 1), data_size });
    }
    let mut levels = vec![into_blocks(leaves)];
    while levels[levels.len() - 1].len() > BLOCK_SIZE {
        let below = &levels[levels.len() - 1];
        levels.push(into_blocks(hash_blocks(below, salt)));
    }
    let top = &levels[levels.len() - 1];
    let root_hash = hash_block(&Sha256::new_with_prefix(salt), top);

    let mut bytes = superblock(salt, uuid, data_size / BLOCK_SIZE as u64);
    for level in levels.iter().rev() {
        bytes.extend_from_slice(level);
    }
    Ok(HashTree { root_hash, bytes, data_size })
}

/// Digests of the data blocks, one after the other, and the bytes read.
fn hash_data(data: &mut dyn Read, salt: &[u8]) -> Result<(Vec<u8>, u64), VerityError> {
    let mut leaves = Vec::new();
    let mut length = 0_u64;
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        batch.clear();
        let read = data
            .take(BATCH as u64)
            .read_to_end(&mut batch)
            .map_err(|source| VerityError::Read { offset: length, source })?;
        length += read as u64;
        if read == 0 {
            break;
        }
        if read % BLOCK_SIZE != 0 {
            return Err(VerityError::Unaligned { length });
        }
        leaves.extend_from_slice(&hash_blocks(&batch, salt));
    }
    if length == 0 {
        return Err(VerityError::Unaligned { length });
    }
    Ok((leaves, length))
}

/// The digests of `blocks`, whose length is a multiple of the block size.
fn hash_blocks(blocks: &[u8], salt: &[u8]) -> Vec<u8> {
    let salted = Sha256::new_with_prefix(salt);
    let mut digests = vec![0; blocks.len() / BLOCK_SIZE * DIGEST_SIZE];
    digests.par_chunks_mut(BLOCK_SIZE).zip(blocks.par_chunks(BLOCK_SIZE * FAN_OUT)).for_each(
        |(digests, blocks)| {
            for (digest, block) in digests.chunks_exact_mut(DIGEST_SIZE).zip(blocks.chunks_exact(BLOCK_SIZE))
            {
                digest.copy_from_slice(&hash_block(&salted, block));
            }
        },
    );
    digests
}

fn hash_block(salted: &Sha256, block: &[u8]) -> [u8; 32] {
    let mut hash = salted.clone();
    hash.update(block);
    hash.finalize().into()
}

/// Fills the last block up with zeros.
fn into_blocks(mut digests: Vec<u8>) -> Vec<u8> {
    digests.resize(digests.len().next_multiple_of(BLOCK_SIZE), 0);
    digests
}

/// The superblock, padded to a hash block.
fn superblock(salt: &[u8], uuid: Uuid, data_blocks: u64) -> Vec<u8> {
    let mut block = Vec::with_capacity(BLOCK_SIZE);
    block.extend_from_slice(b"verity\0\0");
    block.extend_from_slice(&1_u32.to_le_bytes()); // version of the superblock
    block.extend_from_slice(&1_u32.to_le_bytes()); // hash type: the salt comes first
    block.extend_from_slice(uuid.as_bytes());
    let mut algorithm = [0; 32];
    algorithm[..6].copy_from_slice(b"sha256");
    block.extend_from_slice(&algorithm);
    block.extend_from_slice(&(BLOCK_SIZE as u32).to_le_bytes()); // of data
    block.extend_from_slice(&(BLOCK_SIZE as u32).to_le_bytes()); // of hashes
    block.extend_from_slice(&data_blocks.to_le_bytes());
    // `hash_tree` refused a longer salt than 256 bytes.
    block.extend_from_slice(&(salt.len() as u16).to_le_bytes());
    block.extend_from_slice(&[0; 6]);
    block.extend_from_slice(salt);
    block.resize(BLOCK_SIZE, 0);
    block
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn uuid() -> Uuid {
        Uuid::from_bytes([7; 16])
    }

    /// Bytes that differ from block to block.
    fn sample(blocks: usize) -> Vec<u8> {
        (0..blocks * BLOCK_SIZE).map(|at| (at / 7 % 251) as u8 ^ (at / BLOCK_SIZE) as u8).collect()
    }

    fn tree(data: &[u8], salt: &[u8]) -> HashTree {
        hash_tree(&mut &data[..], salt, uuid()).unwrap()
    }

    /// What veritysetup makes of the same input.
    fn veritysetup(data: &[u8], salt: &[u8]) -> (Vec<u8>, String) {
        let folder = tempfile::tempdir().unwrap();
        let (input, output) = (folder.path().join("data"), folder.path().join("hash"));
        std::fs::write(&input, data).unwrap();
        let salt = if salt.is_empty() { "-".to_owned() } else { crate::digests::hex(salt) };
        let done = Command::new("veritysetup")
            .arg("format")
            .arg(&input)
            .arg(&output)
            .args(["--salt", &salt, "--uuid", &uuid().to_string()])
            .output()
            .expect("veritysetup (package cryptsetup-bin) runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let text = String::from_utf8(done.stdout).unwrap();
        let root_hash =
            text.lines().find_map(|line| line.strip_prefix("Root hash:")).unwrap().trim().to_owned();
        (std::fs::read(&output).unwrap(), root_hash)
    }

    #[test]
    fn equals_veritysetup_at_every_depth() {
        // One block, a full and an overfull hash block, and a third level.
        for blocks in [1, 2, FAN_OUT, FAN_OUT + 1, 3 * FAN_OUT, FAN_OUT * FAN_OUT + 1] {
            for salt in [&[][..], &[0xab; 32][..]] {
                let data = sample(blocks);
                let ours = tree(&data, salt);
                let (bytes, root_hash) = veritysetup(&data, salt);
                assert_eq!(ours.root_hash_hex(), root_hash, "{blocks} blocks, salt of {}", salt.len());
                assert!(ours.bytes == bytes, "{blocks} blocks, salt of {}: trees differ", salt.len());
            }
        }
    }

    #[test]
    fn veritysetup_accepts_it_and_refuses_a_flipped_bit() {
        let folder = tempfile::tempdir().unwrap();
        let (data, hash) = (folder.path().join("data"), folder.path().join("hash"));
        let mut bytes = sample(300);
        let ours = tree(&bytes, &[1, 2, 3]);
        std::fs::write(&data, &bytes).unwrap();
        std::fs::write(&hash, &ours.bytes).unwrap();
        let verify = || {
            let done = Command::new("veritysetup")
                .arg("verify")
                .args([&data, &hash])
                .arg(ours.root_hash_hex())
                .output()
                .expect("veritysetup (package cryptsetup-bin) runs");
            done.status.success()
        };
        assert!(verify());
        bytes[200 * BLOCK_SIZE + 17] ^= 1;
        std::fs::write(&data, &bytes).unwrap();
        assert!(!verify());
    }

    #[test]
    fn a_batch_border_changes_nothing() {
        /// Yields at most 1000 bytes at a time.
        struct Trickle<'a>(&'a [u8]);
        impl Read for Trickle<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let length = buffer.len().min(1000);
                self.0.read(&mut buffer[..length])
            }
        }
        let data = sample(BATCH / BLOCK_SIZE + 3);
        let trickled = hash_tree(&mut Trickle(&data), b"salt", uuid()).unwrap();
        assert!(trickled == tree(&data, b"salt"));
    }

    #[test]
    fn refuses_what_is_not_whole_blocks() {
        let error = hash_tree(&mut &[0; 5000][..], &[], uuid()).unwrap_err();
        insta::assert_snapshot!(error, @"the root filesystem is 5000 bytes long; dm-verity needs one or more whole blocks of 4096 bytes: pad it");
        let error = hash_tree(&mut io::empty(), &[], uuid()).unwrap_err();
        assert!(matches!(error, VerityError::Unaligned { length: 0 }));
        let error = hash_tree(&mut &[0; BLOCK_SIZE][..], &[0; 257], uuid()).unwrap_err();
        assert!(matches!(error, VerityError::Salt { length: 257 }));
    }

    #[test]
    fn passes_a_read_error_on_with_its_offset() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("bad sector"))
            }
        }
        let mut data = (&[0; 2 * BATCH][..]).chain(Broken);
        let error = hash_tree(&mut data, &[], uuid()).unwrap_err();
        assert!(matches!(error, VerityError::Read { offset, .. } if offset == 2 * BATCH as u64));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn a_change_anywhere_changes_the_root_hash(blocks in 1_usize..400, at in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let mut data = sample(blocks);
            let before = tree(&data, b"s").root_hash;
            let at = at.index(data.len());
            data[at] ^= 1 << bit;
            prop_assert_ne!(before, tree(&data, b"s").root_hash);
        }
    }
}
