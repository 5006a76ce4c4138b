//! What was seen of the API from its clients' side.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How many different failures are kept to be told.
const TOLD: usize = 5;

/// Requests and failures since the measuring began.
#[derive(Default)]
pub struct Seen(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    measuring: bool,
    times: Vec<Duration>,
    failed: usize,
    told: Vec<String>,
}

/// What all requests together were.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Requests, those that failed included.
    pub requests: usize,
    /// Requests that failed, and watches that ended with an error.
    pub failed: usize,
    /// What went wrong, each thing once, the first few.
    pub told: Vec<String>,
    /// Half of the requests took no longer, milliseconds.
    pub p50: f64,
    /// 99 of 100 requests took no longer, milliseconds.
    pub p99: f64,
}

impl Seen {
    /// Forgets what was, and counts from now on.
    pub fn begin(&self) {
        *self.lock() = Inner { measuring: true, ..Inner::default() };
    }

    /// Counts no more.
    pub fn end(&self) {
        self.lock().measuring = false;
    }

    /// A request that was answered, or failed after this time.
    pub fn request(&self, took: Duration) {
        let mut inner = self.lock();
        if inner.measuring {
            inner.times.push(took);
        }
    }

    /// Something that failed.
    pub fn failure(&self, what: String) {
        let mut inner = self.lock();
        inner.failed += 1;
        if inner.told.len() < TOLD && !inner.told.contains(&what) {
            inner.told.push(what);
        }
    }

    /// What was seen since the beginning.
    pub fn summary(&self) -> Summary {
        let inner = self.lock();
        let mut times = inner.times.clone();
        times.sort_unstable();
        Summary {
            requests: times.len(),
            failed: inner.failed,
            told: inner.told.clone(),
            p50: percentile(&times, 50),
            p99: percentile(&times, 99),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Each change is whole, whatever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The smallest of the sorted values that so many of a hundred do not exceed (nearest rank), milliseconds.
fn percentile(sorted: &[Duration], hundredths: usize) -> f64 {
    let rank = (sorted.len() * hundredths).div_ceil(100);
    rank.checked_sub(1).and_then(|index| sorted.get(index)).map_or(0.0, |took| took.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_before_the_beginning_does_not_count() {
        let seen = Seen::default();
        seen.request(Duration::from_secs(9));
        seen.failure("too early".to_owned());
        seen.begin();
        (1..=200).for_each(|milliseconds| seen.request(Duration::from_millis(milliseconds)));
        (0..3).for_each(|_| seen.failure("refused".to_owned()));
        seen.end();
        seen.request(Duration::from_secs(9));
        let expected =
            Summary { requests: 200, failed: 3, told: vec!["refused".to_owned()], p50: 100.0, p99: 198.0 };
        assert_eq!(seen.summary(), expected);
    }

    #[test]
    fn of_nothing_there_is_no_percentile() {
        assert!(percentile(&[], 99).abs() < f64::EPSILON);
        assert_eq!(percentile(&[Duration::from_millis(7)], 50).to_bits(), 7.0_f64.to_bits());
    }
}
