//! The end of the machine: what is left is killed, the state partition unmounted, and the kernel told.
//!
//! The verity device stays: it is the root that this program runs from, read-only, with nothing to lose.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount_remount, unmount};
use rustix::process::{Signal, WaitOptions, wait};

use crate::randomness;

use super::supervisor::Ended;
use super::watchdog::Watchdog;
use super::{Ending, Host, Observer};

/// For what is left to end by itself after SIGTERM.
const TERM: Duration = Duration::from_secs(2);
/// For the kernel to end it after SIGKILL.
const KILL: Duration = Duration::from_secs(2);
/// For the disks to take what is written.
const SYNC: Duration = Duration::from_secs(60);
/// Mount points to be unmounted, with everything below: the state partition, and the file systems of containers
/// that lie over it.
const UNMOUNTED: [&str; 2] = ["/var", "/run"];

/// Ends the machine.
pub fn end(host: &Host, ended: Ended, observer: &mut dyn Observer) -> ! {
    let Ended { ending, mut watchdog } = ended;
    if !host.pid1 {
        // kill(-1) and reboot(2) of any other process would end somebody else's machine.
        observer.line("not PID 1: the machine stays on");
        std::process::exit(0);
    }
    end_processes();
    // A state that cannot be written any more keeps the seed of the boot before, which does no harm.
    let _ = randomness::keep(Path::new("/"), &mut randomness::Kernel::of(Path::new("/")));
    fed(&mut watchdog, observer, rustix::fs::sync);
    unmount_all(observer);
    fed(&mut watchdog, observer, rustix::fs::sync);
    let what = match ending {
        Ending::PowerOff => "powering off",
        Ending::Reboot => "rebooting",
    };
    observer.line(what);
    // Last, so that a hang up to here is ended by a reset.
    if let Some(watchdog) = watchdog {
        watchdog.disarm();
    }
    let command = match ending {
        Ending::PowerOff => libc::RB_POWER_OFF,
        Ending::Reboot => libc::RB_AUTOBOOT,
    };
    // SAFETY: reboot(2) takes a number; processes and file systems have been brought to an end above.
    unsafe { libc::reboot(command) };
    let error = io::Error::last_os_error();
    observer
        .line(&format!("the kernel refuses: {error}; switch the machine off by hand, its disks are at rest"));
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// Does work that may wait for a slow disk, and feeds the watchdog until [`SYNC`] has passed: a reset in the middle
/// of it would lose what is being written, and a disk that has gone would hold the machine for ever.
fn fed(watchdog: &mut Option<Watchdog>, observer: &dyn Observer, work: fn()) {
    let (done, finished) = mpsc::channel();
    let until = Instant::now() + SYNC;
    let thread = std::thread::Builder::new().spawn(move || {
        work();
        let _ = done.send(());
    });
    if thread.is_err() {
        return work();
    }
    while Instant::now() < until
        && finished.recv_timeout(Duration::from_secs(1)) == Err(mpsc::RecvTimeoutError::Timeout)
    {
        if let Some(watchdog) = watchdog {
            watchdog.feed(observer.uptime_ms());
        }
    }
}

/// Ends every other process: orphans, and what services left behind.
fn end_processes() {
    for (signal, patience) in [(Signal::TERM, TERM), (Signal::KILL, KILL)] {
        // SAFETY: kill(2) takes numbers. As PID 1, -1 is everybody else.
        unsafe { libc::kill(-1, signal.as_raw()) };
        let until = Instant::now() + patience;
        // All that is left are children of PID 1, or become so when their parents end.
        while Instant::now() < until {
            match wait(WaitOptions::NOHANG) {
                Err(Errno::CHILD) => return,
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) | Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

/// Unmounts everything at and below [`UNMOUNTED`], the newest first; what stays busy is made read-only.
fn unmount_all(observer: &mut dyn Observer) {
    // A mount may keep another busy for a moment, or hide it: as long as there is progress, again.
    for _ in 0..8 {
        let before = to_unmount();
        for point in before.iter().rev() {
            let _ = unmount(point.as_str(), UnmountFlags::NOFOLLOW);
        }
        let left = to_unmount();
        if left.is_empty() || left.len() == before.len() {
            break;
        }
    }
    for point in to_unmount().iter().filter(|point| below(point, "/var")).rev() {
        if let Err(error) = mount_remount(point.as_str(), MountFlags::RDONLY, "")
            && point == "/var"
        {
            observer.line(&format!(
                "{point} stays busy ({error}); its journal will be replayed at the next boot"
            ));
            // The kernel's own way, which asks nobody.
            let _ = fs::write("/proc/sysrq-trigger", "u");
        }
    }
}

fn to_unmount() -> Vec<String> {
    mount_points(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

/// Mount points to be unmounted from the text of `/proc/<pid>/mountinfo` (proc(5)), in its order, oldest first.
fn mount_points(mountinfo: &str) -> Vec<String> {
    let points = mountinfo.lines().filter_map(|line| Some(unescape(line.split(' ').nth(4)?)));
    // /run itself holds the report and nothing that a disk is needed for.
    points.filter(|point| point != "/run" && UNMOUNTED.iter().any(|top| below(point, top))).collect()
}

fn below(point: &str, top: &str) -> bool {
    Path::new(point).starts_with(top)
}

/// Undoes the octal escapes of mountinfo: space, tab, newline and backslash.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let rest = bytes.clone().take(3).collect::<Vec<u8>>();
        let code = (byte == b'\\' && rest.len() == 3)
            .then(|| std::str::from_utf8(&rest).ok().and_then(|digits| u8::from_str_radix(digits, 8).ok()))
            .flatten();
        match code {
            Some(code) => {
                out.push(code);
                bytes.nth(2);
            }
            None => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_over_and_below_the_state_partition_are_found() {
        let mountinfo = "\
21 1 254:0 / / ro,relatime shared:1 - squashfs /dev/dm-0 ro
22 21 0:5 / /dev rw - devtmpfs devtmpfs rw
23 21 0:21 / /run rw - tmpfs tmpfs rw
24 21 254:7 / /var rw - ext4 /dev/vda7 rw
25 24 0:40 / /var/lib/kubelet/pods/1/volumes/a\\040b rw - tmpfs tmpfs rw
26 23 0:41 / /run/containerd/rootfs rw - overlay overlay rw,lowerdir=/var/lib/containerd/1
27 21 0:42 / /various rw - tmpfs tmpfs rw
short line
";
        assert_eq!(
            mount_points(mountinfo),
            ["/var", "/var/lib/kubelet/pods/1/volumes/a b", "/run/containerd/rootfs"]
        );
    }

    #[test]
    fn escapes_that_are_none_stay() {
        assert_eq!(unescape("a\\134b\\09\\"), "a\\b\\09\\");
    }
}
