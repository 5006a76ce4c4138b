//! Bookkeeping that every reporter shares: when a step began and how far it is.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Unit;

/// A step under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub total: Option<u64>,
    pub unit: Unit,
    pub done: u64,
    started: Instant,
}

/// The steps under way, by name.
#[derive(Debug, Default)]
pub(super) struct Steps {
    steps: Mutex<BTreeMap<String, Step>>,
}

impl Steps {
    pub fn begin(&self, step: &str, total: Option<u64>, unit: Unit) {
        let new = Step { total, unit, done: 0, started: Instant::now() };
        self.lock().insert(step.to_owned(), new);
    }

    /// The step as it is after `amount` more; `None` if it never began.
    pub fn advance(&self, step: &str, amount: u64) -> Option<Step> {
        let mut steps = self.lock();
        let found = steps.get_mut(step)?;
        found.done = found.done.saturating_add(amount);
        Some(*found)
    }

    /// How long the step took; nothing if it never began.
    pub fn end(&self, step: &str) -> Duration {
        self.lock().remove(step).map_or(Duration::ZERO, |step| step.started.elapsed())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Step>> {
        // The map is whole after each of its operations, whatever panicked.
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `64.0 MB`, `81`.
pub(super) fn amount(value: u64, unit: Unit) -> String {
    match unit {
        Unit::Bytes => indicatif::DecimalBytes(value).to_string(),
        Unit::Items => value.to_string(),
    }
}

/// `0.42 s`, `12.3 s`, `2 min 5 s`.
pub(super) fn duration(value: Duration) -> String {
    let seconds = value.as_secs();
    match seconds {
        0..=9 => format!("{:.2} s", value.as_secs_f64()),
        10..=119 => format!("{:.1} s", value.as_secs_f64()),
        _ => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_say_them() {
        let texts = [40, 9_940, 12_340, 125_000].map(|ms| duration(Duration::from_millis(ms)));
        assert_eq!(texts, ["0.04 s", "9.94 s", "12.3 s", "2 min 5 s"]);
    }

    #[test]
    fn a_step_that_never_began_is_no_error() {
        let steps = Steps::default();
        assert!(steps.advance("fetch", 1).is_none());
        assert_eq!(steps.end("fetch"), Duration::ZERO);
    }
}
