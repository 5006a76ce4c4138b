//! One machine of a lab, and what is known of its boot.

use std::time::{Duration, Instant};

use bootwright_model::report::BootReport;

use super::layout::Place;
use super::observer::Observer;
use super::status::{NodeStatus, Power, Ready, stage};
use crate::lab::readiness::Readiness;
use crate::lab::report::{ReportTail, service_ready};
use crate::lab::switch::Port;
use crate::lab::{Accelerator, Error, Firmware, Lifetime, Machine, Spec, spec::Network};

/// Size of a machine's disk; a hole in a file, until it is written to.
const DISK_BYTES: u64 = 8 << 30;
/// Between two presses of the power button. One before first boot looks at buttons is lost; one more changes nothing for a
/// machine that is on its way.
const PRESS_AGAIN: Duration = Duration::from_secs(10);
/// The service that registers a Node.
const KUBELET: &str = "kubelet";

/// A machine and its node.
pub struct Member {
    place: Place,
    machine: Machine,
    report: ReportTail,
    latest: Option<BootReport>,
    power: Power,
    /// When its power button was pressed last.
    pressed: Instant,
    /// Why it is off.
    why: String,
    ready: Ready,
    ready_after: Option<Duration>,
}

impl Member {
    /// Makes the machine's folder and disk. It is not switched on.
    ///
    /// # Errors
    /// As [`Machine::create`].
    pub fn new(
        place: Place,
        folder: std::path::PathBuf,
        port: Port,
        firmware: Firmware,
        accelerator: Accelerator,
    ) -> Result<Member, Error> {
        let machine = Machine::create(Spec {
            name: place.node.name.clone(),
            folder,
            image: place.image.clone(),
            disk_bytes: DISK_BYTES,
            cpus: place.cpus,
            memory_mib: place.memory_mib,
            firmware,
            accelerator,
            mac: place.mac.clone(),
            network: Network::Switch(port),
            lifetime: Lifetime::Bound,
            arguments: Vec::new(),
        })?;
        let report = machine.follow_report();
        let (power, why) = (Power::Off, "not switched on yet".to_owned());
        Ok(Member {
            place,
            machine,
            report,
            latest: None,
            power,
            pressed: Instant::now(),
            why,
            ready: Ready::No,
            ready_after: None,
        })
    }

    /// Name of the node.
    pub fn name(&self) -> &str {
        &self.place.node.name
    }

    /// The serial console's log.
    pub fn console_log(&self) -> std::path::PathBuf {
        self.machine.console_log()
    }

    /// Whether QEMU runs.
    pub fn runs(&self) -> bool {
        matches!(self.power, Power::On | Power::Stopping)
    }

    /// Whether its kubelet was ready in this boot: the API is then worth asking.
    pub fn has_kubelet(&self) -> bool {
        self.runs() && self.latest.as_ref().is_some_and(|report| service_ready(report, KUBELET))
    }

    /// Switches it on; with `reflash` on a fresh copy of the image.
    ///
    /// # Errors
    /// It runs already, or as [`Machine::start`].
    pub fn start(&mut self, reflash: bool) -> Result<(), Error> {
        if self.runs() {
            return Err(Error::State(format!("the machine of {} is {} already", self.name(), self.power)));
        }
        if reflash {
            self.machine.reflash()?;
        }
        (self.report, self.latest) = (self.machine.follow_report(), None);
        (self.ready, self.ready_after) = (Ready::No, None);
        match self.machine.start() {
            Ok(()) => {
                self.power = Power::On;
                Ok(())
            }
            Err(error) => {
                (self.power, self.why) = (Power::Failed, error.to_string());
                Err(error)
            }
        }
    }

    /// Presses the power button, and again from time to time as long as the machine runs.
    ///
    /// # Errors
    /// It does not run, or QEMU does not answer.
    pub fn stop(&mut self) -> Result<(), Error> {
        self.check_runs()?;
        self.press()?;
        self.power = Power::Stopping;
        Ok(())
    }

    fn press(&mut self) -> Result<(), Error> {
        self.pressed = Instant::now();
        self.machine.qmp()?.power_button()
    }

    /// Pulls the plug.
    ///
    /// # Errors
    /// It does not run, or cannot be killed.
    pub fn kill(&mut self) -> Result<(), Error> {
        self.check_runs()?;
        self.machine.kill()?;
        self.off(Power::Off, "killed".to_owned());
        Ok(())
    }

    fn check_runs(&self) -> Result<(), Error> {
        if self.runs() {
            return Ok(());
        }
        Err(Error::State(format!("the machine of {} does not run: {}", self.name(), self.why)))
    }

    fn off(&mut self, power: Power, why: String) {
        (self.power, self.why, self.ready) = (power, why, Ready::No);
    }

    /// Looks at what has changed.
    ///
    /// # Errors
    /// A log cannot be read, or QEMU not be waited for.
    pub fn look(&mut self, observer: Option<&Observer>) -> Result<(), Error> {
        if !self.runs() {
            return Ok(());
        }
        if let Some((status, message)) = self.machine.ended()? {
            if status.success() {
                let asked = self.power == Power::Stopping;
                let (power, why) =
                    if asked { (Power::Off, "stopped") } else { (Power::Failed, "it switched itself off") };
                self.off(power, why.to_owned());
            } else {
                self.off(Power::Failed, format!("QEMU ended ({status}): {message}"));
            }
            return Ok(());
        }
        if self.power == Power::Stopping && self.pressed.elapsed() > PRESS_AGAIN {
            // It may be ending at this moment, which the next look sees.
            let _ = self.press();
        }
        if let Some(report) = self.report.latest()? {
            // Another boot: the guest was reset, or reset itself.
            if self.latest.as_ref().is_some_and(|latest| latest.boot_id != report.boot_id) {
                self.ready_after = None;
            }
            self.latest = Some(report.clone());
        }
        self.ready = self.readiness(observer);
        if self.ready == Ready::Yes && self.ready_after.is_none() {
            self.ready_after = Some(self.machine.started().elapsed());
        }
        Ok(())
    }

    fn readiness(&self, observer: Option<&Observer>) -> Ready {
        let Some(report) = &self.latest else { return Ready::No };
        let is_node = report.services.iter().any(|service| service.name == KUBELET);
        if !is_node {
            return if report.ready_ms.is_some() { Ready::Yes } else { Ready::No };
        }
        match (observer, service_ready(report, KUBELET)) {
            (Some(observer), true) => match observer.readiness(self.name(), &report.boot_id) {
                Some(Readiness::Ready) => Ready::Yes,
                Some(_) => Ready::No,
                None => Ready::Unknown,
            },
            _ => Ready::No,
        }
    }

    /// Its state, as it was looked at last.
    pub fn status(&self) -> NodeStatus {
        let (stage, boot_failed) = match self.power {
            Power::On => stage(self.latest.as_ref()),
            Power::Stopping => ("power button pressed".to_owned(), false),
            Power::Off | Power::Failed => (self.why.clone(), false),
        };
        NodeStatus {
            name: self.name().to_owned(),
            role: self.place.node.role.clone(),
            address: self.place.node.address.addr().to_string(),
            power: self.power,
            stage,
            boot_failed,
            ready: self.ready,
            ready_after: self.ready_after.map(|after| after.as_secs_f64()),
            process_id: self.machine.process_id(),
        }
    }
}
