//! The hardware watchdogs: they reset the machine when the supervisor's loop hangs.
//!
//! Fed by the loop itself; a thread of its own would feed on while the loop hangs. Interface: Linux kernel,
//! Documentation/watchdog/watchdog-api.rst.
//!
//! All that a machine has are armed. Which one the kernel calls the first is chance, and one alone may be of no use: a
//! chipset's needs the firmware's leave to reset, and QEMU's of that kind waits twice as long as it says.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use super::machine::Millis;

/// Wanted time without a sign of life until the reset.
const TIMEOUT_SECONDS: libc::c_int = 60;
/// `MAX_DOGS` of the kernel's drivers/watchdog/watchdog_core.h.
const MOST: usize = 32;
/// `_IOR('W', 0, struct watchdog_info)`.
const WDIOC_GETSUPPORT: libc::c_ulong = 0x8028_5700;
/// `_IOWR('W', 6, int)`.
const WDIOC_SETTIMEOUT: libc::c_ulong = 0xc004_5706;
/// `_IOR('W', 7, int)`.
const WDIOC_GETTIMEOUT: libc::c_ulong = 0x8004_5707;

/// `struct watchdog_info` of the kernel's include/uapi/linux/watchdog.h.
#[repr(C)]
#[derive(Default)]
struct Info {
    options: u32,
    firmware_version: u32,
    /// Ends with a zero byte if it is shorter.
    identity: [u8; 32],
}

/// The armed watchdogs of a machine, one at least.
#[derive(Debug)]
pub struct Watchdog {
    devices: Vec<Device>,
    fed: Millis,
}

#[derive(Debug)]
struct Device {
    file: File,
    /// As the device set it.
    timeout: Millis,
    /// The driver's name of it; empty if it tells none.
    identity: String,
}

impl Watchdog {
    /// Opens and so arms all; `None` if the machine has none. `path` is that of the first: the others end in a number.
    pub fn open(path: &Path, now: Millis) -> Option<Watchdog> {
        let devices: Vec<Device> = paths(path).filter_map(|path| Device::open(&path)).collect();
        let mut watchdog = Watchdog { devices, fed: now };
        watchdog.write(b"1");
        (!watchdog.devices.is_empty()).then_some(watchdog)
    }

    /// Time without a sign of life until the reset, by the first that does it.
    pub fn timeout(&self) -> Millis {
        self.devices.iter().map(|device| device.timeout).min().unwrap_or(Millis::MAX)
    }

    /// `watchdog: resets the machine 60 s after a hang (i6300ESB timer, iTCO_wdt)`
    pub fn summary(&self) -> String {
        let names = self.devices.iter().map(|device| device.identity.as_str());
        let names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
        let names = if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
        format!("watchdog: resets the machine {} s after a hang{names}", self.timeout() / 1000)
    }

    /// When they have to be fed next: at a quarter of the time, so that a slow turn of the loop does not matter.
    pub fn due(&self) -> Millis {
        self.fed.saturating_add(self.timeout() / 4)
    }

    /// Feeds them if it is due.
    pub fn feed(&mut self, now: Millis) {
        if now >= self.due() {
            self.write(b"1");
            self.fed = now;
        }
    }

    /// Disarms them: the magic character, then close.
    pub fn disarm(mut self) {
        self.write(b"V");
    }

    fn write(&mut self, byte: &[u8; 1]) {
        for device in &mut self.devices {
            // A device that refuses resets the machine, which is what it is for.
            let _ = device.file.write_all(byte);
        }
    }
}

impl Device {
    /// `None` if there is none, or it is open already: the first has two names.
    fn open(path: &Path) -> Option<Device> {
        let file = OpenOptions::new().write(true).open(path).ok()?;
        let mut seconds = TIMEOUT_SECONDS;
        let mut info = Info::default();
        // SAFETY: two requests take a pointer to an int and one to a `watchdog_info`, which outlive the calls. One that
        // refuses leaves it.
        unsafe {
            if libc::ioctl(file.as_raw_fd(), WDIOC_SETTIMEOUT, &raw mut seconds) != 0 {
                libc::ioctl(file.as_raw_fd(), WDIOC_GETTIMEOUT, &raw mut seconds);
            }
            libc::ioctl(file.as_raw_fd(), WDIOC_GETSUPPORT, &raw mut info);
        }
        let timeout = Millis::from(seconds.max(1).cast_unsigned()) * 1000;
        let identity = info.identity.split(|byte| *byte == 0).next().unwrap_or_default();
        Some(Device { file, timeout, identity: String::from_utf8_lossy(identity).trim().to_owned() })
    }
}

/// `/dev/watchdog0` and so on, then `/dev/watchdog`: another name of the first, or a device of a driver that knows no
/// numbers, as `ipmi_watchdog`.
fn paths(path: &Path) -> impl Iterator<Item = PathBuf> {
    let numbered = (0..MOST).map(move |number| {
        let mut name = OsString::from(path);
        name.push(number.to_string());
        PathBuf::from(name)
    });
    numbered.chain([path.to_owned()])
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

    #[test]
    fn all_that_a_machine_has_are_armed_fed_and_disarmed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("watchdog");
        let names = ["watchdog0", "watchdog1", "watchdog31", "watchdog"];
        for name in names {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let mut watchdog = Watchdog::open(&path, 0).unwrap();
        // Plain files tell no name.
        assert_eq!(watchdog.summary(), "watchdog: resets the machine 60 s after a hang");
        watchdog.feed(15_000);
        watchdog.disarm();
        for name in names {
            assert_eq!(std::fs::read_to_string(folder.path().join(name)).unwrap(), "11V", "{name}");
        }
    }

    #[test]
    fn the_shortest_time_counts_and_names_are_told() {
        let device = |seconds: Millis, identity: &str| Device {
            file: tempfile::tempfile().unwrap(),
            timeout: seconds * 1000,
            identity: identity.to_owned(),
        };
        let devices = vec![device(60, "i6300ESB timer"), device(60, ""), device(20, "iTCO_wdt")];
        let watchdog = Watchdog { devices, fed: 1000 };
        assert_eq!(watchdog.due(), 6000);
        assert_eq!(
            watchdog.summary(),
            "watchdog: resets the machine 20 s after a hang (i6300ESB timer, iTCO_wdt)"
        );
    }
}
