//! Children that are not the supervisor's: programs that a stage runs while the services start already.
//!
//! PID 1 waits for every child, orphans included, and would take the exit status of such a program from
//! the stage that waits for it (`wait4` answers ECHILD then). While a [`Loan`] is out, the supervisor
//! waits for its own services only; orphans stay zombies until it is given back.

use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

static LOANS: RwLock<()> = RwLock::new(());

/// Right to have a child of one's own. Take it before the child is started, drop it when it has been
/// waited for.
pub struct Loan(#[expect(dead_code, reason = "held for its drop")] RwLockReadGuard<'static, ()>);

/// Waits while the supervisor is reaping, which takes microseconds.
pub fn borrow() -> Loan {
    Loan(LOANS.read().unwrap_or_else(|poisoned| poisoned.into_inner()))
}

/// For the supervisor: `None` while a loan is out.
pub(super) fn all_are_ours() -> Option<RwLockWriteGuard<'static, ()>> {
    LOANS.try_write().ok()
}
