//! The boot report: a line per stage on every console, `boot.json`, and a line of JSON on the
//! virtio-serial port of the lab.

mod console;
mod port;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use bootwright_model::layout;
use bootwright_model::report::{BootReport, Outcome, ServiceState, Stage};

pub use console::Consoles;
pub use port::ReportPort;

/// Milliseconds since kernel start (`CLOCK_BOOTTIME`).
pub fn uptime_ms() -> u64 {
    uptime_us() / 1000
}

/// Microseconds since kernel start (`CLOCK_BOOTTIME`).
pub fn uptime_us() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1000
}

/// An error and its causes, outermost first, one line each.
pub fn chain(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut lines = vec![one_line(&error.to_string())];
    let mut cause = error.source();
    while let Some(error) = cause {
        lines.push(one_line(&error.to_string()));
        cause = error.source();
    }
    lines
}

fn one_line(text: &str) -> String {
    text.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

/// Tells the person at the console, `boot.json` and the lab what happens. Shared between threads;
/// a console or file that cannot be written never stops a boot.
pub struct Reporter {
    root: PathBuf,
    consoles: Consoles,
    port: ReportPort,
    report: Mutex<BootReport>,
}

impl Reporter {
    /// Goes on with the report that the initramfs left below `root`, or begins one.
    pub fn open(root: &Path) -> Reporter {
        let written = std::fs::read(under(root, layout::BOOT_REPORT));
        let mut report: BootReport =
            written.ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        let boot_id = std::fs::read_to_string(under(root, "/proc/sys/kernel/random/boot_id"));
        if let Ok(boot_id) = boot_id {
            report.boot_id = boot_id.trim().to_owned();
        }
        Reporter {
            root: root.to_owned(),
            consoles: Consoles::find(root),
            port: ReportPort::new(root),
            report: Mutex::new(report),
        }
    }

    /// One line on every console, with the time since kernel start.
    pub fn line(&self, text: &str) {
        let now = uptime_ms();
        self.consoles.write(&format!("[{:5}.{:03}] {}", now / 1000, now % 1000, text));
    }

    /// A line below the last one, without a time.
    pub fn detail(&self, text: &str) {
        self.consoles.write(&format!("             {text}"));
    }

    /// Adds a stage that has ended and prints its line.
    pub fn stage(&self, stage: Stage) {
        let took = format!("{}.{:03} s", stage.duration_us / 1_000_000, stage.duration_us / 1000 % 1000);
        let word = match &stage.outcome {
            Outcome::Passed => "",
            Outcome::Degraded { .. } => "DEGRADED: ",
            Outcome::Failed { .. } => "FAILED: ",
        };
        self.line(&format!("{:<13} {took:>9}  {word}{}", stage.name, stage.summary));
        match &stage.outcome {
            Outcome::Passed => {}
            Outcome::Degraded { problems } => {
                problems.iter().for_each(|problem| self.explain(&problem.chain, &problem.next));
            }
            Outcome::Failed { chain, next } => self.explain(chain, next),
        }
        self.change(|report| {
            // A stage that runs again replaces what it said before: the report has each stage once.
            report.stages.retain(|known| known.name != stage.name);
            // By start: a stage that ran beside others ends later than some that began after it.
            let place = report.stages.partition_point(|known| known.started_ms <= stage.started_ms);
            report.stages.insert(place, stage);
        });
    }

    /// What went wrong, why, and what comes next.
    fn explain(&self, chain: &[String], next: &str) {
        for (depth, cause) in chain.iter().enumerate() {
            self.detail(&format!("{} {cause}", if depth == 0 { "what:" } else { " why:" }));
        }
        self.detail(&format!("next: {next}"));
    }

    /// Names the node in the report.
    pub fn node(&self, name: &str) {
        self.change(|report| report.node = Some(name.to_owned()));
    }

    /// Replaces the states of all services.
    pub fn services(&self, states: Vec<ServiceState>) {
        self.change(|report| report.services = states);
    }

    /// Notes, and tells on the consoles, that every service has been started. The first call counts.
    pub fn services_started(&self) {
        let now = uptime_ms();
        let first = self.change(|report| {
            let first = report.services_started_ms.is_none();
            report.services_started_ms.get_or_insert(now);
            first
        });
        if first {
            self.line("all services are started");
        }
    }

    /// The stage **ready**: every essential service is. The first call counts.
    pub fn ready(&self) {
        let now = uptime_ms();
        let started = self.change(|report| match report.ready_ms {
            Some(_) => None,
            None => {
                report.ready_ms = Some(now);
                Some(report.services_started_ms.unwrap_or(now))
            }
        });
        let Some(started_ms) = started else { return };
        let seconds = now as f64 / 1000.0;
        self.stage(Stage {
            name: "ready".to_owned(),
            started_ms,
            duration_us: now.saturating_sub(started_ms) * 1000,
            summary: format!("every essential service is ready, {seconds:.1} s after kernel start"),
            outcome: Outcome::Passed,
        });
    }

    /// The report as it is now.
    pub fn snapshot(&self) -> BootReport {
        self.lock().clone()
    }

    /// Waits until the report port has taken the last report, or `limit` has passed.
    pub fn flush(&self, limit: Duration) {
        self.port.flush(limit);
    }

    fn lock(&self) -> MutexGuard<'_, BootReport> {
        self.report.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Changes the report and publishes it. Written under the lock, so that an older report never
    /// replaces a newer one.
    fn change<T>(&self, change: impl FnOnce(&mut BootReport) -> T) -> T {
        let mut report = self.lock();
        let result = change(&mut report);
        if let Ok(mut text) = serde_json::to_vec(&*report) {
            text.push(b'\n');
            // A report that cannot be written shall not stop the boot; the port tells it too.
            let _ = crate::files::replace(&under(&self.root, layout::BOOT_REPORT), &text, 0o644);
            self.port.send(text);
        }
        result
    }
}

/// `path` (absolute) below `root`.
pub fn under(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests;
