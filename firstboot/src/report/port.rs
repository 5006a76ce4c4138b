//! The report on a virtio-serial port, for a lab that looks on from outside without a shell.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use super::under;

/// Name of the port, `-device virtserialport,name=…` in QEMU.
pub const PORT_NAME: &str = "org.bootwright.report";

/// The port: the latest report, one line of JSON, and a thread that writes it when the host takes it.
/// A report that is outdated before the host took it is skipped.
pub struct ReportPort {
    root: PathBuf,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    latest: Option<Vec<u8>>,
    open: bool,
    busy: bool,
}

impl ReportPort {
    /// A port that is looked for with each report until it is there: its driver is a module.
    pub fn new(root: &Path) -> ReportPort {
        let shared = Shared { state: Mutex::default(), changed: Condvar::new() };
        ReportPort { root: root.to_owned(), shared: Arc::new(shared) }
    }

    /// Hands over a line, its newline included.
    pub fn send(&self, line: Vec<u8>) {
        let mut state = self.shared.lock();
        if !state.open {
            let Some(device) = find(&self.root) else { return };
            let shared = Arc::clone(&self.shared);
            let spawned = std::thread::Builder::new().name("report-port".to_owned());
            state.open = spawned.spawn(move || shared.write_to(device)).is_ok();
        }
        state.latest = Some(line);
        self.shared.changed.notify_all();
    }

    /// Waits until the last line is written, at most `limit`.
    pub fn flush(&self, limit: Duration) {
        let end = Instant::now() + limit;
        let mut state = self.shared.lock();
        while state.open && (state.busy || state.latest.is_some()) {
            let Some(left) = end.checked_duration_since(Instant::now()) else { return };
            state = match self.shared.changed.wait_timeout(state, left) {
                Ok((state, _)) => state,
                Err(_) => return,
            };
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write_to(&self, mut device: File) {
        loop {
            // First room, then the latest report: what waits for a slow host is never stale.
            let mut room = [PollFd::new(&device, PollFlags::OUT)];
            if !matches!(poll(&mut room, None), Ok(1..) | Err(rustix::io::Errno::INTR)) {
                break;
            }
            let line = self.next_line();
            let written = write_line(&mut device, &line);
            let mut state = self.lock();
            state.busy = false;
            self.changed.notify_all();
            if !written {
                break;
            }
        }
        self.lock().open = false;
    }

    fn next_line(&self) -> Vec<u8> {
        let mut state = self.lock();
        loop {
            if let Some(line) = state.latest.take() {
                state.busy = true;
                return line;
            }
            state = self.changed.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }
}

/// The driver takes up to 32 KiB in one go (`port_fops_write` in Linux' virtio_console.c), so a line is
/// whole even when PID 1 replaces itself meanwhile.
fn write_line(device: &mut File, mut line: &[u8]) -> bool {
    while !line.is_empty() {
        match device.write(line) {
            Ok(written) => line = &line[written..],
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                let mut room = [PollFd::new(&*device, PollFlags::OUT)];
                if poll(&mut room, None).is_err_and(|error| error != rustix::io::Errno::INTR) {
                    return false;
                }
            }
            Err(_) => return false,
        }
    }
    true
}

fn find(root: &Path) -> Option<File> {
    let ports = std::fs::read_dir(under(root, "/sys/class/virtio-ports")).ok()?;
    let port = ports.flatten().find(|port| {
        std::fs::read_to_string(port.path().join("name")).is_ok_and(|name| name.trim() == PORT_NAME)
    })?;
    let device = under(root, "/dev").join(port.file_name());
    OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(device).ok()
}
