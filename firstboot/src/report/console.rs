//! The machine's consoles: every one that the kernel writes to.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Mutex;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::under;

/// How long one line may wait for a console that takes no more, a serial line held by flow control.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// Open consoles. Lines go there directly, not through `/dev/kmsg`: the kernel limits the rate there,
/// `quiet` would hide them, and nothing in the image could read them back.
pub struct Consoles {
    open: Mutex<Vec<File>>,
}

impl Consoles {
    /// Opens what `/sys/class/tty/console/active` lists, or `/dev/console` if that is not readable.
    pub fn find(root: &Path) -> Consoles {
        let active =
            std::fs::read_to_string(under(root, "/sys/class/tty/console/active")).unwrap_or_default();
        let mut open: Vec<File> = active.split_whitespace().filter_map(|name| console(root, name)).collect();
        if open.is_empty() {
            open.extend(console(root, "console"));
        }
        Consoles { open: Mutex::new(open) }
    }

    /// Writes one line to each. A console that fails is left out from then on.
    pub fn write(&self, line: &str) {
        let text = format!("{}\r\n", line.replace(|c: char| c.is_control(), " "));
        let mut open = self.open.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        open.retain_mut(|console| write_patiently(console, text.as_bytes()));
    }
}

fn console(root: &Path, name: &str) -> Option<File> {
    // Without O_NOCTTY the console would become PID 1's controlling terminal, and Ctrl-C its end.
    let flags = libc::O_NOCTTY | libc::O_NONBLOCK | libc::O_CLOEXEC;
    OpenOptions::new().write(true).custom_flags(flags).open(under(root, "/dev").join(name)).ok()
}

/// False if the console cannot be written at all; a line cut short by patience is no reason.
fn write_patiently(console: &mut File, mut text: &[u8]) -> bool {
    while !text.is_empty() {
        match console.write(text) {
            Ok(0) => return false,
            Ok(written) => text = &text[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let mut ready = [PollFd::new(&*console, PollFlags::OUT)];
                if !matches!(poll(&mut ready, Some(&PATIENCE)), Ok(1..)) {
                    return true;
                }
            }
            Err(_) => return false,
        }
    }
    true
}
