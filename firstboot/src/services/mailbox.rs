//! Messages from threads and signal handlers to the supervisor's loop, which sleeps in poll(2).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use rustix::event::{EventfdFlags, eventfd};

/// What threads report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The probe of this run of a service succeeded.
    Ready(usize, u32),
    /// It failed for a new reason.
    NotReady(usize, u32, String),
    /// A one-shot's marker could not be written; it will run again on the next boot.
    MarkerFailed(usize, String),
    /// Certificates were renewed: services to restart, by name.
    Renewed(Vec<String>),
    /// Renewing certificates failed.
    RenewalFailed(String),
}

/// The receiving end.
#[derive(Debug)]
pub struct Mailbox {
    wake: Arc<OwnedFd>,
    receiver: Receiver<Message>,
    sender: Sender<Message>,
}

/// A sending end.
#[derive(Debug, Clone)]
pub struct Post {
    wake: Arc<OwnedFd>,
    sender: Sender<Message>,
}

impl Mailbox {
    /// An empty one.
    pub fn new() -> io::Result<Mailbox> {
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (sender, receiver) = mpsc::channel();
        Ok(Mailbox { wake, receiver, sender })
    }

    /// An end for a thread.
    pub fn post(&self) -> Post {
        Post { wake: Arc::clone(&self.wake), sender: self.sender.clone() }
    }

    /// Readable when there is something to look at; signal handlers write to it too.
    pub fn wake(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Everything that has arrived.
    pub fn drain(&self) -> Vec<Message> {
        // Reset before looking: what arrives in between wakes again.
        let _ = rustix::io::read(&*self.wake, &mut [0_u8; 8]);
        self.receiver.try_iter().collect()
    }
}

impl Post {
    /// Sends and wakes the loop. When the loop has ended nobody is interested any more.
    pub fn send(&self, message: Message) {
        if self.sender.send(message).is_ok() {
            let _ = rustix::io::write(&*self.wake, &1_u64.to_ne_bytes());
        }
    }
}
