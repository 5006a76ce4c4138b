//! PID 1 in the initramfs: from nothing to the root.

use std::convert::Infallible;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use bootwright_model::layout;
use rustix::mount::{MountFlags, mount};

use super::command_line::CommandLine;
use super::modules::Coldplug;
use super::{Advice, Done, Runner, Stop, firmware, grace, hold, root};
use crate::kmsg::Log;
use crate::report::Reporter;

/// What the root stage needs, whatever the buses say.
const NEEDED: [&str; 2] = ["dm-verity", "squashfs"];

/// The new PID 1 is not there.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be run", layout::FIRSTBOOT)]
struct ExecError(#[source] std::io::Error);

impl Advice for ExecError {
    fn advice(&self) -> String {
        "write the image to the disk again; if it happens again, build it again".to_owned()
    }
}

/// Never returns: either the root's first boot takes over, or the machine restarts.
pub fn run() -> ! {
    mount_early();
    grace::hurry(Path::new("/"));
    let reporter = Reporter::open(Path::new("/"));
    // The first sign of life, and the line that parts the kernel's time from first boot's.
    reporter.line(&format!("bootwright first boot {}", env!("CARGO_PKG_VERSION")));
    let command_line = CommandLine::read(Path::new("/"));
    let runner = Runner::new(&reporter, hold::next(command_line.hold()));
    let Err(Stop) = stages(&runner, &command_line);
    // A controller whose driver lacks its file shows no disk.
    firmware::tell(&mut Log::open(Path::new("/")), &runner, 0);
    hold::hold(&reporter, command_line.hold())
}

fn stages(runner: &Runner<'_>, command_line: &CommandLine) -> Result<Infallible, Stop> {
    let mut coldplug = runner.run("modules", || {
        let mut coldplug = Coldplug::open(Path::new("/"))?;
        coldplug.hold_cards();
        coldplug.settle(&NEEDED)?;
        // After the disks' drivers, which have the processors to themselves.
        coldplug.begin_cards();
        let summary = coldplug.summary();
        let problems = std::mem::take(&mut coldplug.problems);
        Ok::<_, super::modules::ModulesError>(Done { value: coldplug, summary, problems })
    })?;
    runner.run("root", || root::run(&mut coldplug, command_line))?;
    runner.run("root", || -> Result<Done<Infallible>, ExecError> {
        // exec returns only with an error.
        Err(ExecError(Command::new(layout::FIRSTBOOT).arg0(layout::FIRSTBOOT).exec()))
    })
}

/// What first boot cannot even speak without. An error shows as the lack of what it would have brought.
fn mount_early() {
    let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    for (kind, target, flags, options) in [
        ("devtmpfs", "/dev", MountFlags::NOSUID, c"mode=0755"),
        ("proc", "/proc", quiet, c""),
        ("sysfs", "/sys", quiet, c""),
        ("tmpfs", "/run", MountFlags::NOSUID | MountFlags::NODEV, c"mode=0755"),
    ] {
        let _ = std::fs::create_dir(target);
        let _ = mount(kind, target, kind, flags, Some(options));
    }
}
