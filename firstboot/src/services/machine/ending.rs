//! How services end: in reverse order, workloads first, asked before they are killed.

use super::Machine;
use super::state::{Phase, State};
use super::types::{Action, Millis, Notice};

/// From SIGKILL until a process is given up: one in uninterruptible sleep cannot be waited for.
pub const KILL_MS: Millis = 3_000;

impl Machine {
    /// Ends every service that nothing running depends on.
    pub(super) fn stop_some(&mut self, now: Millis, actions: &mut Vec<Action>) {
        for service in &mut self.services {
            if matches!(service.state, State::Waiting | State::BackingOff { .. }) {
                service.state = State::Stopped;
            }
        }
        for i in 0..self.services.len() {
            let service = &self.services[i];
            let runs = matches!(service.state, State::Running { .. } | State::Ready { .. });
            if !runs || service.dependents.iter().any(|&d| self.services[d].state.is_live()) {
                continue;
            }
            if service.spec.workloads {
                let deadline = now + service.spec.stop;
                self.services[i].state = State::Ending { phase: Phase::Workloads, deadline, restart: false };
                actions.push(Action::EndWorkloads(i));
            } else {
                self.ask(i, now, false, actions);
            }
        }
    }

    /// Sends the stop signal and waits for the end.
    pub(super) fn ask(&mut self, i: usize, now: Millis, restart: bool, actions: &mut Vec<Action>) {
        let service = &mut self.services[i];
        service.state = State::Ending { phase: Phase::Asked, deadline: now + service.spec.stop, restart };
        actions.push(Action::Say(i, Notice::Stopping));
        actions.push(Action::Ask(i));
    }

    /// What follows when a phase of its end has taken too long, or `everything` has to end at once.
    pub(super) fn next_phase(
        &mut self,
        i: usize,
        now: Millis,
        phase: Phase,
        restart: bool,
        everything: bool,
        actions: &mut Vec<Action>,
    ) {
        let workloads_live = matches!(phase, Phase::Workloads | Phase::WorkloadsKilled);
        if phase == Phase::Workloads || (everything && self.services[i].spec.workloads) {
            actions.push(Action::KillWorkloads(i));
        }
        if everything || !workloads_live {
            self.services[i].state = State::Ending { phase: Phase::Killed, deadline: now + KILL_MS, restart };
            actions.push(Action::Kill(i));
            actions.push(Action::Say(i, Notice::Killed));
        } else if phase == Phase::Workloads {
            let phase = Phase::WorkloadsKilled;
            self.services[i].state = State::Ending { phase, deadline: now + KILL_MS, restart };
        } else {
            self.ask(i, now, restart, actions);
        }
    }
}
