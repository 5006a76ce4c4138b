//! One virtual machine.

use std::fs::{File, TryLockError};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::console::Tail;
use super::ports::{self, Forward};
use super::qmp::Qmp;
use super::report::ReportTail;
use super::spec::Network;
use super::{Error, Firmware, Lifetime, Spec, console, disk, qemu};
use crate::image::disk::SectorSize;

/// The serial console's log in a machine's folder.
pub const CONSOLE_LOG: &str = "console.log";
/// The boot reports in a machine's folder, one JSON object per line.
pub const REPORT_LOG: &str = "report.jsonl";
/// QEMU's control socket in a machine's folder.
pub const CONTROL: &str = "qmp.sock";
/// The disk in a machine's folder.
pub const DISK: &str = "disk.raw";
/// Held by whoever makes and starts the machine of a folder.
const LOCK: &str = "lock";
/// What QEMU itself has to say.
const QEMU_LOG: &str = "qemu.log";
/// How long QEMU may take to open its control socket.
const START: Duration = Duration::from_secs(20);

/// A machine that was made; running or not.
pub struct Machine {
    spec: Spec,
    sector_size: SectorSize,
    forwards: Vec<Forward>,
    process: Option<Child>,
    qmp: Option<Qmp>,
    started: Instant,
    _lock: File,
}

impl Machine {
    /// Makes the machine's folder and disk. It is not switched on.
    ///
    /// # Errors
    /// A file cannot be written, the firmware is missing, or no port is free.
    pub fn create(spec: Spec) -> Result<Machine, Error> {
        std::fs::create_dir_all(&spec.folder).map_err(Error::file("make", &spec.folder))?;
        let lock = lock(&spec.folder)?;
        let sector_size = disk::sector_size(&spec.image)?;
        check_firmware(spec.firmware, sector_size)?;
        for log in [CONSOLE_LOG, REPORT_LOG, QEMU_LOG] {
            let path = spec.folder.join(log);
            std::fs::write(&path, "").map_err(Error::file("write", &path))?;
        }
        disk::copy_grown(&spec.image, &spec.folder.join(DISK), spec.disk_bytes)?;
        spec.firmware.prepare(&spec.folder)?;
        let forwards = ports::free(spec.network.ports())?;
        Ok(Machine {
            spec,
            sector_size,
            forwards,
            process: None,
            qmp: None,
            started: Instant::now(),
            _lock: lock,
        })
    }

    /// Switches it on.
    ///
    /// # Errors
    /// QEMU is missing, or ends at once.
    pub fn start(&mut self) -> Result<(), Error> {
        let log_path = self.spec.folder.join(QEMU_LOG);
        let log = File::create(&log_path).map_err(Error::file("write", &log_path))?;
        // A socket that a killed QEMU left would be taken for the new one's.
        let _ = std::fs::remove_file(self.spec.folder.join(CONTROL));
        let cable = match &self.spec.network {
            Network::User { .. } => None,
            Network::Switch(port) => Some(port.plug()?),
        };
        let mut command = Command::new(qemu::PROGRAM);
        command
            .args(qemu::arguments(&self.spec, self.sector_size, &self.forwards, cable.as_ref()))
            .current_dir(&self.spec.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        // Its own group, so that Ctrl-C in the terminal reaches us alone.
        command.process_group(0);
        if self.spec.lifetime == Lifetime::Bound {
            qemu::die_with_parent(&mut command);
        }
        if let Some(cable) = &cable {
            qemu::inherit(&mut command, cable);
        }
        self.started = Instant::now();
        self.process = Some(command.spawn().map_err(qemu::spawn_error)?);
        let begin = Instant::now();
        loop {
            // Looked at between attempts, so that a QEMU that ended at once is not waited for.
            match Qmp::connect(&self.spec.folder, CONTROL, Duration::from_millis(50)) {
                Ok(qmp) => {
                    self.qmp = Some(qmp);
                    return Ok(());
                }
                Err(error) => {
                    self.check_running()?;
                    if begin.elapsed() >= START {
                        self.kill()?;
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Writes the image to the disk of a machine that is switched off anew, as flashing a real one would; what it had
    /// stored is gone.
    ///
    /// # Errors
    /// It runs, or a file cannot be read or written.
    pub fn reflash(&mut self) -> Result<(), Error> {
        if self.process.is_some() {
            return Err(Error::State("the machine is running".to_owned()));
        }
        disk::copy_grown(&self.spec.image, &self.spec.folder.join(DISK), self.spec.disk_bytes)
    }

    /// Gives a machine that is switched off another firmware, as moving its disk to another computer would.
    ///
    /// # Errors
    /// The firmware is not installed, or cannot read the disk.
    pub fn set_firmware(&mut self, firmware: Firmware) -> Result<(), Error> {
        check_firmware(firmware, self.sector_size)?;
        firmware.prepare(&self.spec.folder)?;
        self.spec.firmware = firmware;
        Ok(())
    }

    /// The moment it was switched on last.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Process number of QEMU, if it was started.
    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// The port of 127.0.0.1 that leads to a port of the guest.
    pub fn host_port(&self, guest: u16) -> Option<u16> {
        self.forwards.iter().find(|forward| forward.guest == guest).map(|forward| forward.host)
    }

    /// All forwarded ports.
    pub fn forwards(&self) -> &[Forward] {
        &self.forwards
    }

    /// The folder of its files.
    pub fn folder(&self) -> &Path {
        &self.spec.folder
    }

    /// The serial console's log: everything since the machine was made.
    pub fn console_log(&self) -> PathBuf {
        self.spec.folder.join(CONSOLE_LOG)
    }

    /// Follows the console from now on.
    pub fn follow_console(&self) -> Tail {
        Tail::from_end(&self.console_log())
    }

    /// Follows the boot report from now on.
    pub fn follow_report(&self) -> ReportTail {
        ReportTail::from_end(&self.spec.folder.join(REPORT_LOG))
    }

    /// QEMU's control connection.
    ///
    /// # Errors
    /// The machine is not running.
    pub fn qmp(&mut self) -> Result<&mut Qmp, Error> {
        self.qmp.as_mut().ok_or_else(|| Error::State("the machine is not running".to_owned()))
    }

    /// How QEMU ended, and what it said, if it has since this was asked last; `None` if it runs or was not started.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn ended(&mut self) -> Result<Option<(ExitStatus, String)>, Error> {
        let Some(process) = &mut self.process else { return Ok(None) };
        let status = process.try_wait().map_err(Error::file("wait for", qemu::PROGRAM))?;
        Ok(status.map(|status| {
            (self.process, self.qmp) = (None, None);
            (status, console::last_lines(&self.spec.folder.join(QEMU_LOG), 5).join("; "))
        }))
    }

    /// Fails if QEMU has ended by itself.
    ///
    /// # Errors
    /// It has; with what it said.
    pub fn check_running(&mut self) -> Result<(), Error> {
        if self.process.is_none() {
            return Err(Error::State("the machine is not running".to_owned()));
        }
        match self.ended()? {
            None => Ok(()),
            Some((status, message)) => Err(Error::QemuEnded { status: status.to_string(), message }),
        }
    }

    /// Pulls the plug: what a power cut does to the disk, as far as the host's page cache goes.
    ///
    /// # Errors
    /// The process cannot be killed.
    pub fn kill(&mut self) -> Result<(), Error> {
        self.qmp = None;
        if let Some(mut process) = self.process.take() {
            process.kill().and_then(|()| process.wait()).map_err(Error::file("stop", qemu::PROGRAM))?;
        }
        Ok(())
    }

    /// Presses the power button and waits until the guest has switched itself off.
    ///
    /// # Errors
    /// It did not within `limit`; then it is killed.
    pub fn power_off(&mut self, limit: Duration) -> Result<Duration, Error> {
        let begin = Instant::now();
        let deadline = begin + limit;
        let qmp = self.qmp()?;
        qmp.power_button()?;
        let event = qmp.event("SHUTDOWN", deadline)?;
        let by_guest = event.is_some_and(|event| event["data"]["guest"] == true);
        if !by_guest {
            self.kill()?;
            let reason = format!("it did not switch itself off within {} s", limit.as_secs());
            return Err(Error::UncleanStop { reason, log: self.console_log() });
        }
        self.wait(deadline + START)?;
        Ok(begin.elapsed())
    }

    /// Waits for QEMU to end; kills it at the deadline.
    fn wait(&mut self, deadline: Instant) -> Result<Option<ExitStatus>, Error> {
        while let Some(process) = &mut self.process {
            if let Some(status) = process.try_wait().map_err(Error::file("wait for", qemu::PROGRAM))? {
                (self.process, self.qmp) = (None, None);
                return Ok(Some(status));
            }
            if Instant::now() >= deadline {
                self.kill()?;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(None)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.spec.lifetime == Lifetime::Bound {
            // Nobody is left to tell an error to; the kernel kills it with the thread in any case.
            let _ = self.kill();
        }
    }
}

/// A BIOS reads sectors of 512 bytes; SeaBIOS passes over other disks without a word that anybody sees.
fn check_firmware(firmware: Firmware, sector_size: SectorSize) -> Result<(), Error> {
    if firmware == Firmware::Bios && sector_size != SectorSize::S512 {
        let sector = sector_size.bytes();
        return Err(Error::State(format!(
            "the image is for disks with sectors of {sector} bytes, which no BIOS boots from: use --firmware uefi"
        )));
    }
    Ok(())
}

/// Two machines in one folder would write to one disk.
fn lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join(LOCK);
    let file = File::create(&path).map_err(Error::file("write", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Error::State(format!("another machine is running in {}: wait for it", folder.display())))
        }
        Err(TryLockError::Error(source)) => Err(Error::File { action: "lock", path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::switch;

    #[test]
    fn each_forwarded_port_leads_from_one_of_the_host() {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine::create(Spec::example(folder.path())).unwrap();
        let [api, web] = [6443, 30080].map(|port| machine.host_port(port).unwrap());
        assert_ne!(api, web);
        assert_eq!(machine.host_port(80), None);
    }

    #[test]
    fn an_empty_machine_starts_is_cut_off_and_starts_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut machine = Machine::create(Spec::example(folder.path())).unwrap();
        machine.start().unwrap();
        let status = machine.qmp().unwrap().execute("query-status", serde_json::json!({})).unwrap();
        assert_eq!(status["running"], true);
        machine.kill().unwrap();
        assert!(machine.check_running().is_err());
        machine.start().unwrap();
        machine.check_running().unwrap();
        let process = machine.process_id().unwrap();
        drop(machine);
        assert!(!Path::new(&format!("/proc/{process}")).exists());
    }

    #[test]
    fn a_bios_is_not_given_a_disk_that_it_cannot_read() {
        let folder = tempfile::tempdir().unwrap();
        let spec = Spec::example(folder.path());
        let mut bytes = vec![0; 8192];
        bytes[4096..4104].copy_from_slice(b"EFI PART");
        std::fs::write(&spec.image, bytes).unwrap();
        let error = Machine::create(spec.clone()).err().unwrap().to_string();
        assert!(error.contains("4096") && error.contains("--firmware uefi"), "{error}");
        let machine = Machine::create(Spec { firmware: Firmware::Uefi, ..spec }).unwrap();
        let arguments =
            qemu::arguments(&machine.spec, machine.sector_size, &machine.forwards, None).join(" ");
        assert!(arguments.contains("logical_block_size=4096"), "{arguments}");
    }

    #[test]
    fn a_machine_on_the_switch_has_a_cable_until_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let plan = switch::Plan {
            names: vec!["test".to_owned()],
            gateway: Vec::new(),
            mtu: 1500,
            forwards: Vec::new(),
            seed: 0,
        };
        let switch = switch::Switch::start(plan).unwrap();
        let network = Network::Switch(switch.port(0));
        let mut machine = Machine::create(Spec { network, ..Spec::example(folder.path()) }).unwrap();
        for _ in 0..2 {
            machine.start().unwrap();
            machine.check_running().unwrap();
            machine.kill().unwrap();
        }
        assert!(machine.ended().unwrap().is_none());
    }

    #[test]
    fn a_disk_is_flashed_anew_while_the_machine_is_off() {
        let folder = tempfile::tempdir().unwrap();
        let mut machine = Machine::create(Spec::example(folder.path())).unwrap();
        let disk = machine.folder().join(DISK);
        std::fs::write(&disk, [7; 4096]).unwrap();
        machine.reflash().unwrap();
        let flashed = std::fs::read(&disk).unwrap();
        assert!(flashed.len() == 1 << 20 && flashed.iter().all(|&byte| byte == 0));
        machine.start().unwrap();
        assert!(matches!(machine.reflash(), Err(Error::State(_))));
    }

    #[test]
    fn a_folder_has_one_machine_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine::create(Spec::example(folder.path())).unwrap();
        assert!(matches!(Machine::create(Spec::example(folder.path())), Err(Error::State(_))));
        drop(machine);
        assert!(Machine::create(Spec::example(folder.path())).is_ok());
    }

    #[test]
    fn qemus_own_words_are_told_when_it_ends_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut machine =
            Machine::create(Spec { mac: "nonsense".to_owned(), ..Spec::example(folder.path()) }).unwrap();
        let error = machine.start().unwrap_err().to_string();
        assert!(error.contains("mac"), "{error}");
    }
}
