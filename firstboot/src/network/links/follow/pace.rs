//! When to look: soon after a change, and again while something is missing, but never so often that two programs that undo
//! each other's work keep the machine busy.

use std::time::{Duration, Instant};

/// After a change: what belongs to one event comes within this, and is one look.
const SETTLE: Duration = Duration::from_millis(200);
/// Shortest and longest pause after a look that changed something, which is told to this program too.
const MENDED: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(30)];
/// Shortest and longest pause until a look is taken again because something could not be done.
const FAILED: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

/// The time of the next look.
#[derive(Debug)]
pub(super) struct Pace {
    due: Option<Instant>,
    /// No look before.
    not_before: Instant,
    mended: Duration,
    failed: Duration,
}

impl Pace {
    /// With a look at once.
    pub fn new(now: Instant) -> Pace {
        Pace { due: Some(now), not_before: now, mended: MENDED[0], failed: FAILED[0] }
    }

    /// When to look, unless something changes before.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Something has changed.
    pub fn changed(&mut self, now: Instant) {
        let at = (now + SETTLE).max(self.not_before);
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// A look was taken. What it changed, if anything, may be undone by somebody: the pause doubles until a look changes
    /// nothing.
    pub fn looked(&mut self, now: Instant, has_mended: bool, is_missing: bool) {
        let double = |pause: Duration, [_, longest]: [Duration; 2]| (pause * 2).min(longest);
        if has_mended {
            self.not_before = now + self.mended;
            self.mended = double(self.mended, MENDED);
        } else {
            self.mended = MENDED[0];
        }
        self.due = is_missing.then_some(now + self.failed);
        self.failed = if is_missing { double(self.failed, FAILED) } else { FAILED[0] };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn changes_that_come_together_are_one_look() {
        let begin = Instant::now();
        let mut pace = Pace::new(begin);
        pace.looked(begin, false, false);
        assert_eq!(pace.due(), None);
        pace.changed(begin + 10 * MS);
        pace.changed(begin + 150 * MS);
        assert_eq!(pace.due(), Some(begin + 210 * MS), "not later and later");
    }

    #[test]
    fn work_that_is_undone_is_done_less_and_less_often() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            pace.looked(now, true, false);
            pace.changed(now);
            let due = pace.due().unwrap();
            pauses.push((due - now).as_millis());
            now = due;
        }
        assert_eq!(pauses[..4], [200, 400, 800, 1600]);
        assert_eq!(pauses[11], 30_000);
        pace.looked(now, false, false);
        pace.changed(now + 40_000 * MS);
        assert_eq!(pace.due(), Some(now + 40_200 * MS));
    }

    #[test]
    fn what_could_not_be_done_is_tried_again_and_a_change_does_not_wait_for_it() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            pace.looked(now, false, true);
            let due = pace.due().unwrap();
            pauses.push((due - now).as_secs());
            now = due;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        pace.looked(now, false, true);
        pace.changed(now + MS);
        assert_eq!(pace.due(), Some(now + 201 * MS));
        pace.looked(now + 201 * MS, true, false);
        assert_eq!(pace.due(), None);
    }
}
