//! The hardware watchdog: it resets the machine when the supervisor's loop hangs.
//!
//! Fed by the loop itself; a thread of its own would feed on while the loop hangs. Interface: Linux kernel,
//! Documentation/watchdog/watchdog-api.rst.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;

use super::machine::Millis;

/// Wanted time without a sign of life until the reset.
const TIMEOUT_SECONDS: libc::c_int = 60;
/// `_IOWR('W', 6, int)`.
const WDIOC_SETTIMEOUT: libc::c_ulong = 0xc004_5706;
/// `_IOR('W', 7, int)`.
const WDIOC_GETTIMEOUT: libc::c_ulong = 0x8004_5707;

/// An armed watchdog.
#[derive(Debug)]
pub struct Watchdog {
    device: File,
    timeout: Millis,
    fed: Millis,
}

impl Watchdog {
    /// Opens and so arms it; `None` if the machine has none.
    pub fn open(path: &Path, now: Millis) -> Option<Watchdog> {
        let device = OpenOptions::new().write(true).open(path).ok()?;
        let mut seconds = TIMEOUT_SECONDS;
        // SAFETY: both requests take a pointer to an int that outlives the call. One that refuses leaves it.
        unsafe {
            if libc::ioctl(device.as_raw_fd(), WDIOC_SETTIMEOUT, &raw mut seconds) != 0 {
                libc::ioctl(device.as_raw_fd(), WDIOC_GETTIMEOUT, &raw mut seconds);
            }
        }
        let mut watchdog =
            Watchdog { device, timeout: Millis::from(seconds.max(1).cast_unsigned()) * 1000, fed: now };
        watchdog.write(b"1");
        Some(watchdog)
    }

    /// Time without a sign of life until the reset, as the device set it.
    pub fn timeout(&self) -> Millis {
        self.timeout
    }

    /// When it has to be fed next: at a quarter of the time, so that a slow turn of the loop does not matter.
    pub fn due(&self) -> Millis {
        self.fed + self.timeout / 4
    }

    /// Feeds it if it is due.
    pub fn feed(&mut self, now: Millis) {
        if now >= self.due() {
            self.write(b"1");
            self.fed = now;
        }
    }

    /// Disarms it: the magic character, then close.
    pub fn disarm(mut self) {
        self.write(b"V");
    }

    fn write(&mut self, byte: &[u8; 1]) {
        // A device that refuses resets the machine, which is what it is for.
        let _ = self.device.write_all(byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fed_when_due_and_disarmed_with_the_magic_character() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("watchdog");
        assert!(Watchdog::open(&path, 0).is_none(), "a machine without one");
        std::fs::write(&path, "").unwrap();
        let mut watchdog = Watchdog::open(&path, 1000).unwrap();
        assert_eq!(watchdog.timeout(), 60_000, "a plain file refuses both requests");
        watchdog.feed(15_999);
        watchdog.feed(16_000);
        assert_eq!(watchdog.due(), 31_000);
        watchdog.disarm();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "11V");
    }
}
