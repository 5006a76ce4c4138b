//! chronyd in a namespace, which leaves the machine's clock alone.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use network_namespaces::Namespace;
use qemu_tests::packages::Unpacked;

/// How long anything may take: others may have the processors.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program of the packages of `examples/all-in-one.toml`, unpacked below `scratch`: the words that run it as root, as
/// the machine need not have its user.
pub fn command(scratch: &Path) -> Vec<String> {
    let unpacked = Unpacked::new("all-in-one", "chrony", scratch.join("chrony"));
    let program = unpacked.path("usr/sbin/chronyd").display().to_string();
    let libraries = format!("LD_LIBRARY_PATH={}", unpacked.libraries());
    ["env", &libraries, &program, "-u", "root"].map(str::to_owned).into()
}

/// A running chronyd; ends with its owner.
pub struct Chronyd {
    child: Child,
    log: PathBuf,
}

impl Chronyd {
    /// Runs in a namespace, with these arguments.
    pub fn start(command: &[String], net: &Namespace, arguments: &[String], log: &Path) -> Chronyd {
        let out = File::create(log).unwrap();
        let mut words = Command::new(&command[0]);
        words.args(&command[1..]).arg("-x").args(arguments);
        words.stdout(out.try_clone().unwrap()).stderr(out);
        Chronyd { child: net.enter(|| words.spawn().expect("chronyd runs")), log: log.to_owned() }
    }

    /// A server at an address of the namespace, with further lines of configuration.
    pub fn server(command: &[String], net: &Namespace, folder: &Path, address: &str, lines: &str) -> Chronyd {
        let path = folder.join(format!("{address}.conf"));
        let pid = folder.join(format!("{address}.pid"));
        let text = format!(
            "bindaddress {address}\nallow\ncmdport 0\nbindcmdaddress /\npidfile {}\n{lines}\n",
            pid.display()
        );
        std::fs::write(&path, text).unwrap();
        let arguments = ["-d".to_owned(), "-f".to_owned(), path.display().to_string()];
        Chronyd::start(command, net, &arguments, &path.with_extension("log"))
    }

    /// Waits until it has said something.
    pub fn expect(&mut self, words: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = self.said();
            if said.contains(words) {
                return;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "chronyd ended ({ended:?}): {said}");
            assert!(Instant::now() < deadline, "not within {PATIENCE:?}: \"{words}\" of {said}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What it has said.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Chronyd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
