//! Signals to PID 1, noted by a handler and looked at by the loop.
//!
//! Not a signalfd: that needs the signals blocked in every thread, and a blocked mask is inherited by each
//! service, where it would have to be undone. A handler is reset by exec(2) by itself.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// Bit n: signal n has arrived since the last look.
static PENDING: AtomicU64 = AtomicU64::new(0);
/// The eventfd that wakes the loop; -1 if there is none.
static WAKE: AtomicI32 = AtomicI32::new(-1);

const NOTED: [libc::c_int; 4] = [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT, libc::SIGPWR];

/// Signals that have arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived(u64);

impl Arrived {
    /// Whether `signal` has.
    pub fn has(self, signal: libc::c_int) -> bool {
        self.0 & (1 << signal) != 0
    }
}

/// Handlers, installed; dropped, the signals are as at the start of a process again.
#[derive(Debug)]
pub struct Signals(());

extern "C" fn note(signal: libc::c_int) {
    PENDING.fetch_or(1 << signal, Ordering::SeqCst);
    let wake = WAKE.load(Ordering::SeqCst);
    if wake >= 0 {
        let one = 1_u64;
        // SAFETY: write(2) and errno are async-signal-safe; the descriptor is open while WAKE holds it. A full
        // eventfd wakes as well, so the result does not matter, but errno of the interrupted code does.
        unsafe {
            let errno = *libc::__errno_location();
            libc::write(wake, (&raw const one).cast(), size_of::<u64>());
            *libc::__errno_location() = errno;
        }
    }
}

impl Signals {
    /// Installs the handlers. `wake` must stay open as long as the value lives. Only one may exist at a time.
    pub fn install(wake: BorrowedFd<'_>) -> io::Result<Signals> {
        WAKE.store(wake.as_raw_fd(), Ordering::SeqCst);
        for signal in NOTED {
            set(signal, note as extern "C" fn(libc::c_int) as libc::sighandler_t)?;
        }
        Ok(Signals(()))
    }

    /// Signals since the last call.
    pub fn take(&self) -> Arrived {
        Arrived(PENDING.swap(0, Ordering::SeqCst))
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for signal in NOTED {
            // The default cannot be refused for a signal whose handler could be set.
            let _ = set(signal, libc::SIG_DFL);
        }
        WAKE.store(-1, Ordering::SeqCst);
    }
}

fn set(signal: libc::c_int, handler: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: a zeroed sigaction is an empty mask without flags; `handler` is SIG_DFL or a function of the
    // right type that only does what a handler may.
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler;
        action.sa_flags = libc::SA_RESTART | libc::SA_NOCLDSTOP;
        libc::sigaction(signal, &action, std::ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
