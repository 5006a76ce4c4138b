//! PID 1: `/init` of the initramfs, then `/usr/lib/bootwright/firstboot` of the root.

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use bootwright_model::layout;
use firstboot::report::Reporter;
use firstboot::stages::{hold, initramfs, node};

/// How long the message of a fault in first boot itself stays on the screen.
const FAULT_HOLD: Duration = Duration::from_secs(300);

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    let program = arguments.next().unwrap_or_default();
    if std::process::id() != 1 {
        return command(arguments.next().as_deref(), std::env::args_os().skip(2).collect());
    }
    hold::tell_panics();
    // The initramfs starts the root's program by its full name; the kernel starts /init.
    let run = if program == layout::FIRSTBOOT { node::run } else { initramfs::run };
    let Err(_) = catch_unwind(AssertUnwindSafe(|| run()));
    let reporter = Reporter::open(Path::new("/"));
    reporter.line(&format!("next: {}", hold::next(FAULT_HOLD)));
    hold::hold(&reporter, FAULT_HOLD)
}

/// What this program does beside PID 1, by its first argument.
fn command(name: Option<&str>, arguments: Vec<OsString>) -> ExitCode {
    match name {
        Some("dhcp") => return firstboot::network::dhcp::keep::main(Path::new("/")),
        Some("dhcp6") => return firstboot::network::dhcp6::keep::main(Path::new("/")),
        Some("links") => return firstboot::network::links::follow::main(Path::new("/")),
        Some("bird") => return firstboot::network::bird::main(Path::new("/"), &arguments),
        Some("etcd") => return firstboot::bootstrap::etcd::main(Path::new("/"), &arguments),
        Some("etcd-promote") => return firstboot::bootstrap::etcd::promote::main(Path::new("/")),
        Some("apply") => return firstboot::bootstrap::main(Path::new("/")),
        Some("addons") => return firstboot::bootstrap::addons::main(Path::new("/")),
        Some("labels") => return firstboot::bootstrap::labels::main(Path::new("/")),
        Some("pod-cidr") => return firstboot::bootstrap::pod_cidr::main(Path::new("/")),
        Some("join") => return firstboot::bootstrap::join::main(Path::new("/")),
        _ => {}
    }
    let given = name.map_or("nothing".to_owned(), |name| format!("`{name}`"));
    eprintln!("firstboot is PID 1 of a bootwright image and does nothing with {given}");
    ExitCode::from(2)
}
