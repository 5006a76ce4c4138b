//! What the machine remembers of each service.

use super::types::{Millis, Spec};

/// Where a service is between its start and its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Waiting,
    BackingOff { until: Millis },
    Starting,
    Running { since: Millis, mention: Millis },
    Ready { since: Millis },
    Done,
    Ending { phase: Phase, deadline: Millis, restart: bool },
    Stopped,
}

/// How far the end of a service has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Workloads,
    WorkloadsKilled,
    Asked,
    Killed,
}

impl State {
    /// There is a process.
    pub(super) fn is_live(self) -> bool {
        matches!(self, State::Starting | State::Running { .. } | State::Ready { .. } | State::Ending { .. })
    }

    /// What is after it can start.
    pub(super) fn is_ready(self) -> bool {
        matches!(self, State::Ready { .. } | State::Done)
    }
}

/// A service and what has become of it.
#[derive(Debug, Clone)]
pub(super) struct Service {
    pub(super) spec: Spec,
    pub(super) state: State,
    /// Number of the current run, from 1; probes of earlier runs are ignored.
    pub(super) run: u32,
    /// In a row.
    pub(super) failures: u32,
    pub(super) started_ms: Option<Millis>,
    pub(super) ready_ms: Option<Millis>,
    /// How it last ended against our will, or why it did not start.
    pub(super) exit_error: Option<String>,
    /// What the probe of this run said last, while it is not ready.
    pub(super) probe_error: Option<String>,
    /// Services that are after it or use it, directly or through others.
    pub(super) dependents: Vec<usize>,
}

impl Service {
    /// One that waits for what it needs.
    pub(super) fn new(spec: Spec, dependents: Vec<usize>) -> Service {
        Service {
            spec,
            state: State::Waiting,
            run: 0,
            failures: 0,
            started_ms: None,
            ready_ms: None,
            exit_error: None,
            probe_error: None,
            dependents,
        }
    }
}

/// Services that are after a service or use it, directly or through others.
pub(super) fn dependents(specs: &[Spec], of: usize) -> Vec<usize> {
    let mut found = Vec::new();
    let mut open = vec![of];
    while let Some(next) = open.pop() {
        for (i, spec) in specs.iter().enumerate() {
            if (spec.after.contains(&next) || spec.uses.contains(&next)) && i != of && !found.contains(&i) {
                found.push(i);
                open.push(i);
            }
        }
    }
    found
}
