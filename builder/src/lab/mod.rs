//! Machines in QEMU, without root: boots what was built, as a person would and as the tests do.
//!
//! A [`Machine`] owns a folder: a copy of the disk, the console's log, the boot report and QEMU's
//! control socket. One that is alone has QEMU's user-mode network; those of a [`cluster`] are on a [`switch`] in
//! this process. Either is cut off from the outside; ports of the host's loopback are forwarded into it.

pub mod accelerator;
pub mod api;
pub mod bench;
pub mod cluster;
pub mod console;
pub mod demo;
pub mod disk;
pub mod error;
pub mod firmware;
pub mod kernel;
pub mod kubeconfig;
pub mod kubectl;
pub mod left_running;
pub mod machine;
pub mod ports;
pub mod qemu;
pub mod qmp;
pub mod readiness;
pub mod report;
pub mod session;
pub mod spec;
pub mod state;
pub mod summary;
pub mod switch;

pub use accelerator::Accelerator;
pub use error::Error;
pub use firmware::Firmware;
pub use machine::Machine;
pub use spec::{Lifetime, Spec};
