//! A boot that somebody follows: console lines as they come, the boot report, what is waited for.

use std::sync::mpsc::{self, TryRecvError};
use std::time::{Duration, Instant};

use bootwright_model::report::BootReport;

use super::api::Api;
use super::console::{Tail, is_stage_line};
use super::report::{ReportTail, failure, service_ready, unready};
use super::{Error, Machine, Spec};
use crate::progress::interrupt;

/// How long the watch of a node may take to tell its last obstacle when its time is over.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Pause between two looks at the logs.
const PAUSE: Duration = Duration::from_millis(50);

/// A machine whose console and report are followed from the moment it was switched on.
pub struct Session {
    machine: Machine,
    console: Tail,
    report: ReportTail,
    show: Box<dyn FnMut(&str)>,
}

impl Session {
    /// Makes the machine and switches it on. `show` gets the lines of first boot as they come.
    ///
    /// # Errors
    /// As [`Machine::create`] and [`Machine::start`].
    pub fn start(spec: Spec, show: impl FnMut(&str) + 'static) -> Result<Session, Error> {
        let mut machine = Machine::create(spec)?;
        let (console, report) = (machine.follow_console(), machine.follow_report());
        machine.start()?;
        Ok(Session { machine, console, report, show: Box::new(show) })
    }

    /// The machine.
    pub fn machine(&mut self) -> &mut Machine {
        &mut self.machine
    }

    /// Switches a machine that was killed or switched itself off on again; what is followed begins anew.
    ///
    /// # Errors
    /// As [`Machine::start`].
    pub fn start_again(&mut self) -> Result<(), Error> {
        self.follow_anew();
        self.machine.start()
    }

    /// Presses the reset button; what is followed begins anew.
    ///
    /// # Errors
    /// QEMU does not answer.
    pub fn reset(&mut self) -> Result<(), Error> {
        self.machine.qmp()?.reset()?;
        self.follow_anew();
        Ok(())
    }

    /// Waits until the boot report is as `condition` wants it.
    ///
    /// # Errors
    /// The boot failed, QEMU ended, or it took longer than `limit`.
    pub fn wait_report(
        &mut self,
        what: &str,
        limit: Duration,
        condition: impl Fn(&BootReport) -> bool,
    ) -> Result<BootReport, Error> {
        self.wait(what, limit, |report| report.filter(|report| condition(report)).cloned())
    }

    /// Waits until the node is Ready in this boot, not in one before it, and returns how long that took since
    /// the machine was switched on.
    ///
    /// # Errors
    /// As [`Session::wait_report`].
    pub fn wait_node_ready(&mut self, api: &Api, node: &str, limit: Duration) -> Result<Duration, Error> {
        let deadline = Instant::now() + limit;
        // Before the guest's network is up, a connection is lost and noticed late; afterwards one that comes too
        // early is refused at once. The node is Ready before all of the API server's own start is over.
        let report = self.wait_report("the kubelet", limit, |report| service_ready(report, "kubelet"))?;
        if report.boot_id.is_empty() {
            let reason =
                "the boot report has no boot id, so that its node cannot be told from the one before";
            return Err(Error::State(format!(
                "{reason}; console log: {}",
                self.machine.console_log().display()
            )));
        }
        let (send, receive) = mpsc::channel();
        let (api, name) = (api.clone(), node.to_owned());
        std::thread::spawn(move || {
            // Nobody listens any more when the boot failed in the meantime.
            let _ = send.send(api.node_ready(&name, &report.boot_id, deadline));
        });
        let left = deadline.saturating_duration_since(Instant::now()) + LAST_WORDS;
        let ready =
            self.wait(&format!("node {node} to be Ready"), left, |_| match receive.try_recv() {
                Ok(result) => Some(result),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => {
                    Some(Err(Error::State(format!("nobody watches node {node} any more"))))
                }
            })??;
        Ok(ready.saturating_duration_since(self.machine.started()))
    }

    /// Leaves the machine alone for `time`.
    ///
    /// # Errors
    /// QEMU ended, or Ctrl-C was pressed: at once.
    pub fn rest(&mut self, time: Duration) -> Result<(), Error> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.pump()?;
            self.machine.check_running()?;
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Waits for a line on the console that contains `text`, and returns it.
    ///
    /// # Errors
    /// It did not come within `limit`, or QEMU ended.
    pub fn wait_line(&mut self, text: &str, limit: Duration) -> Result<String, Error> {
        let deadline = Instant::now() + limit;
        let mut last = None;
        loop {
            for line in self.pump()? {
                if line.contains(text) {
                    return Ok(line);
                }
                last = Some(line);
            }
            self.machine.check_running()?;
            self.check_deadline(&format!("'{text}' on the console"), limit, deadline, || match &last {
                Some(line) => format!("the last line was '{line}'"),
                None => "the console said nothing".to_owned(),
            })?;
            std::thread::sleep(PAUSE);
        }
    }

    /// The newest boot report of this boot.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn report(&mut self) -> Result<Option<BootReport>, Error> {
        Ok(self.report.latest()?.cloned())
    }

    /// Presses the power button and waits until the guest switched itself off; see [`Machine::power_off`].
    ///
    /// # Errors
    /// As [`Machine::power_off`].
    pub fn power_off(&mut self, limit: Duration) -> Result<Duration, Error> {
        let took = self.machine.power_off(limit);
        self.pump()?;
        took
    }

    fn wait<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut condition: impl FnMut(Option<&BootReport>) -> Option<T>,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + limit;
        loop {
            self.pump()?;
            let report = self.report.latest()?;
            if let Some(value) = condition(report) {
                return Ok(value);
            }
            if let Some((stage, reason)) = report.and_then(failure) {
                return Err(Error::BootFailed { stage, reason, log: self.machine.console_log() });
            }
            let seen = report.map_or_else(|| "no boot report came".to_owned(), unready);
            self.machine.check_running()?;
            self.check_deadline(what, limit, deadline, || seen)?;
            std::thread::sleep(PAUSE);
        }
    }

    /// An error at the deadline, with what was `seen` until then.
    fn check_deadline(
        &self,
        what: &str,
        limit: Duration,
        deadline: Instant,
        seen: impl FnOnce() -> String,
    ) -> Result<(), Error> {
        if Instant::now() < deadline {
            return Ok(());
        }
        let log = self.machine.console_log();
        Err(Error::Timeout { what: what.to_owned(), waited: limit, seen: seen(), log })
    }

    /// Shows the console's new lines and returns them all.
    fn pump(&mut self) -> Result<Vec<String>, Error> {
        if interrupt::requested() {
            return Err(interrupt::Interrupted.into());
        }
        let lines = self.console.lines()?;
        for line in lines.iter().filter(|line| is_stage_line(line)) {
            (self.show)(line);
        }
        Ok(lines)
    }

    fn follow_anew(&mut self) {
        self.console = self.machine.follow_console();
        self.report = self.machine.follow_report();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::refusal::REFUSAL;
    use crate::lab::console;

    #[test]
    fn what_was_seen_last_is_told_at_the_deadline() {
        let folder = tempfile::tempdir().unwrap();
        let mut session = Session::start(Spec::example(folder.path()), |_| {}).unwrap();
        let limit = Duration::from_millis(200);
        let error = session.wait_report("the kubelet", limit, |_| false).unwrap_err().to_string();
        assert!(error.contains("the kubelet, in vain: no boot report came; console log"), "{error}");
        let console = session.machine().console_log();
        let said = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            let mut log = std::fs::File::options().append(true).open(console).unwrap();
            std::io::Write::write_all(&mut log, b"no bootable device\n").unwrap();
        });
        let error = session.wait_line("ready", Duration::from_millis(400)).unwrap_err().to_string();
        said.join().unwrap();
        assert!(error.contains("'ready' on the console, in vain: the last line was '"), "{error}");
    }

    #[test]
    fn a_machine_that_ends_ends_its_rest() {
        let folder = tempfile::tempdir().unwrap();
        let mut session = Session::start(Spec::example(folder.path()), |_| {}).unwrap();
        session.rest(Duration::from_millis(200)).unwrap();
        session.machine().kill().unwrap();
        let begin = Instant::now();
        assert!(session.rest(Duration::from_secs(60)).is_err());
        assert!(begin.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_bios_that_is_given_an_image_for_other_sectors_says_so_on_the_serial_line() {
        let folder = tempfile::tempdir().unwrap();
        let spec = Spec::example(folder.path());
        let mut sector = vec![0; 512];
        sector[..REFUSAL.len()].copy_from_slice(&REFUSAL);
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        std::fs::write(&spec.image, sector).unwrap();
        let mut session = Session::start(spec, |_| {}).unwrap();
        let said = session.wait_line("build with sector-size = 512", Duration::from_secs(60));
        said.unwrap();
        let console = console::last_lines(&session.machine().console_log(), 10).join("\n");
        assert!(
            console.contains("bootwright: this image is for disks with sectors of 4096 bytes"),
            "{console}"
        );
    }
}
