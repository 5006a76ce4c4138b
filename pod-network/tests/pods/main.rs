//! Pods of several nodes reach each other: nodes, pods, switches and routers are network namespaces, and what is
//! programmed is compared with what `ip` and `bridge` show.
//!
//! Run as root, or by a user who may make user namespaces. A test that gets no namespace fails.

// Clippy allows it in functions marked as tests only; here every function is part of one.
#![allow(clippy::unwrap_used)]

mod changes;
mod cluster;
mod foreign;
mod monitor;
mod routes;
mod shown;
mod vxlan;
