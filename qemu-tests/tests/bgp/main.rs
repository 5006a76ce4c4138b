//! Mode `bgp` with the real BIRD: nodes, pods, switches and routers are network namespaces, each BIRD runs with the
//! configuration that first boot would write, and a router's with what `bootwright routes` prints.
//!
//! Run as root, or by a user who may make user namespaces. A test that gets no namespace fails.

// Clippy allows it in functions marked as tests only; here every function is part of one.
#![allow(clippy::unwrap_used)]

mod bird;
mod fabric;
mod mesh;
mod node;
mod places;
mod stranger;
