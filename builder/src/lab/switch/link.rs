//! One cable: a stream socket to a QEMU, on which each frame follows its length, four bytes, big-endian
//! (QEMU, net/stream.c).

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

/// The longest frame that QEMU sends (its `NET_BUFSIZE`): 64 KiB and a page.
const LONGEST: usize = 4096 + 65536;
/// Bytes of a frame's length.
const LENGTH: usize = 4;
/// Bytes that wait for a machine to read them; frames beyond are lost, as in a switch whose queue is full.
const QUEUE: usize = 1 << 20;
/// Bytes that are read at once; who sends more waits for its next turn.
const BATCH: usize = 64 << 10;

/// The other end is gone, or does not keep to the framing.
#[derive(Debug)]
pub struct Unplugged;

/// Our end of a cable.
pub struct Link {
    socket: UnixStream,
    /// The beginning of a frame whose end has not come.
    partial: Vec<u8>,
    queue: Vec<u8>,
    /// Bytes of the queue that were written.
    written: usize,
    /// Frames that did not fit into the queue.
    lost: u64,
}

impl Link {
    /// Takes one end of a pair of stream sockets.
    pub fn new(socket: UnixStream) -> std::io::Result<Link> {
        socket.set_nonblocking(true)?;
        Ok(Link { socket, partial: Vec::new(), queue: Vec::new(), written: 0, lost: 0 })
    }

    /// The socket, to be waited for.
    pub fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// Whether something waits to be written.
    pub fn has_queue(&self) -> bool {
        self.written < self.queue.len()
    }

    /// Frames that were lost because the machine did not read.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Reads once, and hands over each whole frame.
    pub fn read(&mut self, mut each: impl FnMut(&[u8])) -> Result<(), Unplugged> {
        let before = self.partial.len();
        self.partial.resize(before + BATCH, 0);
        let read = match self.socket.read(&mut self.partial[before..]) {
            Ok(0) => return Err(Unplugged),
            Ok(read) => read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            Err(_) => return Err(Unplugged),
        };
        self.partial.truncate(before + read);
        let mut rest = &self.partial[..];
        while let Some((length, after)) = rest.split_first_chunk::<LENGTH>() {
            let length = u32::from_be_bytes(*length) as usize;
            if length > LONGEST {
                return Err(Unplugged);
            }
            let Some((frame, after)) = after.split_at_checked(length) else { break };
            each(frame);
            rest = after;
        }
        let consumed = self.partial.len() - rest.len();
        self.partial.drain(..consumed);
        Ok(())
    }

    /// Queues a frame. It is lost if the machine has not read for too long.
    pub fn push(&mut self, frame: &[u8]) {
        let length = u32::try_from(frame.len()).ok().filter(|_| frame.len() <= LONGEST);
        match length {
            Some(length) if self.queue.len() - self.written + LENGTH + frame.len() <= QUEUE => {
                self.queue.extend_from_slice(&length.to_be_bytes());
                self.queue.extend_from_slice(frame);
            }
            _ => self.lost += 1,
        }
    }

    /// Writes what is queued, as far as the socket takes it.
    pub fn flush(&mut self) -> Result<(), Unplugged> {
        while self.has_queue() {
            match self.socket.write(&self.queue[self.written..]) {
                Ok(0) => return Err(Unplugged),
                Ok(written) => self.written += written,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return Err(Unplugged),
            }
        }
        if !self.has_queue() {
            self.queue.clear();
            self.written = 0;
        } else if self.written > QUEUE / 2 {
            self.queue.drain(..self.written);
            self.written = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Link, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Link::new(ours).unwrap(), theirs)
    }

    fn framed(frame: &[u8]) -> Vec<u8> {
        [&u32::try_from(frame.len()).unwrap().to_be_bytes(), frame].concat()
    }

    fn read(link: &mut Link) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        link.read(|frame| frames.push(frame.to_vec())).unwrap();
        frames
    }

    #[test]
    fn frames_that_come_in_pieces_and_in_batches() {
        let (mut link, mut machine) = pair();
        assert!(read(&mut link).is_empty());
        let bytes = [framed(b"one"), framed(b""), framed(&[7; 9000])].concat();
        machine.write_all(&bytes[..6]).unwrap();
        assert!(read(&mut link).is_empty());
        machine.write_all(&bytes[6..12]).unwrap();
        assert_eq!(read(&mut link), [b"one".to_vec(), Vec::new()]);
        machine.write_all(&bytes[12..]).unwrap();
        assert_eq!(read(&mut link), [vec![7; 9000]]);
    }

    #[test]
    fn an_end_and_nonsense_unplug() {
        let (mut link, machine) = pair();
        drop(machine);
        assert!(link.read(|_| panic!("no frame")).is_err());
        let (mut link, mut machine) = pair();
        machine.write_all(&[0xff; 8]).unwrap();
        assert!(link.read(|_| panic!("no frame")).is_err());
        drop(machine);
        link.push(b"frame");
        assert!(link.flush().is_err());
    }

    #[test]
    fn a_machine_that_does_not_read_loses_frames_and_gets_the_rest_whole() {
        let (mut link, mut machine) = pair();
        for _ in 0..3000 {
            link.push(&[9; 1500]);
            link.flush().unwrap();
        }
        assert!(link.lost() > 0 && link.queue.len() <= QUEUE + QUEUE / 2 + 2048);
        let expected = (3000 - usize::try_from(link.lost()).unwrap()) * 1504;
        machine.set_nonblocking(true).unwrap();
        let (mut got, mut buffer) = (Vec::new(), [0; 65536]);
        while got.len() < expected {
            if let Ok(read) = machine.read(&mut buffer) {
                got.extend_from_slice(&buffer[..read]);
            }
            link.flush().unwrap();
        }
        assert!(got.chunks(1504).all(|one| one == framed(&[9; 1500])));
        assert!(!link.has_queue());
    }
}
