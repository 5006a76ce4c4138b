//! Random numbers: what the kernel's generator begins with, and a seed that is kept from boot to boot.
//!
//! The kernel's generator (random(4)) is ready once it has seen 256 bits of what nobody can foretell: those of the processor
//! if it is trusted, of a device, or of the timing of interrupts; until then getrandom(2) waits. The seed comes on top: what
//! an earlier boot has gathered is not lost, so that keys are good even where all of these are worth less than they claim.
//!
//! The seed is **never credited** as randomness (`RNDADDENTROPY`): a disk that is copied, or set back to a snapshot, has a
//! seed that another machine, or this one, has used before. systemd-random-seed(8) credits none either unless it is told to,
//! and there is no need for it since the kernel makes up for lack of sources by itself (Linux 5.4).

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use crate::files;
use crate::report::under;

/// Where the seed is kept, on the state partition.
const SEED: &str = "/var/lib/bootwright/random-seed";
/// Its length, bytes: what the generator's own state has room for, twice.
const SEED_BYTES: usize = 64;
const URANDOM: &str = "/dev/urandom";
/// `_IO('R', 7)` of linux/random.h: the generator takes in what was written to it at once, not within a minute.
const RNDRESEEDCRNG: libc::c_ulong = 0x5207;

/// Why there is no seed for the next boot.
#[derive(Debug, thiserror::Error)]
pub enum RandomnessError {
    /// The generator.
    #[error("the kernel's random numbers cannot be used")]
    Generator(#[source] io::Error),
    /// The file.
    #[error("{path}: the seed for the next boot cannot be kept")]
    Keep {
        /// The seed.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What a seed is for: the kernel's generator, and in tests what takes its place.
pub trait Generator {
    /// Takes in bytes, without trust, and uses them from the next number on.
    fn mix(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Fills with random bytes; waits until the generator is ready.
    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<()>;
}

/// That of the kernel.
#[derive(Debug)]
pub struct Kernel {
    device: PathBuf,
}

impl Kernel {
    /// The one whose device is below `root`.
    pub fn of(root: &Path) -> Kernel {
        Kernel { device: under(root, URANDOM) }
    }
}

impl Generator for Kernel {
    fn mix(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut device = OpenOptions::new().write(true).open(&self.device)?;
        device.write_all(bytes)?;
        // One that is not ready takes everything in when it is.
        // SAFETY: the request takes no argument.
        unsafe { libc::ioctl(device.as_raw_fd(), RNDRESEEDCRNG) };
        Ok(())
    }

    fn fill(&mut self, mut bytes: &mut [u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let filled = rustix::rand::getrandom(&mut *bytes, rustix::rand::GetRandomFlags::empty())?;
            bytes = &mut bytes[filled..];
        }
        Ok(())
    }
}

/// Has the generator take in the seed that an earlier boot has kept, if there is one, and keeps another: no seed is used
/// by two boots unless the power fails in between, which does no harm as none is credited. Whether there was one.
pub fn refresh(root: &Path, generator: &mut dyn Generator) -> Result<bool, RandomnessError> {
    let old = seed(&under(root, SEED));
    if let Some(old) = &old {
        generator.mix(old).map_err(RandomnessError::Generator)?;
    }
    keep(root, generator)?;
    Ok(old.is_some())
}

/// Keeps a seed for the next boot. At the end of a run once more: the machine has seen much since.
pub fn keep(root: &Path, generator: &mut dyn Generator) -> Result<(), RandomnessError> {
    let mut seed = [0; SEED_BYTES];
    generator.fill(&mut seed).map_err(RandomnessError::Generator)?;
    let path = under(root, SEED);
    files::replace(&path, &seed, 0o600).map_err(|source| RandomnessError::Keep { path, source })
}

/// What was kept; a file of another length is not ours, and one that cannot be read is as good as none.
fn seed(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(SEED_BYTES as u64 + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() == SEED_BYTES).then_some(bytes)
}

/// What the generator draws on besides the timing of interrupts, for people: `RDRAND`, `virtio_rng.0`.
pub fn sources(root: &Path) -> Vec<String> {
    let text = |path: &str| std::fs::read_to_string(under(root, path)).unwrap_or_default();
    let processor = text("/proc/cpuinfo");
    let flags = processor.lines().find_map(|line| line.strip_prefix("flags")).unwrap_or_default();
    let command_line = text("/proc/cmdline");
    let mut trusted =
        command_line.split_whitespace().filter_map(|word| word.strip_prefix("random.trust_cpu="));
    // The last one counts, and Debian's kernels trust it if nothing is said.
    let trusted = trusted.next_back().is_none_or(|value| matches!(value, "on" | "1" | "y" | "yes"));
    let instruction =
        ["rdseed", "rdrand"].into_iter().find(|name| flags.split_whitespace().any(|one| one == *name));
    let instruction = instruction.filter(|_| trusted).map(str::to_uppercase);
    let device = text("/sys/class/misc/hw_random/rng_current").trim().to_owned();
    let device = Some(device).filter(|name| !name.is_empty() && name != "none");
    instruction.into_iter().chain(device).collect()
}

#[cfg(test)]
mod tests;
