//! An Ethernet switch in this process: one port per machine, and one of the [`gateway`] to the outside.
//!
//! A machine is plugged in with one end of a pair of unix stream sockets that QEMU inherits (`-netdev stream`
//! with `addr.type=fd`, QEMU 7.2 and later): nothing of it is seen in the file system, nobody else can connect, and
//! when QEMU ends, the cable is out. One thread waits for all sockets at once and reads from each in batches; every
//! queue is bounded, and what does not fit is lost, as in any switch.

pub mod fabric;
pub mod faults;
pub mod gateway;
mod link;
mod run;

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use ipnet::IpNet;
use rustix::event::{EventfdFlags, eventfd};

pub use self::faults::{Fault, Scope};
pub use self::gateway::Forward;
use self::run::{Command, Loop};
use super::Error;

/// Name of the port that leads to the outside.
pub const OUTSIDE: &str = "outside";
/// How long the switch's thread may take to answer; it waits for nothing.
const ANSWER: Duration = Duration::from_secs(5);

/// What a switch is made of.
#[derive(Debug)]
pub struct Plan {
    /// Name of each port: the node's.
    pub names: Vec<String>,
    /// Addresses of the gateway.
    pub gateway: Vec<IpNet>,
    /// Bytes of the links' MTU.
    pub mtu: u16,
    /// Ports of the host that lead to nodes.
    pub forwards: Vec<Forward>,
    /// Seed of the faults.
    pub seed: u64,
}

/// A running switch; it ends when this is dropped.
pub struct Switch {
    names: Arc<[String]>,
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

/// A way to speak to the switch's thread.
#[derive(Debug, Clone)]
struct Handle {
    commands: Sender<Command>,
    bell: Arc<OwnedFd>,
}

impl Handle {
    fn send(&self, command: Command) -> Result<(), Error> {
        let gone = || Error::State("the switch of the lab has ended".to_owned());
        self.commands.send(command).map_err(|_| gone())?;
        // The counter of the bell is full only if nobody hears it.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        Ok(())
    }
}

/// A port for a machine.
#[derive(Debug, Clone)]
pub struct Port {
    number: usize,
    handle: Handle,
}

impl Port {
    /// Plugs a cable in, and pulls the one that was there. Returns the machine's end, a stream socket.
    ///
    /// # Errors
    /// No socket can be made, or the switch has ended.
    pub fn plug(&self) -> Result<OwnedFd, Error> {
        let (ours, theirs) = UnixStream::pair().map_err(Error::file("make", "a cable of the switch"))?;
        self.handle.send(Command::Plug(self.number, ours))?;
        Ok(theirs.into())
    }
}

impl Switch {
    /// Starts a switch; nothing is plugged in yet.
    ///
    /// # Errors
    /// The system refuses a descriptor or a thread.
    pub fn start(plan: Plan) -> Result<Switch, Error> {
        let broken = |what| Error::file("make", what);
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| broken("the bell of the switch")(error.into()))?;
        let bell = Arc::new(bell);
        let (commands, receiver) = mpsc::channel();
        let names: Arc<[String]> = plan.names.iter().cloned().chain([OUTSIDE.to_owned()]).collect();
        let work = Loop::new(plan, names.clone(), receiver, bell.clone())
            .map_err(broken("the gateway of the switch"))?;
        let thread = std::thread::Builder::new().name("switch".to_owned()).spawn(move || work.run());
        let thread = thread.map_err(broken("the thread of the switch"))?;
        Ok(Switch { names, handle: Handle { commands, bell }, thread: Some(thread) })
    }

    /// The port of that number.
    pub fn port(&self, number: usize) -> Port {
        Port { number, handle: self.handle.clone() }
    }

    /// The scope of one port, or between two, by their names; `outside` is the gateway's.
    ///
    /// # Errors
    /// There is no port of that name, or both are the same.
    pub fn scope(&self, one: &str, other: Option<&str>) -> Result<Scope, Error> {
        if Some(one) == other {
            return Err(Error::State(format!("between {one} and itself there is nothing to break")));
        }
        let number = |name: &str| {
            self.names.iter().position(|known| known == name).ok_or_else(|| {
                let known = self.names.join(", ");
                Error::State(format!("nothing on the switch is called '{name}'; there are {known}"))
            })
        };
        Ok(Scope::of(number(one)?, other.map(number).transpose()?))
    }

    /// Makes something go wrong.
    ///
    /// # Errors
    /// The switch has ended.
    pub fn add(&self, scope: Scope, fault: Fault) -> Result<(), Error> {
        self.handle.send(Command::Add(scope, fault))
    }

    /// Takes faults away: of a scope, or all.
    ///
    /// # Errors
    /// The switch has ended.
    pub fn heal(&self, scope: Option<Scope>) -> Result<(), Error> {
        self.handle.send(Command::Heal(scope))
    }

    /// The faults in words, and how many frames were lost because a machine did not read.
    ///
    /// # Errors
    /// The switch has ended.
    pub fn describe(&self) -> Result<(Vec<String>, u64), Error> {
        let (send, receive) = mpsc::channel();
        self.handle.send(Command::Describe(send))?;
        receive
            .recv_timeout(ANSWER)
            .map_err(|_| Error::State("the switch of the lab does not answer".to_owned()))
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        // It has ended already if it cannot be told to; a panic of its thread was printed by then.
        let _ = self.handle.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A listener on a free port of 127.0.0.1, or on that one.
///
/// # Errors
/// The port is taken.
pub fn listen(port: Option<u16>) -> Result<TcpListener, Error> {
    let port = port.unwrap_or(0);
    TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, port))
        .map_err(Error::file("listen on", format!("127.0.0.1:{port}")))
}

#[cfg(test)]
mod tests;
