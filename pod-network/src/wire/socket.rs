//! The socket: requests, dumps and batches, all with a bounded wait.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket as RawSocket, SocketAddr};
use rustix::net::sockopt;
use rustix::net::{RecvFlags, recv};

use super::Messages;
use super::attributes::{Attributes, half, text, word};
use super::constants::{NLM_F_ACK_TLVS, NLM_F_DUMP_INTR, NLMSGERR_ATTR_MSG};
use super::messages::HEADER_BYTES;

/// How long the kernel may take for an answer. It takes microseconds; a batch waits for one lock of the kernel.
const PATIENCE: Duration = Duration::from_secs(10);
/// Room for one answer. The kernel fills at most 32 KiB of a dump at a time.
const ANSWER_BYTES: usize = 64 << 10;
/// A batch ends when it has as many bytes, well below the send buffer that every socket has (208 KiB)...
const BATCH_BYTES: usize = 64 << 10;
/// ... or as many messages. If all of them fail, their errors have to fit into the receive buffer, each counting
/// about 1 KiB there.
const BATCH_MESSAGES: usize = 1024;
/// That receive buffer, bytes.
const RECEIVE_BYTES: usize = 4 << 20;
/// The same for the buffer that every socket has (208 KiB): only root of the machine may ask for more.
const SMALL_BATCH_MESSAGES: usize = 128;
/// How often a dump begins again when what it shows changed meanwhile.
const DUMP_TRIES: usize = 5;

/// Why something was not asked, answered or done.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The kernel said no.
    #[error("the kernel refused it{}", said(.says))]
    Refused {
        /// Its own words, if it has any.
        says: Option<String>,
        /// Its error number.
        source: io::Error,
    },
    /// The socket.
    #[error("the netlink socket failed")]
    Socket(#[from] io::Error),
    /// An answer that is no answer.
    #[error("the kernel's answer cannot be read: {0}")]
    Malformed(&'static str),
    /// Somebody else changes things all the time.
    #[error("what the kernel shows changed during each of {DUMP_TRIES} looks at it")]
    Unsteady,
}

impl WireError {
    /// The error number of a refusal.
    pub fn refusal(&self) -> Option<i32> {
        match self {
            WireError::Refused { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

fn said(says: &Option<String>) -> String {
    says.as_ref().map_or(String::new(), |says| format!(" ({says})"))
}

/// A socket for requests.
pub struct Socket {
    raw: RawSocket,
    sequence: u32,
    messages: Messages,
    batch_messages: usize,
    answer: Vec<u8>,
}

/// What an answer was.
enum Answer<'a> {
    /// Kind and payload.
    Message(u16, &'a [u8]),
    /// The end of a dump, or an acknowledgement.
    End,
    /// A refusal.
    Refused(WireError),
}

impl Socket {
    /// Opens it in the network namespace of this thread.
    pub fn open() -> io::Result<Socket> {
        let mut raw = RawSocket::new(NETLINK_ROUTE)?;
        raw.bind_auto()?;
        raw.connect(&SocketAddr::new(0, 0))?;
        // Words with an error number, and without the message that they are about; filters of a dump are obeyed.
        raw.set_ext_ack(true)?;
        raw.set_cap_ack(true)?;
        raw.set_netlink_get_strict_chk(true)?;
        let messages = Messages::default();
        let answer = vec![0; ANSWER_BYTES];
        let mut socket = Socket { raw, sequence: 0, messages, batch_messages: BATCH_MESSAGES, answer };
        sockopt::set_socket_timeout(socket.descriptor(), sockopt::Timeout::Recv, Some(PATIENCE))?;
        if sockopt::set_socket_recv_buffer_size_force(socket.descriptor(), RECEIVE_BYTES).is_err() {
            socket.batch_messages = SMALL_BATCH_MESSAGES;
        }
        Ok(socket)
    }

    /// One request that is acknowledged.
    pub fn request(&mut self, write: impl FnOnce(&mut Messages)) -> Result<(), WireError> {
        self.send_one(write, true)?;
        self.answers(false, |_, _| {})
    }

    /// One request that is answered by one message and an acknowledgement.
    pub fn get<T>(
        &mut self,
        write: impl FnOnce(&mut Messages),
        read: impl Fn(&[u8]) -> T,
    ) -> Result<T, WireError> {
        self.send_one(write, true)?;
        let mut answer = None;
        self.answers(false, |_, payload| answer = Some(read(payload)))?;
        answer.ok_or(WireError::Malformed("an acknowledgement without an answer"))
    }

    /// A request that is answered by any number of messages: what `read` makes of the payloads of this kind.
    pub fn dump<T>(
        &mut self,
        kind: u16,
        write: impl Fn(&mut Messages),
        read: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, WireError> {
        for _ in 0..DUMP_TRIES {
            let mut found = Vec::new();
            self.send_one(&write, false)?;
            match self.answers(true, |seen, payload| {
                if seen == kind {
                    found.extend(read(payload));
                }
            }) {
                Ok(()) => return Ok(found),
                Err(WireError::Unsteady) => {}
                Err(error) => return Err(error),
            }
        }
        Err(WireError::Unsteady)
    }

    /// Many requests, in order, `write` for each of `items`. `refused` hears of those that the kernel refused; the
    /// others are done.
    ///
    /// # Errors
    /// The socket failed: what of the items is done is not known.
    pub fn batch<T>(
        &mut self,
        items: &[T],
        mut write: impl FnMut(&T, &mut Messages),
        mut refused: impl FnMut(&T, WireError),
    ) -> Result<(), WireError> {
        let mut rest = items;
        while !rest.is_empty() {
            self.messages.clear();
            let first = self.sequence.wrapping_add(1);
            let mut count = 0;
            while let Some(item) = rest.get(count)
                && count < self.batch_messages
                && self.messages.as_bytes().len() < BATCH_BYTES
            {
                if count > 0 {
                    self.messages.end(self.sequence, false);
                }
                write(item, &mut self.messages);
                self.sequence = self.sequence.wrapping_add(1);
                count += 1;
            }
            self.messages.end(self.sequence, true);
            self.raw.send(self.messages.as_bytes(), 0)?;
            let (batch, after) = rest.split_at(count);
            self.acknowledgements(first, |place, error| {
                if let Some(item) = batch.get(place) {
                    refused(item, error);
                }
            })?;
            rest = after;
        }
        Ok(())
    }

    fn send_one(&mut self, write: impl FnOnce(&mut Messages), acknowledge: bool) -> Result<(), WireError> {
        self.messages.clear();
        self.sequence = self.sequence.wrapping_add(1);
        write(&mut self.messages);
        self.messages.end(self.sequence, acknowledge);
        self.raw.send(self.messages.as_bytes(), 0)?;
        Ok(())
    }

    /// Reads until the end of what was asked last. A dump that was disturbed is read to its end as well.
    fn answers(&mut self, dump: bool, mut each: impl FnMut(u16, &[u8])) -> Result<(), WireError> {
        let sequence = self.sequence;
        let mut unsteady = false;
        loop {
            let mut end = None;
            self.receive(|seen, flags, answer| {
                if seen != sequence {
                    return;
                }
                unsteady |= dump && flags & NLM_F_DUMP_INTR != 0;
                match answer {
                    Answer::Message(kind, payload) => each(kind, payload),
                    Answer::End => end = Some(Ok(())),
                    Answer::Refused(error) => end = Some(Err(error)),
                }
            })?;
            match end {
                Some(Ok(())) if unsteady => return Err(WireError::Unsteady),
                Some(result) => return result,
                None => {}
            }
        }
    }

    /// Reads the errors of a batch that began with the number `first`, until its last message is answered.
    fn acknowledgements(
        &mut self,
        first: u32,
        mut refused: impl FnMut(usize, WireError),
    ) -> Result<(), WireError> {
        let last = self.sequence;
        let mut ended = false;
        while !ended {
            self.receive(|seen, _, answer| {
                let place = seen.wrapping_sub(first);
                if place > last.wrapping_sub(first) {
                    return;
                }
                if let Answer::Refused(error) = answer {
                    refused(place as usize, error);
                }
                ended |= seen == last;
            })?;
        }
        Ok(())
    }

    /// One datagram of answers: number of the request, flags, and the answer.
    fn receive(&mut self, mut each: impl FnMut(u32, u16, Answer<'_>)) -> Result<(), WireError> {
        let length = loop {
            // SAFETY: the descriptor belongs to `self.raw`, which outlives this call.
            let descriptor = unsafe { BorrowedFd::borrow_raw(self.raw.as_raw_fd()) };
            match recv(descriptor, &mut self.answer[..], RecvFlags::TRUNC) {
                Ok((_, length)) if length > self.answer.len() => {
                    return Err(WireError::Malformed("longer than the buffer"));
                }
                Ok((length, _)) => break length,
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(io::Error::from(errno).into()),
            }
        };
        let mut rest = &self.answer[..length];
        while !rest.is_empty() {
            let cut = || WireError::Malformed("cut off");
            let size = word(rest, 0).ok_or_else(cut)? as usize;
            let kind = half(rest, 4).ok_or_else(cut)?;
            let flags = half(rest, 6).ok_or_else(cut)?;
            let sequence = word(rest, 8).ok_or_else(cut)?;
            let payload = rest.get(HEADER_BYTES..size).ok_or_else(cut)?;
            each(sequence, flags, answer(kind, flags, payload)?);
            rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(())
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor belongs to `self.raw`, which the borrow keeps.
        unsafe { BorrowedFd::borrow_raw(self.raw.as_raw_fd()) }
    }
}

fn answer(kind: u16, flags: u16, payload: &[u8]) -> Result<Answer<'_>, WireError> {
    match i32::from(kind) {
        libc::NLMSG_ERROR | libc::NLMSG_DONE => {
            // An error number, negative; of the end of a dump it may be missing.
            let code = match word(payload, 0) {
                Some(code) => code.cast_signed(),
                None if i32::from(kind) == libc::NLMSG_DONE => 0,
                None => return Err(WireError::Malformed("an error without a number")),
            };
            if code == 0 {
                return Ok(Answer::End);
            }
            // The number, then the header of the message that it is about, then what the kernel says.
            let fixed = if i32::from(kind) == libc::NLMSG_ERROR { 4 + HEADER_BYTES } else { 4 };
            let mut words = Attributes::after(payload, fixed);
            let says = words.find(|(kind, _)| flags & NLM_F_ACK_TLVS != 0 && *kind == NLMSGERR_ATTR_MSG);
            Ok(Answer::Refused(WireError::Refused {
                says: says.map(|(_, bytes)| text(bytes)),
                source: io::Error::from_raw_os_error(code.saturating_neg()),
            }))
        }
        _ => Ok(Answer::Message(kind, payload)),
    }
}
