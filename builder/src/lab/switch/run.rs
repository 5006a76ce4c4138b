//! The thread of a switch.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Plan;
use super::fabric::{Delivery, Fabric};
use super::faults::{Fault, Scope};
use super::gateway::Gateway;
use super::link::Link;

/// What the thread is told.
#[derive(Debug)]
pub enum Command {
    /// A cable for a port.
    Plug(usize, UnixStream),
    /// A fault.
    Add(Scope, Fault),
    /// Faults away.
    Heal(Option<Scope>),
    /// Tell the faults, and the frames lost for want of room.
    Describe(Sender<(Vec<String>, u64)>),
    /// End.
    Stop,
}

/// Everything that the thread has.
pub struct Loop {
    names: Arc<[String]>,
    commands: Receiver<Command>,
    bell: Arc<OwnedFd>,
    links: Vec<Option<Link>>,
    gateway: Gateway,
    fabric: Fabric,
    /// Frames lost on cables that are out by now.
    lost: u64,
}

/// What was heard: the bell, the ports with something to read, and whether the gateway has.
struct Heard {
    bell: bool,
    ports: Vec<usize>,
    gateway: bool,
}

impl Loop {
    /// Nothing is plugged in. The last of `names` is the gateway's.
    pub fn new(
        plan: Plan,
        names: Arc<[String]>,
        commands: Receiver<Command>,
        bell: Arc<OwnedFd>,
    ) -> std::io::Result<Loop> {
        Ok(Loop {
            links: plan.names.iter().map(|_| None).collect(),
            gateway: Gateway::new(&plan.gateway, plan.mtu, plan.forwards)?,
            fabric: Fabric::new(names.len(), plan.seed),
            names,
            commands,
            bell,
            lost: 0,
        })
    }

    /// Switches until it is told to stop.
    pub fn run(mut self) {
        let mut out = Vec::new();
        loop {
            let begin = Instant::now();
            let wait = self.wait(begin);
            let heard = self.listen(wait);
            let now = Instant::now();
            if heard.bell && !self.obey() {
                return;
            }
            for port in heard.ports {
                self.read(now, port, &mut out);
            }
            self.fabric.release(now, &mut out);
            let for_gateway = self.deliver(&mut out);
            if for_gateway || heard.gateway || self.gateway.patience(now) == Some(Duration::ZERO) {
                let (fabric, outside) = (&mut self.fabric, self.links.len());
                self.gateway.turn(now, |frame| fabric.accept(now, outside, &frame, &mut out));
                self.deliver(&mut out);
            }
            self.flush();
        }
    }

    /// How long nothing happens by itself.
    fn wait(&mut self, now: Instant) -> Option<Duration> {
        let delayed = self.fabric.next_due().map(|due| due.saturating_duration_since(now));
        [delayed, self.gateway.patience(now)].into_iter().flatten().min()
    }

    fn listen(&self, wait: Option<Duration>) -> Heard {
        let mut fds = vec![PollFd::new(&*self.bell, PollFlags::IN)];
        let mut ports = Vec::new();
        for (port, link) in self.links.iter().enumerate() {
            if let Some(link) = link {
                let mut flags = PollFlags::IN;
                flags.set(PollFlags::OUT, link.has_queue());
                fds.push(PollFd::from_borrowed_fd(link.socket().as_fd(), flags));
                ports.push(port);
            }
        }
        self.gateway.interest(|fd, flags| fds.push(PollFd::from_borrowed_fd(fd, flags)));
        let wait = wait.map(|wait| Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: wait.subsec_nanos().into(),
        });
        // Interrupted by a signal, or out of memory for a moment: everything is looked at in the next turn.
        let woken = poll(&mut fds, wait.as_ref()).is_ok();
        let heard = |fd: &PollFd<'_>| woken && !fd.revents().is_empty();
        let readable = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
        let (links, gateway) = fds[1..].split_at(ports.len());
        let with_something =
            links.iter().zip(&ports).filter(|(fd, _)| woken && fd.revents().intersects(readable));
        Heard {
            bell: heard(&fds[0]),
            ports: with_something.map(|(_, port)| *port).collect(),
            gateway: gateway.iter().any(heard),
        }
    }

    /// Does what it was told; `false` if that is to end.
    fn obey(&mut self) -> bool {
        let mut count = [0; 8];
        // Nothing to read means that it was read before.
        let _ = rustix::io::read(&self.bell, &mut count);
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Plug(port, socket) => {
                    self.unplug(port);
                    // A socket that cannot be made non-blocking is as good as none: the machine has no carrier.
                    self.links[port] = Link::new(socket).ok();
                }
                Command::Add(scope, fault) => self.fabric.faults.add(scope, fault),
                Command::Heal(scope) => self.fabric.faults.heal(scope),
                Command::Describe(answer) => {
                    let lost = self.links.iter().flatten().map(Link::lost).sum::<u64>();
                    let faults = self.fabric.faults.describe(|port| self.names[port].clone());
                    // Who asked may have given up.
                    let _ = answer.send((faults, self.lost + lost));
                }
                Command::Stop => return false,
            }
        }
        true
    }

    fn read(&mut self, now: Instant, port: usize, out: &mut Vec<Delivery>) {
        let fabric = &mut self.fabric;
        let read =
            self.links[port].as_mut().map(|link| link.read(|frame| fabric.accept(now, port, frame, out)));
        if let Some(Err(_)) = read {
            self.unplug(port);
        }
    }

    /// Puts frames into the queues of their ports. Whether one was for the gateway.
    fn deliver(&mut self, out: &mut Vec<Delivery>) -> bool {
        let mut for_gateway = false;
        for (port, frame) in out.drain(..) {
            match self.links.get_mut(port) {
                Some(Some(link)) => link.push(&frame),
                // Nothing is plugged in.
                Some(None) => {}
                None => {
                    for_gateway = true;
                    self.gateway.push(frame);
                }
            }
        }
        for_gateway
    }

    fn flush(&mut self) {
        for port in 0..self.links.len() {
            if let Some(Err(_)) = self.links[port].as_mut().map(Link::flush) {
                self.unplug(port);
            }
        }
    }

    fn unplug(&mut self, port: usize) {
        if let Some(link) = self.links[port].take() {
            self.lost += link.lost();
            self.fabric.forget(port);
        }
    }
}
