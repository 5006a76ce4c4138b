//! A control plane without a machine: the real programs in a network namespace, for tests and for what is measured.

#![allow(clippy::unwrap_used, reason = "what calls this fails by panicking, as a test does")]

pub mod cluster;
pub mod node;
pub mod programs;
