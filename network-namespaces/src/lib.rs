//! Network namespaces for tests: nodes, pods, switches and routers are namespaces of this machine.
//!
//! [`Namespace`] is one of several in a process, each entered by threads; [`process`] gives a process one of its own. Both
//! need root, or a user who may make user namespaces. What cannot be had panics: a test that gets no namespace fails.

#![allow(clippy::unwrap_used, reason = "what calls this fails by panicking, as a test does")]

mod namespace;
pub mod process;

pub use namespace::Namespace;
