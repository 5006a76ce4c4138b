//! What has happened since the last look: messages of threads, signals, children that ended, cgroups that emptied.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::thread;

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus, wait, waitpid};

use super::{Supervisor, exit};
use crate::services::machine::Event;
use crate::services::mailbox::Message;
use crate::services::markers::Marker;
use crate::services::{Ending, children};

impl Supervisor<'_> {
    /// Messages of threads, as events.
    pub(super) fn mail(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        for message in self.mailbox.drain() {
            match message {
                Message::Ready(i, run) => events.push(Event::Ready(i, run)),
                Message::NotReady(i, run, reason) => events.push(Event::NotReady(i, run, reason)),
                Message::MarkerFailed(i, reason) => {
                    let line = format!("service {}: will run again on the next boot: {reason}", self.name(i));
                    self.observer.line(&line);
                }
                Message::Renewed(names) => {
                    self.observer.line(&format!("certificates: renewed; restarting {}", names.join(", ")));
                    let index = |name: &String| self.definitions.iter().position(|d| d.service.name == *name);
                    events.extend(names.iter().filter_map(index).map(Event::Restart));
                }
                Message::RenewalFailed(reason) => {
                    self.observer
                        .line(&format!("certificates: not renewed, trying again tomorrow: {reason}"));
                }
            }
        }
        events
    }

    /// Signals and power buttons, and whoever has ended.
    pub(super) fn look_at_signals(&mut self, events: &mut VecDeque<Event>) {
        let arrived = self.signals.take();
        // Always: a child may end while its signal is already pending, and waiting costs one system call.
        self.reap(events);
        let reason = if self.buttons.pressed() {
            Some(("power button", Ending::PowerOff))
        } else if arrived.has(libc::SIGINT) {
            Some(("Ctrl-Alt-Del", Ending::Reboot))
        } else if arrived.has(libc::SIGTERM) {
            Some(("SIGTERM", Ending::PowerOff))
        } else if arrived.has(libc::SIGPWR) {
            Some(("SIGPWR", Ending::PowerOff))
        } else {
            None
        };
        if let Some((reason, ending)) = reason
            && self.ending.is_none()
        {
            self.ending = Some(ending);
            let what = if ending == Ending::Reboot { "reboot" } else { "power-off" };
            self.observer.line(&format!("{reason}: stopping all services for a {what}"));
            events.push_back(Event::Stop);
        }
    }

    /// Waits for every child that has ended: services, and orphans that the kernel gave to PID 1.
    fn reap(&mut self, events: &mut VecDeque<Event>) {
        let Some(_ours) = children::all_are_ours() else { return self.reap_services(events) };
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    if let Some(i) = self.processes.remove(&pid) {
                        events.push_back(self.ended(i, status));
                    }
                }
                Err(Errno::INTR) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Waits for services only: a stage has a child of its own.
    fn reap_services(&mut self, events: &mut VecDeque<Event>) {
        let pids: Vec<Pid> = self.processes.keys().copied().collect();
        for pid in pids {
            if let Ok(Some((_, status))) = waitpid(Some(pid), WaitOptions::NOHANG)
                && let Some(i) = self.processes.remove(&pid)
            {
                events.push_back(self.ended(i, status));
            }
        }
    }

    fn ended(&mut self, i: usize, status: WaitStatus) -> Event {
        let well = status.exit_status() == Some(0);
        let reason = exit::describe(status);
        self.current_run[i].store(0, Ordering::SeqCst);
        self.logs.note(i, &format!("ended: {reason}"));
        // What it left behind would hold its ports and sockets. A service with workloads has left those behind
        // that outlive its restart; they end with it only when the machine does.
        if self.definitions[i].service.workloads.is_none() || self.ending.is_some() {
            self.leaf(i).kill();
        }
        if let (true, Some(once)) = (well, &self.definitions[i].service.once) {
            self.record(i, once.key.clone());
        }
        Event::Exited(i, well, reason)
    }

    /// Writes a marker in a thread, for it waits for the disk.
    fn record(&self, i: usize, key: String) {
        let marker = Marker::of(self.host, self.name(i));
        let post = self.mailbox.post();
        let work = move || {
            if let Err(error) = marker.write(&key) {
                post.send(Message::MarkerFailed(i, format!("its marker cannot be written: {error}")));
            }
        };
        if let Err(error) = thread::Builder::new().name("marker".to_owned()).spawn(work) {
            self.mailbox.post().send(Message::MarkerFailed(i, error.to_string()));
        }
    }

    /// Workloads that are being ended and are gone.
    pub(super) fn look_at_workloads(&self, events: &mut VecDeque<Event>) {
        for i in self.machine.ending_workloads() {
            if !self.workloads(i).is_some_and(|leaf| leaf.is_populated()) {
                events.push_back(Event::WorkloadsGone(i));
            }
        }
    }
}
