//! The end of a boot that cannot go on: nothing happens without a word, and nothing stays for ever.

use std::time::Duration;

use rustix::system::{RebootCommand, reboot};

use crate::report::{Consoles, Reporter};

/// What happens after a failed stage, as a sentence for the console and the report.
pub fn next(hold: Duration) -> String {
    format!("the machine restarts in {} s, or at once with Ctrl-Alt-Del", hold.as_secs())
}

/// Leaves the screen as it is for a while, then restarts.
///
/// A restart, not a power-off: what failed may have been a disk that was slow or a cable that was out,
/// and an unattended machine should try again.
pub fn hold(reporter: &Reporter, hold: Duration) -> ! {
    rustix::fs::sync();
    // Ctrl-Alt-Del restarts at once again; nobody would read the signal now.
    let _ = reboot(RebootCommand::CadOn);
    reporter.flush(Duration::from_secs(1));
    std::thread::sleep(hold);
    reporter.line("restarting after a failed boot");
    restart()
}

/// Restarts the machine now.
pub fn restart() -> ! {
    rustix::fs::sync();
    let _ = reboot(RebootCommand::Restart);
    loop {
        // The kernel refused, or this is no PID 1: PID 1 must not end all the same.
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// Tells a fault of first boot itself on the consoles, in place of the runtime's message on a standard
/// error that may be nowhere.
pub fn tell_panics() {
    std::panic::set_hook(Box::new(|panic| {
        // Consoles of its own: the reporter's may be locked by the thread that failed.
        let consoles = Consoles::find(std::path::Path::new("/"));
        consoles.write(&format!("first boot itself failed, please report it: {panic}"));
    }));
}

/// SIGBUS and SIGSEGV in PID 1 would be a kernel panic with a number. They come when a page of this
/// program cannot be read: the root partition is damaged, or gone.
pub fn tell_fatal_signals() {
    for signal in [libc::SIGBUS, libc::SIGSEGV] {
        let handler = fatal_signal as extern "C" fn(libc::c_int);
        // SAFETY: the handler uses async-signal-safe system calls only.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
}

extern "C" fn fatal_signal(_signal: libc::c_int) {
    const TEXT: &[u8] = b"\r\nfirst boot: a part of the program cannot be read from the root partition (see the \
        kernel's messages above)\r\n next: the machine restarts in 60 s; if it happens again, write the image to the \
        disk again or replace the disk\r\n";
    // SAFETY: write, sleep and reboot are async-signal-safe; the text is static.
    unsafe {
        libc::write(2, TEXT.as_ptr().cast(), TEXT.len());
        libc::sleep(60);
        libc::reboot(libc::RB_AUTOBOOT);
        libc::_exit(1);
    }
}
