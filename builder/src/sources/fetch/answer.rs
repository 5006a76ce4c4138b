//! An HTTP answer that comes from a thread of its own, so that the wait for a silent server can be left at once:
//! a read of a socket cannot be broken off, but whoever waits for its thread can.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use ureq::http::{Response, StatusCode, header};
use ureq::{Body, RequestBuilder, typestate::WithoutBody};

use crate::progress::Progress;

/// How soon a wish to stop is noticed.
const LOOK: Duration = Duration::from_millis(100);
/// Largest piece of a body, bytes.
const PIECE: usize = 64 * 1024;
/// Pieces that wait for their reader at most.
const AHEAD: usize = 4;

/// Whether to go on: another download may have failed, or the person pressed Ctrl-C.
#[derive(Clone, Copy)]
pub struct Stop<'s> {
    /// Set when a download beside this one failed.
    pub flag: &'s AtomicBool,
    /// Knows of Ctrl-C.
    pub progress: &'s dyn Progress,
}

impl Stop<'_> {
    pub fn requested(self) -> bool {
        self.flag.load(Ordering::Relaxed) || self.progress.interrupted()
    }

    /// Sleeps, unless a stop is requested: then it returns early.
    pub fn sleep(self, time: Duration) {
        let end = Instant::now() + time;
        while !self.requested() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(LOOK));
        }
    }
}

/// A read that was given up because a stop was requested.
#[derive(Debug, thiserror::Error)]
#[error("stopped")]
pub struct Stopped;

/// Why there is no answer.
pub enum NoAnswer {
    /// A stop was requested.
    Stopped,
    /// The request failed.
    Failed(ureq::Error),
}

/// The head of an answer, and its body to be read.
pub struct Answer<'s> {
    pub status: StatusCode,
    /// Bytes of the body, if announced.
    pub length: Option<u64>,
    /// `Content-Range` (RFC 9110, section 14.4).
    pub range: Option<String>,
    body: Incoming<'s>,
}

struct Head {
    status: StatusCode,
    length: Option<u64>,
    range: Option<String>,
}

enum Message {
    Failed(ureq::Error),
    Head(Head),
    /// A piece of the body; an empty one ends it.
    Piece(io::Result<Vec<u8>>),
}

impl<'s> Answer<'s> {
    /// Sends the request and waits for the head of its answer.
    pub fn of(request: RequestBuilder<WithoutBody>, stop: Stop<'s>) -> Result<Answer<'s>, NoAnswer> {
        let (send, receive) = mpsc::sync_channel(AHEAD);
        // Not joined: it ends with its answer, when nobody takes the next piece, or with the server's silence.
        let spawned =
            std::thread::Builder::new().name("answer".to_owned()).spawn(move || run(request, &send));
        spawned.map_err(|error| NoAnswer::Failed(ureq::Error::Io(error)))?;
        let body = Incoming { receive, stop, piece: Vec::new(), taken: 0, ended: false };
        match body.next() {
            Some(Message::Head(Head { status, length, range })) => Ok(Answer { status, length, range, body }),
            Some(Message::Failed(error)) => Err(NoAnswer::Failed(error)),
            Some(Message::Piece(_)) | None => Err(NoAnswer::Stopped),
        }
    }

    /// The body. An error of it that is [`Stopped`] is our own.
    pub fn into_body(self) -> impl Read + use<'s> {
        self.body
    }
}

fn run(request: RequestBuilder<WithoutBody>, send: &SyncSender<Message>) {
    let response = match request.call() {
        Ok(response) => response,
        Err(error) => return drop(send.send(Message::Failed(error))),
    };
    if send.send(Message::Head(head(&response))).is_err() {
        return;
    }
    // Our own limit tells a long body from one that ended; ureq's default of 10 MB is for APIs.
    let mut body = response.into_body().into_with_config().limit(u64::MAX).reader();
    loop {
        let mut piece = vec![0; PIECE];
        let read = body.read(&mut piece);
        let ends = !matches!(read, Ok(length) if length > 0);
        let piece = read.map(|length| {
            piece.truncate(length);
            piece
        });
        if send.send(Message::Piece(piece)).is_err() || ends {
            return;
        }
    }
}

fn head(response: &Response<Body>) -> Head {
    let range = response.headers().get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
    Head {
        status: response.status(),
        length: response.body().content_length(),
        range: range.map(str::to_owned),
    }
}

struct Incoming<'s> {
    receive: Receiver<Message>,
    stop: Stop<'s>,
    piece: Vec<u8>,
    /// Bytes of the piece that were read.
    taken: usize,
    ended: bool,
}

impl Incoming<'_> {
    /// What comes next; nothing if a stop is requested.
    fn next(&self) -> Option<Message> {
        while !self.stop.requested() {
            match self.receive.recv_timeout(LOOK) {
                Ok(message) => return Some(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Some(Message::Piece(Err(io::ErrorKind::UnexpectedEof.into())));
                }
            }
        }
        None
    }
}

impl Read for Incoming<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.piece.len() && !self.ended {
            self.piece = match self.next() {
                Some(Message::Piece(piece)) => piece?,
                Some(Message::Head(_) | Message::Failed(_)) => return Err(io::ErrorKind::InvalidData.into()),
                None => return Err(io::Error::other(Stopped)),
            };
            self.taken = 0;
            self.ended = self.piece.is_empty();
        }
        let length = (&self.piece[self.taken..]).read(buffer)?;
        self.taken += length;
        Ok(length)
    }
}
