//! The hardware watchdogs: they reset the machine when the supervisor's loop hangs.
//!
//! Fed when the loop itself says so; what fed by the clock would feed on while the loop hangs. Interface: Linux kernel,
//! Documentation/watchdog/watchdog-api.rst.
//!
//! All that a machine has are armed. Which one the kernel calls the first is chance, and one alone may be of no use: a
//! chipset's needs the firmware's leave to reset, and QEMU's of that kind waits twice as long as it says. Each has a thread of
//! its own: a management controller that restarts holds up whoever writes to its watchdog, and is not to keep the loop from
//! feeding the others.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};

use super::machine::Millis;

/// Wanted time without a sign of life until the reset.
const TIMEOUT_SECONDS: libc::c_int = 60;
/// How long it is waited for one that does not answer.
const PATIENCE: Duration = Duration::from_secs(1);
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

/// The armed watchdogs of a machine, one at least. One that is dropped stays armed.
#[derive(Debug)]
pub struct Watchdog {
    /// Of those that have said it by now.
    known: Vec<Known>,
    /// To the thread of each: it has to be fed.
    feeders: Vec<SyncSender<()>>,
    /// The next word is that to be switched off.
    disarm: Arc<AtomicBool>,
    /// Ends when all threads have ended.
    threads: Receiver<()>,
    fed: Millis,
}

/// What is known of a watchdog.
#[derive(Debug)]
struct Known {
    /// As the device set it.
    timeout: Millis,
    /// The driver's name of it; empty if it tells none.
    identity: String,
}

impl Watchdog {
    /// Opens and so arms all; `None` if the machine has none. `path` is that of the first: the others end in a number.
    pub fn open(path: &Path, now: Millis) -> Option<Watchdog> {
        let disarm = Arc::new(AtomicBool::new(false));
        let (opened, answers) = channel();
        let (running, threads) = channel();
        let feeders = paths(path).filter(|path| path.exists()).filter_map(|path| {
            let (feeder, words) = sync_channel(1);
            let thread = Thread { words, disarm: disarm.clone(), _running: running.clone() };
            let opened = opened.clone();
            let spawned = std::thread::Builder::new().name("watchdog".to_owned());
            spawned.spawn(move || thread.run(&path, opened)).ok().map(|_| feeder)
        });
        let feeders = feeders.collect();
        drop((opened, running));
        let end = Instant::now() + PATIENCE;
        let mut known = Vec::new();
        let is_late = loop {
            match answers.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(answer) => known.push(answer),
                // One that answers later is armed then, and has to be fed like the others.
                Err(RecvTimeoutError::Timeout) => break true,
                Err(RecvTimeoutError::Disconnected) => break false,
            }
        };
        (is_late || !known.is_empty()).then_some(Watchdog { known, feeders, disarm, threads, fed: now })
    }

    /// Time without a sign of life until the reset, by the first that does it; what is wanted of those that have not said it.
    pub fn timeout(&self) -> Millis {
        let wanted = Millis::from(TIMEOUT_SECONDS.cast_unsigned()) * 1000;
        self.known.iter().map(|device| device.timeout).min().unwrap_or(wanted)
    }

    /// `watchdog: resets the machine 60 s after a hang (i6300ESB timer, iTCO_wdt)`
    pub fn summary(&self) -> String {
        let names = self.known.iter().map(|device| device.identity.as_str());
        let mut names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
        names.sort_unstable();
        let names = if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
        format!("watchdog: resets the machine {} s after a hang{names}", self.timeout() / 1000)
    }

    /// When they have to be fed next: at a quarter of the time, so that a slow turn of the loop does not matter.
    pub fn due(&self) -> Millis {
        self.fed + self.timeout() / 4
    }

    /// Feeds them if it is due.
    pub fn feed(&mut self, now: Millis) {
        if now >= self.due() {
            self.tell();
            self.fed = now;
        }
    }

    /// Disarms them: the magic character, then close.
    pub fn disarm(self) {
        self.disarm.store(true, Ordering::Relaxed);
        self.tell();
        // Nothing is ever sent: the end of the last thread ends the wait.
        let _ = self.threads.recv_timeout(PATIENCE);
    }

    fn tell(&self) {
        for feeder in &self.feeders {
            // One that has not taken the last word takes this one with it.
            let _ = feeder.try_send(());
        }
    }
}

/// What feeds one watchdog.
struct Thread {
    words: Receiver<()>,
    disarm: Arc<AtomicBool>,
    _running: Sender<()>,
}

impl Thread {
    fn run(self, path: &Path, opened: Sender<Known>) {
        let Some((mut device, known)) = open(path) else { return };
        // A device that refuses resets the machine, which is what it is for.
        let _ = device.write_all(b"1");
        // Nobody may wait for it any more.
        let _ = opened.send(known);
        drop(opened);
        while self.words.recv().is_ok() {
            let is_end = self.disarm.load(Ordering::Relaxed);
            let _ = device.write_all(if is_end { b"V" } else { b"1" });
            if is_end {
                return;
            }
        }
    }
}

/// `None` if it is open already: the first has two names.
fn open(path: &Path) -> Option<(File, Known)> {
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
    Some((file, Known { timeout, identity: String::from_utf8_lossy(identity).trim().to_owned() }))
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

    /// Once when it was opened and once since, by a thread.
    fn eventually_fed(path: &Path) {
        let end = Instant::now() + Duration::from_secs(30);
        while std::fs::read_to_string(path).unwrap() != "11" {
            assert!(Instant::now() < end, "{} is not fed", path.display());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

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
        eventually_fed(&path);
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
        names.iter().for_each(|name| eventually_fed(&folder.path().join(name)));
        watchdog.disarm();
        for name in names {
            assert_eq!(std::fs::read_to_string(folder.path().join(name)).unwrap(), "11V", "{name}");
        }
    }

    #[test]
    fn the_shortest_time_counts_and_names_are_told() {
        let device = |seconds: Millis, identity: &str| Known {
            timeout: seconds * 1000,
            identity: identity.to_owned(),
        };
        let known = vec![device(60, "iTCO_wdt"), device(60, ""), device(20, "i6300ESB timer")];
        let (feeders, disarm, threads) = (Vec::new(), Arc::default(), channel().1);
        let watchdog = Watchdog { known, feeders, disarm, threads, fed: 1000 };
        assert_eq!(watchdog.due(), 6000);
        assert_eq!(
            watchdog.summary(),
            "watchdog: resets the machine 20 s after a hang (i6300ESB timer, iTCO_wdt)"
        );
    }

    #[test]
    fn one_that_does_not_answer_holds_up_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("watchdog");
        // Whoever opens it to write waits until somebody reads.
        let silent = folder.path().join("watchdog1");
        rustix::fs::mknodat(rustix::fs::CWD, &silent, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let good = folder.path().join("watchdog0");
        std::fs::write(&good, "").unwrap();
        let mut watchdog = Watchdog::open(&path, 0).unwrap();
        assert_eq!((watchdog.known.len(), watchdog.feeders.len()), (1, 2));
        watchdog.feed(15_000);
        eventually_fed(&good);
        watchdog.disarm();
        assert!(std::fs::read_to_string(&good).unwrap().ends_with('V'));
        // To its end: who writes where nobody reads any more is ended by a signal, the whole process.
        assert_eq!(std::fs::read(&silent).unwrap(), b"1V", "armed late, and switched off at once");
    }

    #[test]
    fn one_that_is_armed_late_is_fed_and_disarmed() {
        use std::io::Read;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("watchdog");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let mut watchdog = Watchdog::open(&path, 0).unwrap();
        assert_eq!((watchdog.known.len(), watchdog.due()), (0, 15_000));
        let mut late = File::open(&path).unwrap();
        let mut next = || {
            let mut byte = [0];
            late.read_exact(&mut byte).unwrap();
            byte[0]
        };
        assert_eq!(next(), b'1', "when it was opened");
        watchdog.feed(15_000);
        assert_eq!(next(), b'1');
        watchdog.disarm();
        assert_eq!(next(), b'V');
        assert_eq!(late.read(&mut [0]).unwrap(), 0, "its thread has ended");
    }
}
