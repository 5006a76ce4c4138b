//! The power button, which the kernel shows as a key of an input device.
//!
//! Interface: Linux kernel, Documentation/input/input.rst and `include/uapi/linux/input.h`. On an ACPI machine the
//! modules `button` and `evdev` make it.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;
/// `sizeof(struct input_event)` on a 64-bit kernel: a time of 16 bytes, type, code, value.
const EVENT_BYTES: usize = 24;
/// Bytes of the bit set of keys: `KEY_MAX` is 0x2ff.
const KEY_BYTES: usize = 0x300 / 8;
/// `EVIOCGBIT(EV_KEY, KEY_BYTES)`: `_IOC(_IOC_READ, 'E', 0x20 + EV_KEY, KEY_BYTES)`.
const EVIOCGBIT_KEY: libc::c_ulong = (2 << 30) | ((KEY_BYTES as libc::c_ulong) << 16) | (0x45 << 8) | 0x21;

/// All power buttons of the machine; a real and a virtual one may both be there.
#[derive(Debug, Default)]
pub struct PowerButtons {
    devices: Vec<(PathBuf, File)>,
}

impl PowerButtons {
    /// Opens buttons that have appeared in `/dev/input` since the last time.
    pub fn find(&mut self, folder: &Path) {
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            let is_event = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"event"));
            if !is_event || self.devices.iter().any(|(known, _)| *known == path) {
                continue;
            }
            let opened =
                OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(&path);
            if let Ok(device) = opened
                && has_power_key(&device)
            {
                self.devices.push((path, device));
            }
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.devices.len()
    }

    /// Descriptors that become readable when a button is pressed.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.devices.iter().map(|(_, device)| device.as_fd())
    }

    /// Reads what has come, and tells whether a button was pressed.
    pub fn pressed(&mut self) -> bool {
        let mut pressed = false;
        self.devices.retain_mut(|(_, device)| {
            let mut events = [0_u8; EVENT_BYTES * 16];
            loop {
                match device.read(&mut events) {
                    Ok(0) => return false,
                    Ok(n) => pressed |= is_press(&events[..n]),
                    Err(error) => match error.kind() {
                        std::io::ErrorKind::WouldBlock => return true,
                        std::io::ErrorKind::Interrupted => {}
                        // Unplugged.
                        _ => return false,
                    },
                }
            }
        });
        pressed
    }
}

fn has_power_key(device: &File) -> bool {
    let mut keys = [0_u8; KEY_BYTES];
    // SAFETY: the request writes at most the KEY_BYTES that its number carries.
    let got = unsafe { libc::ioctl(device.as_raw_fd(), EVIOCGBIT_KEY, keys.as_mut_ptr()) };
    got > 0 && keys[usize::from(KEY_POWER / 8)] & (1 << (KEY_POWER % 8)) != 0
}

/// Whether a run of `struct input_event`s has the power key going down.
fn is_press(events: &[u8]) -> bool {
    events.chunks_exact(EVENT_BYTES).any(|event| {
        let half = |at: usize| u16::from_ne_bytes([event[at], event[at + 1]]);
        let value = i32::from_ne_bytes([event[20], event[21], event[22], event[23]]);
        half(16) == EV_KEY && half(18) == KEY_POWER && value == 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: u16, code: u16, value: i32) -> Vec<u8> {
        let mut bytes = vec![0xff; 16];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(code.to_ne_bytes());
        bytes.extend(value.to_ne_bytes());
        bytes
    }

    #[test]
    fn only_the_power_key_going_down_counts() {
        let release = event(EV_KEY, KEY_POWER, 0);
        let other_key = event(EV_KEY, 30, 1);
        let other_kind = event(2, KEY_POWER, 1);
        let noise = [release, other_key, other_kind].concat();
        assert!(!is_press(&noise));
        assert!(is_press(&[noise.clone(), event(EV_KEY, KEY_POWER, 1)].concat()));
        assert!(!is_press(&event(EV_KEY, KEY_POWER, 1)[..EVENT_BYTES - 1]), "a cut event is none");
        assert!(!is_press(&[]));
    }

    #[test]
    fn files_that_are_no_input_devices_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("event0"), event(EV_KEY, KEY_POWER, 1)).unwrap();
        std::fs::write(folder.path().join("mice"), "").unwrap();
        let mut buttons = PowerButtons::default();
        buttons.find(folder.path());
        buttons.find(&folder.path().join("absent"));
        assert_eq!(buttons.count(), 0);
    }

    #[test]
    fn the_request_number_is_the_kernels() {
        assert_eq!(EVIOCGBIT_KEY, 0x8060_4521);
    }
}
