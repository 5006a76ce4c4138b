//! One connection: a socket of the host on one side, one of the gateway's stack on the other.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Instant;

use rustix::event::PollFlags;
use smoltcp::iface::{Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Duration;

/// Bytes on the way in each direction.
const BUFFER: usize = 64 << 10;
/// How long a node may take to answer a connection; the next target is tried then.
const CONNECT: Duration = Duration::from_secs(4);
/// How long a node may be silent when it has something to acknowledge: a connection to a machine that was cut off
/// or killed ends then.
const SILENCE: Duration = Duration::from_secs(15);
/// What asks a silent node whether it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// How long a node may go on after its client has sent all that it will: one that is gone altogether looks the same
/// until something is sent to it.
const ENDED: std::time::Duration = std::time::Duration::from_secs(60);

/// A node that leaves what it is asked without an answer for so long is not the first for the next client. An API server
/// that is cut off from the other control planes takes connections and answers nothing, for half a minute and longer.
pub const SLOW: std::time::Duration = std::time::Duration::from_secs(8);

/// What a connection wants to happen next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// To be connected to this target.
    Connect(SocketAddr),
    /// Nothing; the target of that number answered.
    Answered(usize),
    /// Nothing; the target of that number has been [`SLOW`].
    Slow(usize),
    /// Nothing.
    Wait,
    /// To be removed.
    Over,
}

/// How far it is.
enum Phase {
    /// No target has been tried, or the last one failed.
    Idle,
    /// The target of that number was asked.
    Connecting(usize),
    /// Bytes are carried to and from the target of that number.
    Open(usize),
}

/// A connection of the host that is carried to a node.
pub struct Connection {
    stream: TcpStream,
    door: usize,
    targets: VecDeque<(usize, SocketAddr)>,
    handle: SocketHandle,
    port: u16,
    phase: Phase,
    /// Since when the client has an answer to wait for.
    asked: Option<Instant>,
    /// The last answer was slow, or did not come before the client ended.
    was_slow: bool,
    /// When the client had sent all that it will.
    client_ended: Option<Instant>,
    /// The client was told that the node has sent all that it will.
    node_ended: bool,
}

impl Connection {
    /// Takes a client that came through the door of that number; the targets, with their numbers, are tried in order.
    ///
    /// # Errors
    /// The client is gone.
    pub fn new(
        stream: TcpStream,
        door: usize,
        targets: VecDeque<(usize, SocketAddr)>,
        sockets: &mut SocketSet<'static>,
    ) -> std::io::Result<Connection> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let buffer = || SocketBuffer::new(vec![0; BUFFER]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        let handle = sockets.add(socket);
        Ok(Connection {
            stream,
            door,
            targets,
            handle,
            port: 0,
            phase: Phase::Idle,
            asked: None,
            was_slow: false,
            client_ended: None,
            node_ended: false,
        })
    }

    /// The client's socket.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The number of the door that the client came through.
    pub fn door(&self) -> usize {
        self.door
    }

    /// The gateway's port; 0 before it was connected.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether its client waits for an answer.
    #[cfg(test)]
    pub fn has_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// What it waits for on the client's socket.
    pub fn interest(&self, sockets: &SocketSet<'static>) -> PollFlags {
        let socket = sockets.get::<Socket>(self.handle);
        let mut flags = PollFlags::empty();
        if matches!(self.phase, Phase::Open(_)) {
            flags.set(PollFlags::IN, self.client_ended.is_none() && socket.can_send());
            flags.set(PollFlags::OUT, socket.can_recv());
        }
        flags
    }

    /// Asks a target for a connection. Whether that has begun: if not, the socket is closed, and [`Connection::carry`]
    /// goes on to the next target.
    pub fn connect(
        &mut self,
        interface: &mut Interface,
        sockets: &mut SocketSet<'static>,
        target: SocketAddr,
        port: u16,
    ) -> bool {
        let socket = sockets.get_mut::<Socket>(self.handle);
        socket.abort();
        socket.set_timeout(Some(CONNECT));
        socket.set_keep_alive(None);
        self.port = port;
        // It is refused for a target of a family that the gateway has no address of.
        socket.connect(interface.context(), target, port).is_ok()
    }

    /// Carries what can be carried.
    pub fn carry(&mut self, sockets: &mut SocketSet<'static>, now: Instant) -> Next {
        let socket = sockets.get_mut::<Socket>(self.handle);
        match self.phase {
            Phase::Idle => self.next_target(),
            Phase::Connecting(target) => match socket.state() {
                State::SynSent => Next::Wait,
                State::Closed => self.next_target(),
                _ => {
                    socket.set_timeout(Some(SILENCE));
                    socket.set_keep_alive(Some(KEEP_ALIVE));
                    self.phase = Phase::Open(target);
                    Next::Answered(target)
                }
            },
            Phase::Open(target) => {
                let carried =
                    self.carry_to_node(sockets, now).and_then(|()| self.carry_to_client(sockets, now));
                if std::mem::take(&mut self.was_slow) {
                    return Next::Slow(target);
                }
                if carried.is_err() {
                    return Next::Over;
                }
                let socket = sockets.get::<Socket>(self.handle);
                let over = matches!(socket.state(), State::Closed | State::TimeWait) && !socket.can_recv();
                let left =
                    self.client_ended.is_some_and(|ended| now.saturating_duration_since(ended) > ENDED);
                if over || left { Next::Over } else { Next::Wait }
            }
        }
    }

    /// Takes it out of the stack. A node that does not know that it is over is told when it speaks next.
    pub fn remove(self, sockets: &mut SocketSet<'static>) {
        drop(sockets.remove(self.handle));
    }

    fn next_target(&mut self) -> Next {
        match self.targets.pop_front() {
            Some((number, target)) => {
                self.phase = Phase::Connecting(number);
                Next::Connect(target)
            }
            None => Next::Over,
        }
    }

    fn carry_to_node(&mut self, sockets: &mut SocketSet<'static>, now: Instant) -> std::io::Result<()> {
        let socket = sockets.get_mut::<Socket>(self.handle);
        while self.client_ended.is_none() && socket.can_send() {
            let stream = &mut self.stream;
            let read = socket.send(|room| match stream.read(room) {
                Ok(read) => (read, Ok(read)),
                Err(error) => (0, Err(error)),
            });
            match read {
                Ok(Ok(0)) => {
                    self.client_ended = Some(now);
                    self.was_slow |= is_slow(self.asked.take(), now);
                    socket.close();
                }
                Ok(Ok(_)) => {
                    self.asked.get_or_insert(now);
                }
                Ok(Err(error)) if error.kind() == ErrorKind::WouldBlock => break,
                Ok(Err(error)) => {
                    self.was_slow |= is_slow(self.asked.take(), now);
                    socket.abort();
                    return Err(error);
                }
                Err(_) => break,
            }
        }
        Ok(())
    }

    fn carry_to_client(&mut self, sockets: &mut SocketSet<'static>, now: Instant) -> std::io::Result<()> {
        let socket = sockets.get_mut::<Socket>(self.handle);
        if socket.can_recv() {
            self.was_slow |= is_slow(self.asked.take(), now);
        }
        while socket.can_recv() {
            let stream = &mut self.stream;
            let written = socket.recv(|bytes| match stream.write(bytes) {
                Ok(written) => (written, Ok(written)),
                Err(error) => (0, Err(error)),
            });
            match written {
                Ok(Ok(0)) | Err(_) => break,
                Ok(Ok(_)) => {}
                Ok(Err(error)) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Ok(Err(error)) => {
                    socket.abort();
                    return Err(error);
                }
            }
        }
        if !self.node_ended && !socket.can_recv() && !socket.may_recv() {
            self.node_ended = true;
            // It may be gone already.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        Ok(())
    }
}

fn is_slow(asked: Option<Instant>, now: Instant) -> bool {
    asked.is_some_and(|asked| now.saturating_duration_since(asked) >= SLOW)
}
