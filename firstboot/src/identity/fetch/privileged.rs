//! Connections from a port below 1024, which prove to a service that a program of root asks. ureq's own connector leaves the
//! port to the kernel, and its transport is not to be had without it.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};

use socket2::{Domain, Socket, Type};
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

use super::CONNECT_PATIENCE;

/// Ports that are tried, from the highest, as the low ones belong to servers.
const FIRST: u16 = 512;
const LAST: u16 = 1023;

/// Connects so.
#[derive(Debug)]
pub struct FromPrivileged;

impl<In: Transport> Connector<In> for FromPrivileged {
    type Out = Connection;

    fn connect(&self, details: &ConnectionDetails, _: Option<In>) -> Result<Option<Connection>, Error> {
        let address = details.addrs.iter().find_map(|address| match address {
            SocketAddr::V4(address) => Some(*address),
            SocketAddr::V6(_) => None,
        });
        let stream = connect(address.ok_or(Error::HostNotFound)?)?;
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(Connection { stream, buffers }))
    }
}

fn connect(to: SocketAddrV4) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for port in (FIRST..=LAST).rev() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        // A port that was used a moment ago is free for another service.
        socket.set_reuse_address(true)?;
        let bound = socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port).into());
        match bound.and_then(|()| socket.connect_timeout(&to.into(), CONNECT_PATIENCE)) {
            Ok(()) => return Ok(socket.into()),
            // Taken, or its last connection to this service waits for what may still be on the way.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EADDRINUSE | libc::EADDRNOTAVAIL)) => {
                last = error;
            }
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// A connection for one request.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffers: LazyBuffers,
}

impl Transport for Connection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.set_write_timeout(timeout.not_zero().map(|left| *left))?;
        let sent = self.stream.write_all(&self.buffers.output()[..amount]);
        sent.map_err(|error| timed_out(error, &timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.set_read_timeout(timeout.not_zero().map(|left| *left))?;
        let read = self.stream.read(self.buffers.input_append_buf());
        let amount = read.map_err(|error| timed_out(error, &timeout))?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    /// It is not kept for another request.
    fn is_open(&mut self) -> bool {
        false
    }
}

/// A socket whose time is over says that it would block.
fn timed_out(error: io::Error, timeout: &NextTimeout) -> Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::Timeout(timeout.reason),
        _ => Error::Io(error),
    }
}
