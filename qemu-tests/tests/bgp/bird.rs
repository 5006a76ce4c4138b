//! BIRD: the machine need not have it installed, as a build has fetched its package.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use network_namespaces::Namespace;
use qemu_tests::packages::Unpacked;
use rustix::process::{Pid, Signal, kill_process};

/// How long anything may take: others may have the processors.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program and the libraries that it comes with.
#[derive(Clone)]
pub struct Program {
    path: PathBuf,
    libraries: Option<String>,
}

impl Program {
    /// `BOOTWRIGHT_BIRD`, or that of the packages of `examples/bgp.toml`, unpacked below `scratch`.
    pub fn find(scratch: &Path) -> Program {
        if let Some(path) = std::env::var_os("BOOTWRIGHT_BIRD") {
            return Program { path: path.into(), libraries: None };
        }
        let unpacked = Unpacked::new("bgp", "bird2", scratch.join("bird"));
        Program { path: unpacked.path("usr/sbin/bird"), libraries: Some(unpacked.libraries()) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs with this configuration in a namespace: `<name>.conf`, and `<name>.log` takes what it says.
    pub fn configured(&self, net: &Namespace, scratch: &Path, name: &str, configuration: &str) -> Bird {
        let file = |ending: &str| scratch.join(format!("{name}.{ending}"));
        std::fs::write(file("conf"), configuration).unwrap();
        let mut command = Command::new(&self.path);
        command.arg("-f").arg("-c").arg(file("conf")).arg("-s").arg(file("ctl"));
        self.start(net, command, &file("log"))
    }

    /// Runs a command of it in a namespace; `log` takes what it says.
    pub fn start(&self, net: &Namespace, mut command: Command, log: &Path) -> Bird {
        let out = File::options().create(true).append(true).open(log).unwrap();
        command.stdout(out.try_clone().unwrap()).stderr(out);
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        Bird { child: net.enter(|| command.spawn().expect("BIRD runs")), log: log.to_owned() }
    }
}

/// A running BIRD; ends with its owner.
pub struct Bird {
    child: Child,
    log: PathBuf,
}

impl Bird {
    /// As a machine that stops does.
    pub fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        eventually("BIRD ends", || self.child.try_wait().unwrap().is_some());
    }

    /// Without a word to anybody.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// What it has said.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Whether it still runs.
    pub fn assert_alive(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "BIRD ended ({ended:?}): {}", self.said());
    }
}

impl Drop for Bird {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `check` holds; a failure says what did not come true.
pub fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !check() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
