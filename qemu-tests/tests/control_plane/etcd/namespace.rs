//! A network namespace for each machine: etcd compares where a peer calls from with its certificate.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// A namespace that is gone with the last descriptor of it.
pub struct Namespace(File);

impl Namespace {
    /// With an address on a link into the bridge `br0` of this namespace, which must be there.
    pub fn new(link: &str, address: &str) -> Namespace {
        let file = std::thread::scope(|scope| {
            let made = scope.spawn(|| {
                // SAFETY: a new network namespace takes nothing away from the other threads.
                unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
                File::open("/proc/thread-self/ns/net").unwrap()
            });
            made.join().unwrap()
        });
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        ip(&format!("link add {link} type veth peer name eth0 netns {path}"));
        ip(&format!("link set {link} master br0 up"));
        let namespace = Namespace(file);
        namespace.enter(|| {
            ip("link set lo up");
            ip(&format!("address add {address} dev eth0"));
            ip("link set eth0 up");
        });
        namespace
    }

    /// Does something in it, on a thread of its own; what that starts is in it too.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let entered = scope.spawn(|| {
                move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                work()
            });
            entered.join().unwrap()
        })
    }
}

/// Runs `ip` where the caller is.
pub fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("ip of iproute2 runs");
    assert!(status.success(), "ip {arguments}");
}
