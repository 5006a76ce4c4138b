//! What services print: read from a pipe each, kept in a size-capped file each.
//!
//! Two threads, so that a service never waits for a disk: one only reads, keeps the last lines for the console
//! and hands the rest on; the other writes. When the writer falls behind by [`QUEUE`] chunks, or the disk is
//! full, output is dropped and counted, and the count is written when there is room again.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

/// Lines kept in memory for the console.
pub const TAIL_LINES: usize = 8;
/// Bytes of a line kept in memory; longer ones are cut.
const TAIL_LINE_BYTES: usize = 240;
/// Bytes read at once.
const CHUNK: usize = 8 << 10;
/// Chunks on their way to the writer: at most half a mebibyte.
const QUEUE: usize = 64;
/// Stack of a thread here, bytes: nothing deep runs on it.
const STACK: usize = 128 << 10;
/// How long the end waits for the writer.
const CLOSE: Duration = Duration::from_secs(2);

/// The logs of all services.
#[derive(Debug)]
pub struct Logs {
    shared: Arc<Shared>,
    finished: Receiver<()>,
}

#[derive(Debug)]
struct Shared {
    wake: OwnedFd,
    inbox: Mutex<Vec<Request>>,
    tails: Mutex<Vec<Tail>>,
}

#[derive(Debug)]
enum Request {
    Read(usize, OwnedFd),
    Note(usize, String),
    Close,
}

#[derive(Debug)]
struct Chunk {
    service: usize,
    bytes: Vec<u8>,
}

/// The last lines of a service.
#[derive(Debug, Default, Clone)]
struct Tail {
    lines: VecDeque<String>,
    open: Vec<u8>,
}

impl Logs {
    /// Logs named `<name>.log` in `folder`, of at most `cap` bytes, with one older `<name>.log.1` each.
    pub fn open(folder: &Path, names: &[String], cap: u64) -> io::Result<Logs> {
        let shared = Arc::new(Shared {
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            inbox: Mutex::new(Vec::new()),
            tails: Mutex::new(vec![Tail::default(); names.len()]),
        });
        let (sender, receiver) = mpsc::sync_channel(QUEUE);
        let (finish, finished) = mpsc::channel();
        let for_reader = Arc::clone(&shared);
        let builder = || thread::Builder::new().stack_size(STACK);
        builder().name("log-reader".to_owned()).spawn(move || read_all(&for_reader, &sender))?;
        let files = names.iter().map(|name| LogFile::new(folder, name, cap)).collect();
        builder().name("log-writer".to_owned()).spawn(move || {
            write_all(&receiver, files);
            let _ = finish.send(());
        })?;
        Ok(Logs { shared, finished })
    }

    /// A pipe whose other end is read into the log of a service until every writer has closed it.
    pub fn pipe(&self, service: usize) -> io::Result<OwnedFd> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::fs::fcntl_setfl(&read, rustix::fs::OFlags::NONBLOCK)?;
        self.request(Request::Read(service, read));
        Ok(write)
    }

    /// A line of our own in the log of a service.
    pub fn note(&self, service: usize, line: &str) {
        self.request(Request::Note(service, format!("--- {line}\n")));
    }

    /// The last lines that a service printed, oldest first, without control characters.
    pub fn tail(&self, service: usize, lines: usize) -> Vec<String> {
        let tails = lock(&self.shared.tails);
        let of = &tails[service];
        let open = (!of.open.is_empty()).then(|| printable(&of.open));
        let all: Vec<String> = of.lines.iter().cloned().chain(open).collect();
        all[all.len().saturating_sub(lines)..].to_vec()
    }

    /// Takes what is in the pipes, and closes the files. A disk that does not answer is not waited for.
    pub fn close(self) {
        self.request(Request::Close);
        // Disconnected: the writer ended without a word, which is an end too.
        let (Ok(()) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected)) =
            self.finished.recv_timeout(CLOSE);
    }

    fn request(&self, request: Request) {
        lock(&self.shared.inbox).push(request);
        let _ = rustix::io::write(&self.shared.wake, &1_u64.to_ne_bytes());
    }
}

/// A thread that panicked with the lock held left whole values behind: nothing here is half changed for long.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The reading thread.
fn read_all(shared: &Shared, writer: &SyncSender<Chunk>) {
    let mut pipes: Vec<(usize, OwnedFd)> = Vec::new();
    let mut lost = vec![0_u64; lock(&shared.tails).len()];
    let mut buffer = vec![0_u8; CHUNK];
    loop {
        wait(shared, &pipes);
        let _ = rustix::io::read(&shared.wake, &mut [0_u8; 8]);
        let mut closing = false;
        for request in std::mem::take(&mut *lock(&shared.inbox)) {
            match request {
                Request::Read(service, pipe) => pipes.push((service, pipe)),
                Request::Note(service, line) => hand_on(writer, &mut lost, service, line.as_bytes()),
                Request::Close => closing = true,
            }
        }
        pipes.retain(|(service, pipe)| {
            drain(pipe, &mut buffer, |bytes| {
                lock(&shared.tails)[*service].push(bytes);
                hand_on(writer, &mut lost, *service, bytes);
            })
        });
        if closing {
            // Now there is time to wait for the writer: nobody waits for this thread for long.
            for (service, lost) in lost.iter().enumerate().filter(|(_, lost)| **lost > 0) {
                let _ = writer.send(Chunk { service, bytes: lost_line(*lost).into_bytes() });
            }
            return;
        }
    }
}

fn wait(shared: &Shared, pipes: &[(usize, OwnedFd)]) {
    let all = std::iter::once(shared.wake.as_fd()).chain(pipes.iter().map(|(_, pipe)| pipe.as_fd()));
    let mut polled: Vec<PollFd<'_>> = all.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
    // Interrupted: look and come back.
    let _ = poll(&mut polled, None);
}

/// Reads a few chunks, so that one service that prints without end does not keep the others waiting. False when
/// the pipe has ended.
fn drain(pipe: &OwnedFd, buffer: &mut [u8], mut take: impl FnMut(&[u8])) -> bool {
    for _ in 0..8 {
        match rustix::io::read(pipe, &mut *buffer) {
            Ok(0) => return false,
            Ok(n) => take(&buffer[..n]),
            Err(Errno::AGAIN | Errno::INTR) => return true,
            Err(_) => return false,
        }
    }
    true
}

fn hand_on(writer: &SyncSender<Chunk>, lost: &mut [u64], service: usize, bytes: &[u8]) {
    let mut all = Vec::new();
    if lost[service] > 0 {
        all.extend_from_slice(lost_line(lost[service]).as_bytes());
    }
    all.extend_from_slice(bytes);
    match writer.try_send(Chunk { service, bytes: all }) {
        Ok(()) => lost[service] = 0,
        Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => lost[service] += bytes.len() as u64,
    }
}

fn lost_line(bytes: u64) -> String {
    format!("\n--- {bytes} bytes lost: the disk was full or too slow\n")
}

/// The writing thread.
fn write_all(chunks: &Receiver<Chunk>, mut files: Vec<LogFile>) {
    for Chunk { service, bytes } in chunks {
        files[service].write(&bytes);
    }
}

#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    cap: u64,
    /// Opened with the first output, its size beside it; none after an error.
    open: Option<(File, u64)>,
    lost: u64,
}

impl LogFile {
    fn new(folder: &Path, name: &str, cap: u64) -> LogFile {
        LogFile { path: folder.join(format!("{name}.log")), cap, open: None, lost: 0 }
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.try_write(bytes).is_err() {
            self.lost += bytes.len() as u64;
            // Opened anew with the next output: the folder may be there by then, or space.
            self.open = None;
        }
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.open.is_none() {
            if let Some(folder) = self.path.parent() {
                fs::create_dir_all(folder)?;
            }
            let file = OpenOptions::new().append(true).create(true).open(&self.path)?;
            let size = file.metadata()?.len();
            self.open = Some((file, size));
        }
        if self.open.as_ref().is_some_and(|(_, size)| *size > 0 && size + bytes.len() as u64 > self.cap) {
            self.open = None;
            fs::rename(&self.path, older(&self.path))?;
            self.open = Some((OpenOptions::new().append(true).create_new(true).open(&self.path)?, 0));
        }
        let Some((file, size)) = &mut self.open else { return Ok(()) };
        if self.lost > 0 {
            let line = lost_line(self.lost);
            file.write_all(line.as_bytes())?;
            *size += line.len() as u64;
            self.lost = 0;
        }
        file.write_all(bytes)?;
        *size += bytes.len() as u64;
        Ok(())
    }
}

fn older(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    PathBuf::from(name)
}

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|&b| b == b'\n') {
            let (text, ended) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
            let room = TAIL_LINE_BYTES.saturating_sub(self.open.len());
            self.open.extend_from_slice(&text[..text.len().min(room)]);
            if ended {
                let line = printable(&self.open);
                self.open.clear();
                if line.is_empty() {
                    continue;
                }
                if self.lines.len() == TAIL_LINES {
                    self.lines.pop_front();
                }
                self.lines.push_back(line);
            }
        }
    }
}

/// Text for a console: an escape sequence of a service must not reach the terminal.
fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .trim_end()
        .chars()
        .map(|c| {
            if c == '\t' {
                ' '
            } else if c.is_control() {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

#[cfg(test)]
mod tests;
