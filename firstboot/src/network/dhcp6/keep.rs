//! `firstboot dhcp6`: keeps the IPv6 addresses that PID 1 found (RFC 8415, section 18.2), and goes on looking where it found
//! none.
//!
//! A lease is renewed here. An address that the kernel made is kept up by the kernel, as long as the router goes on to
//! advertise its network: here is told when it does not. It may be started again at any time: what it needs is in
//! [`Kept`] and in the facts.

mod keeper;

use std::convert::Infallible;
use std::path::Path;
use std::process::ExitCode;

use super::kept::Kept;
use crate::bootstrap;
use crate::network::lending::keep::{KeepError, keep_all};

pub use keeper::Keeper;

/// Runs as a program below `root` (`/` on a node), and ends only if it cannot go on.
pub fn main(root: &Path) -> ExitCode {
    let Err(error) = run(root);
    bootstrap::tell("dhcp6", Err(error))
}

fn run(root: &Path) -> Result<Infallible, KeepError> {
    let facts = bootstrap::read_facts(root)?;
    let all = Kept::all(root).map_err(|error| KeepError::Lease(Some(error)))?;
    keep_all(all.into_iter().map(|kept| Keeper::of(root, &facts, kept)).collect())
}
