//! The kernel's device events (`NETLINK_KOBJECT_UEVENT`): waiting for a device without asking again
//! and again.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use netlink_sys::{Socket, SocketAddr};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// `NETLINK_KOBJECT_UEVENT` of linux/netlink.h.
const KOBJECT_UEVENT: isize = 15;
/// The kernel's own events; group 2 is udev's.
const KERNEL_GROUP: u32 = 1;
/// Enough for the burst of a coldplug; an overflow is noticed all the same.
const RECEIVE_BUFFER_BYTES: usize = 1 << 20;

/// A socket that hears every event from the moment it was opened.
pub struct Uevents {
    socket: Socket,
}

/// One thing heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A device event with its variables, `ACTION`, `SUBSYSTEM`, `MODALIAS`, …
    Event(BTreeMap<String, String>),
    /// Events were lost: look at everything again.
    Overflow,
}

impl Heard {
    /// A variable of the event.
    pub fn get(&self, name: &str) -> Option<&str> {
        match self {
            Heard::Event(variables) => variables.get(name).map(String::as_str),
            Heard::Overflow => None,
        }
    }
}

impl Uevents {
    /// Begins to listen.
    pub fn open() -> io::Result<Uevents> {
        let mut socket = Socket::new(KOBJECT_UEVENT)?;
        socket.set_rx_buf_sz(RECEIVE_BUFFER_BYTES as libc::c_int)?;
        socket.bind(&SocketAddr::new(0, KERNEL_GROUP))?;
        socket.set_non_blocking(true)?;
        Ok(Uevents { socket })
    }

    /// Everything heard since the last call, without waiting.
    pub fn drain(&mut self) -> io::Result<Vec<Heard>> {
        let mut heard = Vec::new();
        loop {
            match self.socket.recv_from_full() {
                // Port 0 is the kernel; any process could send from another.
                Ok((message, sender)) if sender.port_number() == 0 => heard.extend(parse(&message)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(heard),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => heard.push(Heard::Overflow),
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for something until `end`; empty if nothing came.
    pub fn wait(&mut self, end: Instant) -> io::Result<Vec<Heard>> {
        let left = end.saturating_duration_since(Instant::now());
        let events = self.as_fd();
        let mut ready = [PollFd::new(&events, PollFlags::IN)];
        match poll(&mut ready, Some(&timespec(left))) {
            Ok(0) => Ok(Vec::new()),
            Ok(_) | Err(rustix::io::Errno::INTR) => self.drain(),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for Uevents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor belongs to `self.socket`, which outlives what is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) }
    }
}

/// A duration as the kernel takes it.
pub fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

/// `add@/devices/…` and then `NAME=value`, each ended by a zero byte.
fn parse(message: &[u8]) -> Option<Heard> {
    let mut fields = message.split(|&byte| byte == 0);
    let header = fields.next()?;
    if !header.contains(&b'@') {
        return None;
    }
    let variables = fields.filter_map(|field| std::str::from_utf8(field).ok()?.split_once('='));
    Some(Heard::Event(variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_its_variables() {
        let message = b"add@/devices/pci0000:00/vda\0ACTION=add\0SUBSYSTEM=block\0DEVNAME=vda\0";
        let heard = parse(message).unwrap();
        assert_eq!(heard.get("DEVNAME"), Some("vda"));
        assert_eq!(heard.get("MODALIAS"), None);
    }

    #[test]
    fn what_is_no_kernel_event_is_passed_over() {
        assert_eq!(parse(b"libudev\0\xfe\xed"), None);
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn waiting_ends_in_time() {
        let mut events = Uevents::open().unwrap();
        let heard = events.wait(Instant::now()).unwrap();
        assert!(heard.iter().all(|heard| matches!(heard, Heard::Event(_))));
    }
}
