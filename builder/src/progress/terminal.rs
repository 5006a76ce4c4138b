//! Bars on a terminal: one per step under way, one line left behind by each that ended.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::steps::{Steps, duration};
use super::{Progress, Unit, interrupt};

/// Redraws per second; more costs processor time that the build needs.
const REDRAWS_HZ: u8 = 10;

/// Progress bars on stderr.
pub struct Bars {
    screen: MultiProgress,
    bars: Mutex<BTreeMap<String, ProgressBar>>,
    steps: Steps,
    verbose: bool,
}

impl Bars {
    /// Bars on stderr; details only if `verbose`.
    pub fn new(verbose: bool) -> Self {
        let screen = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(REDRAWS_HZ));
        Bars { screen, bars: Mutex::default(), steps: Steps::default(), verbose }
    }

    fn bar(&self, step: &str) -> Option<ProgressBar> {
        self.bars.lock().unwrap_or_else(PoisonError::into_inner).get(step).cloned()
    }

    /// A line above the bars. A terminal that went away is no reason to stop a build.
    fn line(&self, text: &str) {
        let _ = self.screen.println(text);
    }
}

fn style(total: Option<u64>, unit: Unit) -> ProgressStyle {
    let template = match (total, unit) {
        (Some(_), Unit::Bytes) => {
            "  {spinner} {prefix:14} {bar:30} {decimal_bytes:>10}/{decimal_total_bytes} {decimal_bytes_per_sec}"
        }
        (Some(_), Unit::Items) => "  {spinner} {prefix:14} {bar:30} {pos:>10}/{len}",
        // Nobody counts what has no end that is known.
        (None, _) => "  {spinner} {prefix:14} {elapsed}",
    };
    ProgressStyle::with_template(template).expect("the templates above are well formed")
}

impl Progress for Bars {
    fn begin(&self, step: &str, total: Option<u64>, unit: Unit) {
        self.steps.begin(step, total, unit);
        let bar = self.screen.add(match total {
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::no_length(),
        });
        bar.set_style(style(total, unit));
        bar.set_prefix(step.to_owned());
        bar.enable_steady_tick(Duration::from_millis(1000 / u64::from(REDRAWS_HZ)));
        self.bars.lock().unwrap_or_else(PoisonError::into_inner).insert(step.to_owned(), bar);
    }

    fn advance(&self, step: &str, amount: u64) {
        if let Some(bar) = self.bar(step) {
            bar.inc(amount);
        }
    }

    fn end(&self, step: &str, summary: &str) {
        let took = duration(self.steps.end(step));
        let bar = self.bars.lock().unwrap_or_else(PoisonError::into_inner).remove(step);
        if let Some(bar) = bar {
            bar.finish_and_clear();
            self.screen.remove(&bar);
        }
        self.line(&format!("  ✓ {step:14} {took:>10}  {summary}"));
    }

    fn warn(&self, message: &str) {
        self.line(&format!("warning: {message}"));
    }

    fn detail(&self, message: &str) {
        if self.verbose {
            self.line(&format!("    {message}"));
        }
    }

    fn interrupted(&self) -> bool {
        interrupt::requested()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_style_is_well_formed() {
        for total in [None, Some(1)] {
            for unit in [Unit::Bytes, Unit::Items] {
                style(total, unit);
            }
        }
    }

    #[test]
    fn a_step_leaves_no_bar_behind() {
        let bars = Bars::new(false);
        bars.screen.set_draw_target(ProgressDrawTarget::hidden());
        bars.begin("fetch", Some(10), Unit::Bytes);
        bars.advance("fetch", 4);
        assert_eq!(bars.bar("fetch").unwrap().position(), 4);
        bars.end("fetch", "");
        assert!(bars.bar("fetch").is_none());
    }
}
