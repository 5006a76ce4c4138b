//! The process of the pod sandbox, built and run.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

/// Builds it for this machine.
fn build() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pause");
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pause/Cargo.toml");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--release", "--quiet", "--manifest-path"])
        .arg(manifest)
        .env("CARGO_TARGET_DIR", &target)
        // Flags of the workspace's static programs are none of its own.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .status();
    assert!(status.expect("cargo runs").success());
    target.join("release/pause")
}

/// Ends the process whatever happens in the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn signal(&self, name: &str) {
        let status = Command::new("/bin/kill").args(["-s", name, &self.0.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    /// Bounded wait for `what`.
    fn until(&mut self, what: &str, mut met: impl FnMut(&mut Child) -> bool) {
        for _ in 0..600 {
            if met(&mut self.0) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{what} did not happen in 30 seconds");
    }
}

fn is_pause(process: &Child) -> bool {
    std::fs::read_link(format!("/proc/{}/exe", process.id())).is_ok_and(|exe| exe.ends_with("release/pause"))
}

#[test]
fn it_is_small_static_reaps_children_and_ends_on_signals() {
    let program = build();
    let size = std::fs::metadata(&program).expect("built").len();
    assert!(size < 8 << 10, "{size} bytes");
    for signal in ["TERM", "INT"] {
        // The shell becomes the program, with two children that end before and after that.
        let script = "sleep 0 & sleep 1 & exec \"$0\"";
        let mut running =
            Running(Command::new("/bin/sh").args(["-c", script]).arg(&program).spawn().expect("runs"));
        running.until("becoming the program", |process| is_pause(process));
        running.until("reaping", |process| {
            let id = process.id();
            std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"))
                .is_ok_and(|children| children.is_empty())
        });
        assert!(running.0.try_wait().expect("its state").is_none(), "it goes on without children");
        running.signal(signal);
        running.until("ending", |process| process.try_wait().expect("its state").is_some());
        assert_eq!(running.0.wait().expect("its state").code(), Some(0), "{signal}");
    }
}
