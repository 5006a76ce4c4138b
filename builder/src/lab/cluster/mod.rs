//! A whole cluster in QEMU: a machine per node of the cluster file, on a switch of ours.
//!
//! One process owns everything: the switch, the machines (which the kernel ends with it), the control socket and
//! the folder `lab` below the output folder. `lab up` is that process, or starts it in the background; the other
//! commands speak to it through the socket.

pub mod commands;
pub mod control;
pub mod folder;
pub mod layout;
mod member;
mod observer;
pub mod status;
mod supervisor;
mod up;
mod view;

pub use control::{Answer, Request};
pub use layout::Options;
pub use status::Status;
pub use supervisor::Supervisor;
pub use up::{Background, up, wait_ready};
