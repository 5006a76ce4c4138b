//! The supervisor's decisions: events in, actions out. No process, clock or file is touched here, so that
//! every order of events can be tested.
//!
//! A service starts when everything it is `after` is ready, each time it starts: one that keeps ending while
//! what it needs is down would only burn processor time. What depends on a service is not restarted with it;
//! Kubernetes' components reconnect.

mod ending;
mod state;
mod types;

use std::cmp::min;

pub use ending::KILL_MS;
use state::{Phase, Service, State};
pub use types::{Action, Event, Millis, Notice, Spec, View};

/// A service that ran this long before it ended starts again after the shortest pause.
pub const RAN_WELL_MS: Millis = 60_000;
/// A running service that is not ready after this long is mentioned, and again at each doubling.
pub const STILL_NOT_READY_MS: Millis = 45_000;
/// From the request to stop until everything that still runs is killed.
pub const STOP_TOTAL_MS: Millis = 45_000;
/// Failures in a row after which the last log lines are shown; again at each doubling.
pub const FAILURES_TO_SHOW_LOG: u32 = 3;

/// The state of all services.
#[derive(Debug, Clone)]
pub struct Machine {
    services: Vec<Service>,
    /// When everything left is killed, once it was asked to stop.
    stop_deadline: Option<Millis>,
    said_started: bool,
    said_ready: bool,
    said_stopped: bool,
}

impl Machine {
    /// A machine of services that all wait. `after` and `uses` must name services of the list without a cycle, as
    /// [`bootwright_model::services::check`] makes sure; in a cycle nothing would start.
    pub fn new(specs: Vec<Spec>) -> Machine {
        let dependents: Vec<Vec<usize>> = (0..specs.len()).map(|i| state::dependents(&specs, i)).collect();
        let services = specs
            .into_iter()
            .zip(dependents)
            .map(|(spec, dependents)| Service::new(spec, dependents))
            .collect();
        Machine { services, stop_deadline: None, said_started: false, said_ready: false, said_stopped: false }
    }

    /// Takes one event; the actions are to be carried out in order.
    pub fn handle(&mut self, now: Millis, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        self.take(now, event, &mut actions);
        self.pass_deadlines(now, &mut actions);
        if self.stop_deadline.is_some() {
            self.stop_some(now, &mut actions)
        } else {
            self.start_some(&mut actions)
        }
        self.sum_up(&mut actions);
        actions
    }

    /// When to send a `Tick` at the latest.
    pub fn deadline(&self) -> Option<Millis> {
        let of_services = self.services.iter().filter_map(|service| match service.state {
            State::BackingOff { until } => Some(until),
            State::Running { mention, .. } if service.spec.probed => Some(mention),
            State::Ending { deadline, .. } => Some(deadline),
            _ => None,
        });
        let everything = self.stop_deadline.filter(|_| self.services.iter().any(|s| s.state.is_live()));
        of_services.chain(everything).min()
    }

    /// A service for the boot report.
    pub fn view(&self, index: usize) -> View {
        let service = &self.services[index];
        let state = match service.state {
            State::Waiting => "waiting",
            State::BackingOff { .. } => "backing-off",
            State::Starting | State::Running { .. } => "running",
            State::Ready { .. } => "ready",
            State::Done => "done",
            State::Ending { .. } => "stopping",
            State::Stopped => "stopped",
        };
        View {
            state,
            started_ms: service.started_ms,
            ready_ms: service.ready_ms,
            restarts: service.run.saturating_sub(1),
            // Why it ended says more than that it does not answer yet after that.
            last_error: service.exit_error.as_ref().or(service.probe_error.as_ref()).cloned(),
        }
    }

    /// Services whose workloads are being ended.
    pub fn ending_workloads(&self) -> impl Iterator<Item = usize> {
        self.services.iter().enumerate().filter_map(|(index, service)| match service.state {
            State::Ending { phase: Phase::Workloads | Phase::WorkloadsKilled, .. } => Some(index),
            _ => None,
        })
    }

    fn take(&mut self, now: Millis, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Tick => {}
            Event::Started(i) => self.started(i, now, actions),
            Event::StartFailed(i, reason) => {
                if self.services[i].state == State::Starting {
                    self.services[i].run += 1;
                    self.failed(i, now, None, reason, actions);
                }
            }
            Event::AlreadyDone(i) => {
                let service = &mut self.services[i];
                if service.state == State::Starting {
                    service.state = State::Done;
                    service.started_ms.get_or_insert(now);
                    service.ready_ms.get_or_insert(now);
                    actions.push(Action::Say(i, Notice::AlreadyDone));
                }
            }
            Event::Exited(i, well, reason) => self.exited(i, now, well, reason, actions),
            Event::Ready(i, run) => {
                if let State::Running { since, .. } = self.services[i].state
                    && self.services[i].run == run
                {
                    self.ready(i, now, since, actions);
                }
            }
            Event::NotReady(i, run, reason) => {
                let service = &mut self.services[i];
                if matches!(service.state, State::Running { .. }) && service.run == run {
                    service.probe_error = Some(reason);
                }
            }
            Event::WorkloadsGone(i) => {
                if let State::Ending { phase: Phase::Workloads | Phase::WorkloadsKilled, .. } =
                    self.services[i].state
                {
                    self.ask(i, now, false, actions);
                }
            }
            Event::Restart(i) => {
                let running = matches!(self.services[i].state, State::Running { .. } | State::Ready { .. });
                if running && self.stop_deadline.is_none() && !self.services[i].spec.oneshot {
                    self.ask(i, now, true, actions);
                }
            }
            Event::Stop => {
                self.stop_deadline.get_or_insert(now + STOP_TOTAL_MS);
            }
        }
    }

    fn started(&mut self, i: usize, now: Millis, actions: &mut Vec<Action>) {
        let service = &mut self.services[i];
        if service.state != State::Starting {
            return;
        }
        service.run += 1;
        service.started_ms.get_or_insert(now);
        service.state = State::Running { since: now, mention: now + STILL_NOT_READY_MS };
        if is_loud(service.failures) {
            actions.push(Action::Say(i, Notice::Started));
        }
        if service.spec.probed {
            actions.push(Action::Probe(i, service.run));
        } else if !service.spec.oneshot {
            self.ready(i, now, now, actions);
        }
    }

    fn ready(&mut self, i: usize, now: Millis, since: Millis, actions: &mut Vec<Action>) {
        let service = &mut self.services[i];
        service.state = State::Ready { since };
        service.ready_ms.get_or_insert(now);
        service.probe_error = None;
        if service.spec.settles {
            actions.push(Action::Settle(i));
        }
        if service.spec.probed && is_loud(service.failures) {
            actions.push(Action::Say(i, Notice::Ready(now - since)));
        }
    }

    fn exited(&mut self, i: usize, now: Millis, well: bool, reason: String, actions: &mut Vec<Action>) {
        let service = &mut self.services[i];
        match service.state {
            State::Running { since, .. } if service.spec.oneshot && well => {
                service.state = State::Done;
                service.ready_ms.get_or_insert(now);
                actions.push(Action::Say(i, Notice::Done(now - since)));
            }
            State::Running { since, .. } | State::Ready { since } if self.stop_deadline.is_none() => {
                self.failed(i, now, Some(since), reason, actions);
            }
            State::Ending { restart: true, .. } if self.stop_deadline.is_none() => {
                service.failures = 0;
                service.state = State::Waiting;
                actions.push(Action::Say(i, Notice::Stopped));
            }
            State::Running { .. } | State::Ready { .. } | State::Ending { .. } => {
                service.state = State::Stopped;
                actions.push(Action::Say(i, Notice::Stopped));
            }
            State::Waiting | State::BackingOff { .. } | State::Starting | State::Done | State::Stopped => {}
        }
    }

    /// It ended, having run since some time, or did not start.
    fn failed(
        &mut self,
        i: usize,
        now: Millis,
        since: Option<Millis>,
        reason: String,
        actions: &mut Vec<Action>,
    ) {
        let service = &mut self.services[i];
        if since.is_some_and(|since| now - since >= RAN_WELL_MS) {
            service.failures = 0;
        }
        service.failures += 1;
        let [first, largest] = service.spec.restart;
        let doublings = min(service.failures - 1, 32);
        let again = min(first.saturating_mul(1 << doublings), largest);
        service.state = State::BackingOff { until: now + again };
        service.exit_error = Some(reason.clone());
        service.probe_error = None;
        let failures = service.failures;
        if is_loud(failures) {
            // One that did not start has printed nothing about it.
            let show_log = failures >= FAILURES_TO_SHOW_LOG && since.is_some();
            actions.push(Action::Say(i, Notice::Failed { reason, again, failures, show_log }));
        }
    }

    fn pass_deadlines(&mut self, now: Millis, actions: &mut Vec<Action>) {
        let everything = self.stop_deadline.is_some_and(|deadline| now >= deadline);
        for i in 0..self.services.len() {
            let service = &mut self.services[i];
            match service.state {
                State::BackingOff { until } if now >= until => service.state = State::Waiting,
                State::Running { since, mention } if service.spec.probed && now >= mention && !everything => {
                    service.state = State::Running { since, mention: now + (now - since) };
                    let error = service.probe_error.clone();
                    actions.push(Action::Say(i, Notice::StillNotReady { after: now - since, error }));
                }
                State::Ending { phase: Phase::Killed, deadline, restart } if now >= deadline => {
                    // One to be restarted is waited for without end: two of it would fight.
                    service.state = match restart && self.stop_deadline.is_none() {
                        true => State::Ending { phase: Phase::Killed, deadline: Millis::MAX, restart },
                        false => State::Stopped,
                    };
                    actions.push(Action::Say(i, Notice::GivenUp));
                }
                State::Ending { phase: Phase::Killed, .. } => {}
                State::Ending { phase, deadline, restart } if now >= deadline || everything => {
                    self.next_phase(i, now, phase, restart, everything, actions);
                }
                State::Running { .. } | State::Ready { .. } if everything => {
                    self.next_phase(i, now, Phase::Asked, false, true, actions);
                }
                _ => {}
            }
        }
    }

    fn start_some(&mut self, actions: &mut Vec<Action>) {
        for i in 0..self.services.len() {
            let service = &self.services[i];
            let wanted = service.state == State::Waiting
                && service.spec.after.iter().all(|&d| self.services[d].state.is_ready());
            if wanted {
                self.services[i].state = State::Starting;
                actions.push(Action::Start(i));
            }
        }
    }

    fn sum_up(&mut self, actions: &mut Vec<Action>) {
        // One-shots are work to be done, not services; some of it comes long after everything runs.
        let all_started = self.services.iter().all(|s| s.started_ms.is_some() || s.spec.oneshot);
        if all_started && !self.said_started && self.stop_deadline.is_none() {
            self.said_started = true;
            actions.push(Action::AllStarted);
        }
        let all_ready = self.services.iter().all(|s| s.state.is_ready() || !s.spec.essential);
        if all_ready && !self.said_ready && self.stop_deadline.is_none() {
            self.said_ready = true;
            actions.push(Action::AllReady);
        }
        let none_live = !self.services.iter().any(|s| s.state.is_live());
        if self.stop_deadline.is_some() && none_live && !self.said_stopped {
            self.said_stopped = true;
            actions.push(Action::AllStopped);
        }
    }
}

/// Whether the n-th failure in a row is told: the first few, then at each doubling.
fn is_loud(failures: u32) -> bool {
    failures <= FAILURES_TO_SHOW_LOG
        || failures.is_multiple_of(FAILURES_TO_SHOW_LOG) && {
            (failures / FAILURES_TO_SHOW_LOG).is_power_of_two()
        }
}

#[cfg(test)]
mod tests;
