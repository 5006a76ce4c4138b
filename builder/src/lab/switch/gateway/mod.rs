//! The outside of a lab: a host on the switch that has the gateway's addresses, answers ARP, neighbour
//! discovery and ping, and carries connections from ports of the host's loopback to the nodes. Nothing leads
//! out: what nodes send through it ends here.
//!
//! With it a machine needs one network interface, as a real one, and the node's own address is the one that
//! connections come to. QEMU's user-mode network would want a second interface per machine, or an address of its
//! own choice.

mod connection;
mod device;

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use rustix::event::PollFlags;
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::wire::{EthernetAddress, IpCidr};

use self::connection::{Connection, Next};
use self::device::Queues;
use super::fabric::Frame;

/// The gateway's MAC address: locally administered, `02`, then `lab-gw`'s first letters.
pub const MAC: [u8; 6] = [0x02, b'l', b'a', b'b', b'g', b'w'];
/// Connections at once; more wait in the listener's backlog.
const CONNECTIONS: usize = 256;
/// How long the doors are left alone after a client could not be accepted, for want of descriptors say: the listener
/// would be readable again at once.
const NOT_ACCEPTED: Duration = Duration::from_millis(100);
/// Ports of connections to nodes: the dynamic range (RFC 6335, section 6).
const FIRST_PORT: u16 = 49152;

/// A listener of the host's loopback, and where its connections lead.
#[derive(Debug)]
pub struct Forward {
    /// Bound to a port of the host.
    pub listener: TcpListener,
    /// The targets. The one that answered last is tried first, then the others in turn; one that lets a client wait is the
    /// last.
    pub targets: Vec<SocketAddr>,
}

struct Door {
    forward: Forward,
    preferred: usize,
}

/// The host on the switch.
pub struct Gateway {
    interface: Interface,
    queues: Queues,
    sockets: SocketSet<'static>,
    doors: Vec<Door>,
    /// Nobody is accepted until then.
    shut_until: Option<Instant>,
    connections: Vec<Connection>,
    next_port: u16,
    begin: Instant,
}

impl Gateway {
    /// A host with these addresses, on links of `mtu` bytes. The listeners become non-blocking.
    ///
    /// # Errors
    /// A listener cannot be made non-blocking.
    pub fn new(addresses: &[IpNet], mtu: u16, forwards: Vec<Forward>) -> std::io::Result<Gateway> {
        let mut queues = Queues::new(mtu);
        let config = Config::new(EthernetAddress(MAC).into());
        let mut interface = Interface::new(config, &mut queues, smoltcp::time::Instant::ZERO);
        interface.update_ip_addrs(|list| {
            for address in addresses {
                // More than it has room for are of no use to anybody: a lab has one network or two.
                let _ = list.push(IpCidr::new(address.addr().into(), address.prefix_len()));
            }
        });
        for forward in &forwards {
            forward.listener.set_nonblocking(true)?;
        }
        Ok(Gateway {
            interface,
            queues,
            sockets: SocketSet::new(Vec::new()),
            doors: forwards.into_iter().map(|forward| Door { forward, preferred: 0 }).collect(),
            shut_until: None,
            connections: Vec::new(),
            next_port: FIRST_PORT,
            begin: Instant::now(),
        })
    }

    /// A frame for it; one too many is lost.
    pub fn push(&mut self, frame: Frame) {
        self.queues.push(frame);
    }

    /// Calls `each` with every socket of the host that it waits for, and for what.
    pub fn interest<'a>(&'a self, mut each: impl FnMut(std::os::fd::BorrowedFd<'a>, PollFlags)) {
        use std::os::fd::AsFd;
        if self.connections.len() < CONNECTIONS && self.shut_until.is_none() {
            for door in &self.doors {
                each(door.forward.listener.as_fd(), PollFlags::IN);
            }
        }
        for connection in &self.connections {
            let flags = connection.interest(&self.sockets);
            // One without interest would still report that its peer is gone, again and again.
            if !flags.is_empty() {
                each(connection.stream().as_fd(), flags);
            }
        }
    }

    /// How long it can be left alone.
    pub fn patience(&mut self, now: Instant) -> Option<Duration> {
        let shut = self.shut_until.map(|until| until.saturating_duration_since(now));
        let delay = self.interface.poll_delay(self.stack_time(now), &self.sockets);
        let delay = delay.map(|delay| Duration::from_micros(delay.total_micros()));
        [shut, delay].into_iter().flatten().min()
    }

    /// Does what is to be done, and hands over the frames that it sends.
    pub fn turn(&mut self, now: Instant, mut send: impl FnMut(Vec<u8>)) {
        self.accept(now);
        let time = self.stack_time(now);
        self.interface.poll(time, &mut self.queues, &mut self.sockets);
        self.carry(now);
        // What was carried into the sockets leaves at once.
        self.interface.poll(time, &mut self.queues, &mut self.sockets);
        self.queues.sent().for_each(&mut send);
    }

    fn stack_time(&self, now: Instant) -> smoltcp::time::Instant {
        let micros = now.saturating_duration_since(self.begin).as_micros();
        smoltcp::time::Instant::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }

    fn accept(&mut self, now: Instant) {
        if self.shut_until.is_some_and(|until| now < until) {
            return;
        }
        self.shut_until = None;
        for index in 0..self.doors.len() {
            while self.connections.len() < CONNECTIONS {
                let door = &self.doors[index];
                let stream = match door.forward.listener.accept() {
                    Ok((stream, _)) => stream,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(_) => {
                        self.shut_until = Some(now + NOT_ACCEPTED);
                        return;
                    }
                };
                let targets = &door.forward.targets;
                let order = (0..targets.len()).map(|turn| (door.preferred + turn) % targets.len());
                let targets = order.map(|target| (target, targets[target])).collect();
                if let Ok(connection) = Connection::new(stream, index, targets, &mut self.sockets) {
                    self.connections.push(connection);
                }
            }
        }
    }

    fn carry(&mut self, now: Instant) {
        let mut index = 0;
        while index < self.connections.len() {
            match self.connections[index].carry(&mut self.sockets, now) {
                Next::Connect(target) => {
                    let port = self.free_port();
                    let connection = &mut self.connections[index];
                    // If it has not begun, nothing would come to wake it up: the next target's turn is now.
                    if connection.connect(&mut self.interface, &mut self.sockets, target, port) {
                        index += 1;
                    }
                }
                Next::Answered(target) => {
                    self.doors[self.connections[index].door()].preferred = target;
                    index += 1;
                }
                Next::Slow(target) => {
                    let door = &mut self.doors[self.connections[index].door()];
                    if door.preferred == target {
                        door.preferred = (target + 1) % door.forward.targets.len();
                    }
                }
                Next::Wait => index += 1,
                Next::Over => self.connections.swap_remove(index).remove(&mut self.sockets),
            }
        }
    }

    /// A port that no connection has: there are far more of them than connections.
    fn free_port(&mut self) -> u16 {
        loop {
            let port = self.next_port;
            self.next_port = if port == u16::MAX { FIRST_PORT } else { port + 1 };
            if self.connections.iter().all(|connection| connection.port() != port) {
                return port;
            }
        }
    }
}

/// Addresses that a gateway has among `nodes`, given as the node's address and its gateway: each gateway that
/// they name, and a free address of each network that names none, so that the gateway can reach its nodes.
pub fn addresses(nodes: &[(IpNet, Option<IpAddr>)]) -> Vec<IpNet> {
    let mut addresses: Vec<IpNet> = Vec::new();
    let mut add = |address: IpNet| {
        if !addresses.iter().any(|known| known.addr() == address.addr()) {
            addresses.push(address);
        }
    };
    for (node, gateway) in nodes {
        let network = node.trunc();
        match gateway {
            Some(gateway) if network.contains(gateway) => {
                add(IpNet::new(*gateway, network.prefix_len()).unwrap_or(network));
                continue;
            }
            // A router's link-local address (RFC 4861, section 6.1.2).
            Some(gateway) => add(IpNet::new(*gateway, 64).unwrap_or(network)),
            None => {}
        }
        let of_network = |(node, gateway): &(IpNet, Option<IpAddr>)| {
            network.contains(&node.addr()) && gateway.is_some_and(|gateway| network.contains(&gateway))
        };
        if !nodes.iter().any(of_network) {
            let taken = |address: &IpAddr| nodes.iter().any(|(node, _)| node.addr() == *address);
            // There are more addresses than nodes, or none is free.
            let free = hosts(network).take(nodes.len() + 1).find(|address| !taken(address));
            if let Some(free) = free {
                add(IpNet::new(free, network.prefix_len()).unwrap_or(network));
            }
        }
    }
    addresses
}

/// Addresses of a network that a host can have. The first of an IPv6 network is that of all its routers
/// (RFC 4291, section 2.6.1).
fn hosts(network: IpNet) -> impl Iterator<Item = IpAddr> {
    let skipped = usize::from(network.network().is_ipv6());
    network.hosts().skip(skipped)
}

#[cfg(test)]
mod tests;
