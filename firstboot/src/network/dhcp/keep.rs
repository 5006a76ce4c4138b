//! `firstboot dhcp`: keeps the leases that PID 1 got (RFC 2131, section 4.4.5), and goes on asking where it got none. Each link
//! has a thread of its own, so that none waits for another's server.
//!
//! On a machine that asks for no lease it is not started. It may be started again at any time: what it needs is in
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
    bootstrap::tell("dhcp", Err(error))
}

fn run(root: &Path) -> Result<Infallible, KeepError> {
    let facts = bootstrap::read_facts(root)?;
    let all = Kept::all(root).map_err(|error| KeepError::Lease(Some(error)))?;
    keep_all(all.into_iter().map(|kept| Keeper::of(root, &facts, kept)).collect())
}
