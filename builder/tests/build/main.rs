//! `bootwright build` as a person sees it when something comes between: Ctrl-C, a lost connection, a
//! full disk, a missing tool. The program runs as it is, against a signed archive on loopback.

// An integration test is a crate of its own, and clippy takes only functions marked as tests for tests.
#![allow(clippy::unwrap_used)]

// By the path that the shared modules below know it by.
use bootwright::digests;

mod full_disk;
mod interrupted;
mod lock;
mod missing_tools;
mod mistakes;
mod roles;
mod sources;
mod world;

#[path = "../../src/image/testing.rs"]
mod image;
