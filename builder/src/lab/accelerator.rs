//! Which accelerator runs a kernel on this machine, found out by running one.
//!
//! That /dev/kvm opens does not mean that it works: in nested and emulated environments the device is
//! there, QEMU starts, and a stock kernel hangs before its first line.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Error, kernel};
use crate::files;

/// How long a kernel may take under KVM until it gives up for want of a root filesystem. It takes about
/// a second where KVM works.
const PROBE: Duration = Duration::from_secs(4);
/// Cache of the verdict below the cache folder.
const VERDICT: &str = "accelerator";

/// A way for QEMU to run a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor's virtualisation.
    Kvm,
    /// QEMU's translator, one thread per virtual processor.
    Tcg,
}

impl Accelerator {
    /// QEMU's arguments for the accelerator and the processor model that goes with it.
    pub fn arguments(self) -> [&'static str; 4] {
        match self {
            Accelerator::Kvm => ["-accel", "kvm", "-cpu", "host"],
            // Five levels of page tables make each miss of the emulated TLB dearer: a tenth of the time to Ready.
            // With erms and fsrm the kernel and libc copy and clear memory byte by byte, in one instruction that
            // is fast on a real processor and a loop in an emulated one.
            Accelerator::Tcg => ["-accel", "tcg,thread=multi", "-cpu", "max,la57=off,erms=off,fsrm=off"],
        }
    }
}

/// An accelerator and why it was chosen, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// What to use.
    pub accelerator: Accelerator,
    /// `KVM: a kernel booted with it in 0.9 s`
    pub reason: String,
}

/// Boots the kernel of `image` with KVM for a few seconds at most and chooses. The verdict is kept in
/// `cache` until the machine is booted again.
///
/// # Errors
/// The image has no kernel, or QEMU is not installed.
pub fn choose(image: &Path, cache: &Path) -> Result<Choice, Error> {
    if let Err(error) = File::options().read(true).write(true).open("/dev/kvm") {
        return Ok(Choice { accelerator: Accelerator::Tcg, reason: format!("TCG: /dev/kvm: {error}") });
    }
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let verdict = cache.join(VERDICT);
    if let Some(choice) = remembered(&verdict, boot.trim()) {
        return Ok(choice);
    }
    let choice = probe(image)?;
    remember(&verdict, boot.trim(), &choice)?;
    Ok(choice)
}

fn remembered(verdict: &Path, boot: &str) -> Option<Choice> {
    let text = std::fs::read_to_string(verdict).ok()?;
    let mut lines = text.lines();
    if boot.is_empty() || lines.next()? != boot {
        return None;
    }
    let accelerator = match lines.next()? {
        "kvm" => Accelerator::Kvm,
        "tcg" => Accelerator::Tcg,
        _ => return None,
    };
    Some(Choice { accelerator, reason: lines.next()?.to_owned() })
}

fn remember(verdict: &Path, boot: &str, choice: &Choice) -> Result<(), Error> {
    let name = match choice.accelerator {
        Accelerator::Kvm => "kvm",
        Accelerator::Tcg => "tcg",
    };
    let folder = files::folder_of(verdict);
    std::fs::create_dir_all(folder).map_err(Error::file("make", folder))?;
    let text = format!("{boot}\n{name}\n{}\n", choice.reason);
    files::replace(verdict, text.as_bytes(), 0o600).map_err(Error::file("write", verdict))
}

/// Boots the bare kernel: it has no root filesystem, says so, and `panic=-1` with `-no-reboot` ends QEMU.
fn probe(image: &Path) -> Result<Choice, Error> {
    let folder = tempfile::tempdir().map_err(Error::file("make", std::env::temp_dir()))?;
    let kernel_path = folder.path().join("vmlinuz");
    std::fs::write(&kernel_path, kernel::extract(image)?).map_err(Error::file("write", &kernel_path))?;
    let mut qemu = Command::new(super::qemu::PROGRAM);
    qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-m", "256"])
        .args(Accelerator::Kvm.arguments())
        .args(["-chardev", "file,id=console,path=console.log", "-serial", "chardev:console"])
        .args(["-kernel", "vmlinuz", "-append", "console=ttyS0 panic=-1"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    super::qemu::die_with_parent(&mut qemu);
    let start = Instant::now();
    let mut process = qemu.spawn().map_err(super::qemu::spawn_error)?;
    let mut ended = false;
    while !ended && start.elapsed() < PROBE {
        std::thread::sleep(Duration::from_millis(20));
        ended = process.try_wait().map_err(Error::file("wait for", super::qemu::PROGRAM))?.is_some();
    }
    if !ended {
        process.kill().and_then(|()| process.wait()).map_err(Error::file("stop", super::qemu::PROGRAM))?;
    }
    let console = std::fs::read(folder.path().join("console.log")).unwrap_or_default();
    let panicked = String::from_utf8_lossy(&console).contains("Kernel panic - not syncing: VFS");
    Ok(if ended && panicked {
        let seconds = start.elapsed().as_secs_f64();
        Choice {
            accelerator: Accelerator::Kvm,
            reason: format!("KVM: a kernel booted with it in {seconds:.1} s"),
        }
    } else {
        let reason = "TCG: /dev/kvm opens, but a kernel does not boot with it";
        Choice { accelerator: Accelerator::Tcg, reason: reason.to_owned() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_holds_until_the_next_boot() {
        let folder = tempfile::tempdir().unwrap();
        let verdict = folder.path().join("deeper").join(VERDICT);
        let choice = Choice { accelerator: Accelerator::Tcg, reason: "TCG: because".to_owned() };
        assert_eq!(remembered(&verdict, "boot-1"), None);
        remember(&verdict, "boot-1", &choice).unwrap();
        assert_eq!(remembered(&verdict, "boot-1"), Some(choice));
        assert_eq!(remembered(&verdict, "boot-2"), None);
        std::fs::write(&verdict, "boot-1\nxen\nreason\n").unwrap();
        assert_eq!(remembered(&verdict, "boot-1"), None);
    }
}
