//! The loop of PID 1: waits for children, signals, probes and the clock, asks [`super::machine`] what to do, and
//! does it.

mod events;
mod exit;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bootwright_model::report::ServiceState;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};

use super::cgroup::{self, Leaf};
use super::definitions::Definition;
use super::logs::Logs;
use super::machine::{Action, Event, Machine, Millis, Notice, Spec};
use super::mailbox::Mailbox;
use super::markers::Marker;
use super::power::PowerButtons;
use super::probe::Probe;
use super::signals::Signals;
use super::watchdog::Watchdog;
use super::{Ending, Host, Observer, console, spawn};

/// Between looks at workloads that are being ended; there is no event for "a cgroup became empty" that
/// covers one that has been removed.
const WORKLOADS_INTERVAL_MS: Millis = 50;

/// How supervision ended: nothing of ours runs any more.
#[derive(Debug)]
pub struct Ended {
    /// What the machine shall do now.
    pub ending: Ending,
    /// Still armed, so that a hanging shutdown ends too.
    pub watchdog: Option<Watchdog>,
}

/// Supervises services until the machine shall end.
pub struct Supervisor<'a> {
    host: &'a Host,
    definitions: Vec<Definition>,
    observer: &'a mut dyn Observer,
    machine: Machine,
    // Before the mailbox, to be dropped before it: the handlers write to its descriptor.
    signals: Signals,
    mailbox: Mailbox,
    logs: Logs,
    buttons: PowerButtons,
    watchdog: Option<Watchdog>,
    processes: HashMap<Pid, usize>,
    /// The run of each service that a probe may speak of; 0: none.
    current_run: Vec<Arc<AtomicU32>>,
    ending: Option<Ending>,
    published: Vec<ServiceState>,
}

impl<'a> Supervisor<'a> {
    /// Everything that can fail is done here; from then on the supervisor only stops when told to.
    pub fn new(
        host: &'a Host,
        definitions: Vec<Definition>,
        observer: &'a mut dyn Observer,
    ) -> io::Result<Supervisor<'a>> {
        spawn::raise_open_files();
        let mailbox = Mailbox::new()?;
        let signals = Signals::install(mailbox.wake())?;
        let names: Vec<String> = definitions.iter().map(|d| d.service.name.clone()).collect();
        let logs = Logs::open(&host.logs, &names, host.log_cap)?;
        let watchdog = Watchdog::open(&host.watchdog, observer.uptime_ms());
        if let Some(watchdog) = &watchdog {
            observer.line(&watchdog.summary());
        }
        Ok(Supervisor {
            host,
            machine: Machine::new(definitions.iter().map(spec).collect()),
            current_run: definitions.iter().map(|_| Arc::new(AtomicU32::new(0))).collect(),
            definitions,
            observer,
            mailbox,
            signals,
            logs,
            buttons: PowerButtons::default(),
            watchdog,
            processes: HashMap::new(),
            ending: None,
            published: Vec::new(),
        })
    }

    /// An end of the mailbox for a thread that outlives this call, such as the one that renews certificates.
    pub fn post(&self) -> super::mailbox::Post {
        self.mailbox.post()
    }

    /// Runs until everything has stopped.
    pub fn run(mut self) -> Ended {
        self.buttons.find(&self.host.input);
        let mut stopped = false;
        while !stopped {
            let now = self.observer.uptime_ms();
            if let Some(watchdog) = &mut self.watchdog {
                watchdog.feed(now);
            }
            // The wake is reset before anything is looked at, so that what comes in between wakes again.
            let mut events: VecDeque<Event> = self.mail().into();
            self.look_at_signals(&mut events);
            self.look_at_workloads(&mut events);
            events.push_back(Event::Tick);
            stopped = self.handle(events);
            self.publish();
            if !stopped {
                self.sleep();
            }
        }
        let Supervisor { logs, watchdog, ending, .. } = self;
        logs.close();
        Ended { ending: ending.unwrap_or(Ending::PowerOff), watchdog }
    }

    /// Lets the machine see events, and those that its actions cause, until there are none left.
    fn handle(&mut self, mut events: VecDeque<Event>) -> bool {
        let mut stopped = false;
        while let Some(event) = events.pop_front() {
            let now = self.observer.uptime_ms();
            for action in self.machine.handle(now, event) {
                stopped |= action == Action::AllStopped;
                self.perform(action, &mut events);
            }
        }
        stopped
    }

    fn perform(&mut self, action: Action, events: &mut VecDeque<Event>) {
        match action {
            Action::Start(i) => events.push_back(self.start(i)),
            Action::Probe(i, run) => self.probe(i, run, events),
            Action::Ask(i) => self.signal(i, self.definitions[i].stop_signal()),
            Action::Kill(i) => {
                self.signal(i, Signal::KILL);
                self.leaf(i).kill();
            }
            Action::EndWorkloads(i) => {
                self.observer.line(&format!("service {}: ending its workloads", self.name(i)));
                self.workloads(i).iter().for_each(|leaf| leaf.signal(Signal::TERM));
            }
            Action::KillWorkloads(i) => self.workloads(i).iter().for_each(Leaf::kill),
            Action::Settle(i) => self.set_weight(i, usual_weight(&self.definitions[i])),
            Action::Say(i, notice) => self.say(i, &notice),
            Action::AllStarted => {
                self.publish();
                self.observer.services_started();
            }
            Action::AllReady => {
                self.buttons.find(&self.host.input);
                self.publish();
                self.observer.ready();
            }
            Action::AllStopped => {}
        }
    }

    fn start(&mut self, i: usize) -> Event {
        match self.try_start(i) {
            Ok(Some(pid)) => {
                self.processes.insert(pid, i);
                let uptime = self.observer.uptime_ms();
                self.logs.note(i, &format!("started as process {pid}, {uptime} ms after kernel start"));
                Event::Started(i)
            }
            Ok(None) => Event::AlreadyDone(i),
            Err(error) => Event::StartFailed(i, chain(&*error)),
        }
    }

    fn try_start(&mut self, i: usize) -> Result<Option<Pid>, Box<dyn std::error::Error>> {
        let definition = &self.definitions[i];
        if let Some(once) = &definition.service.once {
            let marker = Marker::of(self.host, &definition.service.name);
            if marker.has(&once.key) {
                return Ok(None);
            }
            marker.remove()?;
        }
        let leaf = Leaf::make(&self.host.cgroup, &definition.cgroup())?;
        let procs = leaf.open_procs()?;
        let log = self.logs.pipe(i)?;
        let weight = definition.service.starting_cpu_weight.unwrap_or_else(|| usual_weight(definition));
        // We wait until the process has become the program, so that much of its work is ours.
        self.set_weight(i, cgroup::HIGHEST_WEIGHT);
        let pid = spawn::spawn(self.host, &self.definitions[i], &procs, log)?;
        self.set_weight(i, weight);
        Ok(Some(pid))
    }

    fn set_weight(&mut self, i: usize, weight: u16) {
        if !self.host.controllers.contains(&cgroup::CPU) {
            return;
        }
        if let Err(error) = self.leaf(i).set_cpu_weight(weight) {
            // It runs, which matters more than its share.
            self.observer.line(&format!("service {}: {}", self.name(i), chain(&error)));
        }
    }

    fn probe(&mut self, i: usize, run: u32, events: &mut VecDeque<Event>) {
        let Some(readiness) = self.definitions[i].service.ready.clone() else { return };
        self.current_run[i].store(run, Ordering::SeqCst);
        let current = Arc::clone(&self.current_run[i]);
        let probe = Probe { service: i, run, readiness, ca: self.host.ca.clone(), current };
        if let Err(error) = probe.start(self.mailbox.post()) {
            // No thread to be had: the services after it must not wait for ever.
            self.observer.line(&format!("service {}: no probe ({error}), taken as ready", self.name(i)));
            events.push_back(Event::Ready(i, run));
        }
    }

    fn say(&mut self, i: usize, notice: &Notice) {
        let name = self.name(i).to_owned();
        self.observer.line(&console::line(&name, notice));
        if let Notice::Failed { show_log: true, .. } = notice {
            for line in console::log_lines(&name, &self.logs.tail(i, console::LOG_LINES)) {
                self.observer.line(&line);
            }
        }
    }

    fn signal(&self, i: usize, signal: Signal) {
        for (&pid, _) in self.processes.iter().filter(|(_, service)| **service == i) {
            // Not waited for yet, so the number is still this process's; it may have ended.
            let _ = kill_process(pid, signal);
        }
    }

    fn sleep(&mut self) {
        let now = self.observer.uptime_ms();
        let workloads = self.machine.ending_workloads().next().map(|_| now + WORKLOADS_INTERVAL_MS);
        let feed = self.watchdog.as_ref().map(Watchdog::due);
        let until = [self.machine.deadline(), workloads, feed].into_iter().flatten().min();
        let pause = until.map(|until| {
            let ms = until.saturating_sub(now).min(3_600_000);
            // At most an hour in nanoseconds per second: both parts fit.
            Timespec { tv_sec: (ms / 1000).cast_signed(), tv_nsec: (ms % 1000 * 1_000_000).cast_signed() }
        });
        let wake = std::iter::once(self.mailbox.wake());
        let all = wake.chain(self.buttons.descriptors());
        let mut polled: Vec<PollFd<'_>> = all.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        // Interrupted by a signal: its handler has made the wake readable, so the next turn sees it.
        let _ = poll(&mut polled, pause.as_ref());
    }

    fn publish(&mut self) {
        let states: Vec<ServiceState> = (0..self.definitions.len())
            .map(|i| {
                let view = self.machine.view(i);
                ServiceState {
                    name: self.name(i).to_owned(),
                    state: view.state.to_owned(),
                    started_ms: view.started_ms,
                    ready_ms: view.ready_ms,
                    restarts: view.restarts,
                    last_error: view.last_error,
                }
            })
            .collect();
        if states != self.published {
            self.observer.services(states.clone());
            self.published = states;
        }
    }

    fn name(&self, i: usize) -> &str {
        &self.definitions[i].service.name
    }

    fn leaf(&self, i: usize) -> Leaf {
        Leaf::at(&self.host.cgroup, &self.definitions[i].cgroup())
    }

    fn workloads(&self, i: usize) -> Option<Leaf> {
        self.definitions[i].service.workloads.as_ref().map(|name| Leaf::at(&self.host.cgroup, name))
    }
}

fn spec(definition: &Definition) -> Spec {
    let service = &definition.service;
    Spec {
        after: definition.after.clone(),
        uses: definition.uses.clone(),
        oneshot: service.oneshot,
        probed: service.ready.is_some(),
        essential: service.essential,
        restart: service.restart_milliseconds.map(Millis::from),
        stop: Millis::from(service.stop_seconds) * 1000,
        workloads: service.workloads.is_some(),
        settles: service.starting_cpu_weight.is_some(),
    }
}

/// Share of a service that is ready.
fn usual_weight(definition: &Definition) -> u16 {
    definition.service.cpu_weight.unwrap_or(cgroup::USUAL_WEIGHT)
}

/// An error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
