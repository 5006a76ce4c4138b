//! The time: asked for and given by the real chronyd in network namespaces, with the configurations that first boot would
//! write.
//!
//! In a namespace no clock is set: a server is made wrong by what it is told of its own source, and chronyd is told to
//! leave the clock alone (`-x`). Run as root, or by a user who may make user namespaces. A test that gets no namespace
//! fails.

// Clippy allows it in functions marked as tests only; here every function is part of one.
#![allow(clippy::unwrap_used)]

mod answers;
mod chronyd;
mod machines;
mod rendered;
