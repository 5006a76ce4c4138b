//! One virtual machine.

use std::fs::{File, TryLockError};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::console::Tail;
use super::qmp::Qmp;
use super::report::ReportTail;
use super::{Accelerator, Error, Firmware, console, disk};
use crate::image::disk::SectorSize;

/// QEMU's system emulator.
pub const QEMU: &str = "qemu-system-x86_64";
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

/// What ends a machine besides its own power button.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Lifetime {
    /// It is killed when the thread that started it ends, however that ends.
    #[default]
    Bound,
    /// It goes on without us.
    Detached,
}

/// What a machine is made of.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Name in QEMU's process title.
    pub name: String,
    /// Folder of the machine's files; made if it does not exist.
    pub folder: PathBuf,
    /// Raw disk image; it is copied, not changed. The disk has the sectors that the image was built for.
    pub image: PathBuf,
    /// Size that the copy is grown to, bytes; a hole, so that it takes no space until it is used.
    pub disk_bytes: u64,
    /// Virtual processors.
    pub cpus: u8,
    /// Memory, MiB.
    pub memory_mib: u32,
    /// Firmware.
    pub firmware: Firmware,
    /// Accelerator.
    pub accelerator: Accelerator,
    /// MAC address of the only network interface.
    pub mac: String,
    /// Address that the guest gives itself; loopback ports are forwarded to it.
    pub address: Ipv4Addr,
    /// Prefix length of the network that the address is in.
    pub prefix_length: u8,
    /// TCP ports of the guest to forward.
    pub ports: Vec<u16>,
    /// What ends it.
    pub lifetime: Lifetime,
    /// Further arguments of QEMU: another disk, another card. Paths are relative to the folder.
    pub arguments: Vec<String>,
}

/// A guest's TCP port and the port of the host's loopback that leads to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Forward {
    /// Port in the guest.
    pub guest: u16,
    /// Port on 127.0.0.1.
    pub host: u16,
}

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
        let forwards = free_ports(&spec.ports)?;
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
        let mut command = Command::new(QEMU);
        command
            .args(self.arguments())
            .current_dir(&self.spec.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        // Its own group, so that Ctrl-C in the terminal reaches us alone.
        command.process_group(0);
        if self.spec.lifetime == Lifetime::Bound {
            die_with_parent(&mut command);
        }
        self.started = Instant::now();
        self.process = Some(command.spawn().map_err(spawn_error)?);
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

    /// Fails if QEMU has ended by itself.
    ///
    /// # Errors
    /// It has; with what it said.
    pub fn check_running(&mut self) -> Result<(), Error> {
        let Some(process) = &mut self.process else {
            return Err(Error::State("the machine is not running".to_owned()));
        };
        match process.try_wait().map_err(Error::file("wait for", QEMU))? {
            None => Ok(()),
            Some(status) => {
                let message = console::last_lines(&self.spec.folder.join(QEMU_LOG), 5).join("; ");
                (self.process, self.qmp) = (None, None);
                Err(Error::QemuEnded { status: status.to_string(), message })
            }
        }
    }

    /// Pulls the plug: what a power cut does to the disk, as far as the host's page cache goes.
    ///
    /// # Errors
    /// The process cannot be killed.
    pub fn kill(&mut self) -> Result<(), Error> {
        self.qmp = None;
        if let Some(mut process) = self.process.take() {
            process.kill().and_then(|()| process.wait()).map_err(Error::file("stop", QEMU))?;
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
            if let Some(status) = process.try_wait().map_err(Error::file("wait for", QEMU))? {
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

    fn arguments(&self) -> Vec<String> {
        let spec = &self.spec;
        let mut arguments: Vec<String> = Vec::new();
        let mut add = |option: &str, value: String| arguments.extend([option.to_owned(), value]);
        add("-name", spec.name.clone());
        add("-machine", "q35,smm=off,vmport=off,hpet=off".to_owned());
        add("-smp", spec.cpus.to_string());
        add("-m", spec.memory_mib.to_string());
        // The host's disk is not what is tested: flushes end in the page cache, which outlives QEMU.
        add("-drive", format!("if=none,id=disk,format=raw,cache=unsafe,discard=unmap,file={DISK}"));
        let sector = self.sector_size.bytes();
        add(
            "-device",
            format!(
                "virtio-blk-pci,drive=disk,bootindex=0,logical_block_size={sector},physical_block_size={sector}"
            ),
        );
        add("-netdev", self.network());
        // No option ROM: nothing boots from the network, and loading it takes time.
        add("-device", format!("virtio-net-pci,netdev=net,romfile=,mac={}", spec.mac));
        add("-device", "virtio-rng-pci".to_owned());
        // Its statistics tell how much memory the guest has in use, as the guest's kernel sees it.
        add("-device", "virtio-balloon-pci,id=balloon".to_owned());
        add("-chardev", format!("file,id=console,path={CONSOLE_LOG},append=on"));
        add("-serial", "chardev:console".to_owned());
        add("-chardev", format!("file,id=report,path={REPORT_LOG},append=on"));
        add("-device", "virtio-serial-pci".to_owned());
        add("-device", "virtserialport,chardev=report,name=org.bootwright.report".to_owned());
        add("-chardev", format!("socket,id=control,path={CONTROL},server=on,wait=off"));
        add("-mon", "chardev=control,mode=control".to_owned());
        add("-display", "none".to_owned());
        arguments.extend(["-nodefaults".to_owned(), "-no-user-config".to_owned()]);
        arguments.extend(spec.accelerator.arguments().map(str::to_owned));
        arguments.extend(spec.firmware.arguments());
        arguments.extend(spec.arguments.iter().cloned());
        arguments
    }

    /// Cut off from everything but the forwarded ports.
    fn network(&self) -> String {
        let spec = &self.spec;
        let network = ipnet::Ipv4Net::new(spec.address, spec.prefix_length)
            .map_or_else(|_| spec.address.to_string(), |network| network.trunc().to_string());
        let mut text = format!("user,id=net,restrict=on,ipv6=off,net={network}");
        for forward in &self.forwards {
            text += &format!(",hostfwd=tcp:127.0.0.1:{}-{}:{}", forward.host, spec.address, forward.guest);
        }
        text
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

/// Picks free ports of 127.0.0.1. They are all held until all are picked, so that they differ.
fn free_ports(guests: &[u16]) -> Result<Vec<Forward>, Error> {
    let mut held = Vec::new();
    let mut forwards = Vec::new();
    for &guest in guests {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .map_err(Error::file("bind a port of", "127.0.0.1"))?;
        let address = listener.local_addr().map_err(Error::file("bind a port of", "127.0.0.1"))?;
        forwards.push(Forward { guest, host: address.port() });
        held.push(listener);
    }
    Ok(forwards)
}

/// Has the kernel kill the process when the thread that starts it ends.
pub(super) fn die_with_parent(command: &mut Command) {
    let parent = rustix::process::getpid();
    // SAFETY: between fork and exec only system calls are made, no memory is allocated.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
            // The parent may have died before the call above.
            if rustix::process::getppid() != Some(parent) {
                return Err(std::io::ErrorKind::NotFound.into());
            }
            Ok(())
        });
    }
}

/// Why QEMU could not be started.
pub(super) fn spawn_error(error: std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::NotFound {
        Error::MissingProgram { program: QEMU, package: "qemu-system-x86" }
    } else {
        Error::File { action: "start", path: QEMU.into(), source: error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(folder: &Path) -> Spec {
        let image = folder.join("image");
        std::fs::write(&image, [0; 1024]).unwrap();
        Spec {
            name: "test".to_owned(),
            folder: folder.join("machine"),
            image,
            disk_bytes: 1 << 20,
            cpus: 1,
            memory_mib: 64,
            firmware: Firmware::Bios,
            accelerator: Accelerator::Tcg,
            mac: "52:54:00:00:00:01".to_owned(),
            address: Ipv4Addr::new(10, 0, 2, 15),
            prefix_length: 24,
            ports: vec![6443, 30080],
            lifetime: Lifetime::Bound,
            arguments: Vec::new(),
        }
    }

    #[test]
    fn the_network_is_cut_off_but_for_the_forwarded_ports() {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine::create(spec(folder.path())).unwrap();
        let [api, web] = [6443, 30080].map(|port| machine.host_port(port).unwrap());
        assert_ne!(api, web);
        assert_eq!(machine.host_port(80), None);
        assert_eq!(
            machine.network(),
            format!(
                "user,id=net,restrict=on,ipv6=off,net=10.0.2.0/24,\
                 hostfwd=tcp:127.0.0.1:{api}-10.0.2.15:6443,hostfwd=tcp:127.0.0.1:{web}-10.0.2.15:30080"
            )
        );
    }

    #[test]
    fn an_empty_machine_starts_is_cut_off_and_starts_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut machine = Machine::create(spec(folder.path())).unwrap();
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
        let spec = spec(folder.path());
        let mut bytes = vec![0; 8192];
        bytes[4096..4104].copy_from_slice(b"EFI PART");
        std::fs::write(&spec.image, bytes).unwrap();
        let error = Machine::create(spec.clone()).err().unwrap().to_string();
        assert!(error.contains("4096") && error.contains("--firmware uefi"), "{error}");
        let machine = Machine::create(Spec { firmware: Firmware::Uefi, ..spec }).unwrap();
        let arguments = machine.arguments().join(" ");
        assert!(arguments.contains("logical_block_size=4096"), "{arguments}");
    }

    #[test]
    fn a_folder_has_one_machine_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let machine = Machine::create(spec(folder.path())).unwrap();
        assert!(matches!(Machine::create(spec(folder.path())), Err(Error::State(_))));
        drop(machine);
        assert!(Machine::create(spec(folder.path())).is_ok());
    }

    #[test]
    fn qemus_own_words_are_told_when_it_ends_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut machine =
            Machine::create(Spec { mac: "nonsense".to_owned(), ..spec(folder.path()) }).unwrap();
        let error = machine.start().unwrap_err().to_string();
        assert!(error.contains("mac"), "{error}");
    }
}
