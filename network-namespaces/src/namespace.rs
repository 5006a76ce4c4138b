//! Network namespaces without names: a descriptor holds each, so that nothing is left behind, however a test ends.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::process::{Command, Output};

use serde_json::Value;

/// A network namespace.
pub struct Namespace(File);

#[allow(clippy::new_without_default, reason = "it is no value: the kernel makes something, or it panics")]
impl Namespace {
    /// A new one, with loopback up and forwarding on.
    pub fn new() -> Namespace {
        let file = std::thread::scope(|scope| {
            let made = scope.spawn(|| {
                // SAFETY: a new network namespace takes nothing away from the other threads.
                let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
                assert_eq!(result, 0, "no network namespace: {}", std::io::Error::last_os_error());
                File::open("/proc/thread-self/ns/net").unwrap()
            });
            made.join().unwrap()
        });
        let namespace = Namespace(file);
        namespace.ip("link set lo up");
        namespace.enter(|| {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
            std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        });
        namespace
    }

    /// Does something in it, on a thread of its own.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let descriptor = self.0.as_raw_fd();
        let joined = std::thread::scope(|scope| {
            let entered = scope.spawn(move || {
                // SAFETY: only this thread changes its namespace.
                let result = unsafe { libc::setns(descriptor, libc::CLONE_NEWNET) };
                assert_eq!(result, 0, "no way into a namespace: {}", std::io::Error::last_os_error());
                work()
            });
            entered.join()
        });
        joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// What `ip` takes for its name, from another namespace.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// Runs a program in it, with words separated by single spaces.
    pub fn run(&self, program: &str, arguments: &str) -> Output {
        self.enter(|| Command::new(program).args(arguments.split(' ')).output().unwrap())
    }

    /// `ip -j` in it; must succeed.
    pub fn ip(&self, arguments: &str) -> Value {
        self.json("ip", &format!("-j {arguments}"))
    }

    /// `bridge -j` in it; must succeed.
    pub fn bridge(&self, arguments: &str) -> Value {
        self.json("bridge", &format!("-j {arguments}"))
    }

    fn json(&self, program: &str, arguments: &str) -> Value {
        let output = self.run(program, arguments);
        assert!(output.status.success(), "{program} {arguments}: {}", text(&output));
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Array(Vec::new()))
    }

    /// Whether an address answers within twenty seconds: others may have the processors.
    pub fn reaches(&self, address: IpAddr) -> bool {
        self.run("ping", &format!("-n -q -c 1 -i 0.2 -w 20 {address}")).status.success()
    }

    /// Whether an address answers none of two packets.
    pub fn misses(&self, address: IpAddr) -> bool {
        !self.run("ping", &format!("-n -q -c 2 -i 0.2 -W 0.5 {address}")).status.success()
    }

    /// Whether a packet of this many bytes, headers included, arrives in one piece.
    pub fn reaches_whole(&self, address: IpAddr, bytes: u32) -> bool {
        let payload = bytes - if address.is_ipv4() { 28 } else { 48 };
        self.run("ping", &format!("-n -q -c 1 -i 0.2 -w 3 -M do -s {payload} {address}")).status.success()
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}
