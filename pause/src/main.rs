//! The process of the pod sandbox: holds the pod's namespaces, reaps orphans when the pod shares its
//! process namespace, and ends on SIGTERM or SIGINT.
//!
//! Without the standard library and without libc: a static program of a few kilobytes, because every
//! pod on the node runs one. Linux on x86-64 only, as the images are.

#![no_std]
#![no_main]

use core::arch::{asm, global_asm};
use core::panic::PanicInfo;

/// `include/uapi/asm-generic/unistd.h` has other numbers: these are of `arch/x86/entry/syscalls/syscall_64.tbl`.
mod call {
    pub const RT_SIGPROCMASK: usize = 14;
    pub const EXIT: usize = 60;
    pub const WAIT4: usize = 61;
    pub const RT_SIGTIMEDWAIT: usize = 128;
}

const SIGINT: isize = 2;
const SIGTERM: isize = 15;
const SIGCHLD: isize = 17;

const SIG_BLOCK: usize = 0;
const WNOHANG: usize = 1;
/// Any child.
const ANY: usize = usize::MAX;
/// Bytes of the kernel's `sigset_t`.
const SIGSET_BYTES: usize = 8;

// The kernel enters with the stack aligned to 16 bytes and no return address on it.
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "call {run}", "ud2", run = sym run);

/// # Safety
/// The arguments must be what the call of this number takes.
unsafe fn syscall(number: usize, arguments: [usize; 4]) -> isize {
    let result;
    // SAFETY: the registers are those of the x86-64 system call convention; rcx and r11 are its clobbers.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") arguments[0],
            in("rsi") arguments[1],
            in("rdx") arguments[2],
            in("r10") arguments[3],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

fn exit(code: usize) -> ! {
    loop {
        // SAFETY: exit takes a number and does not return.
        unsafe { syscall(call::EXIT, [code, 0, 0, 0]) };
    }
}

/// Blocks the signals and waits for them instead of handling them: a handler would need a trampoline,
/// and a blocked signal reaches even the first process of a namespace, whose default actions the
/// kernel leaves out (kernel/signal.c, `sig_ignored`).
extern "C" fn run() -> ! {
    let signals: u64 = [SIGINT, SIGTERM, SIGCHLD].iter().fold(0, |set, signal| set | 1 << (signal - 1));
    let set = &raw const signals as usize;
    // SAFETY: `set` points to eight bytes that outlive both calls; null is allowed where 0 is passed.
    if unsafe { syscall(call::RT_SIGPROCMASK, [SIG_BLOCK, set, 0, SIGSET_BYTES]) } < 0 {
        exit(1);
    }
    loop {
        // Before waiting too: a child may have ended before its signal was blocked.
        // SAFETY: no status and no usage are asked for.
        while unsafe { syscall(call::WAIT4, [ANY, 0, WNOHANG, 0]) } > 0 {}
        // SAFETY: `set` outlives the call, as when it was blocked, and null is allowed for the rest.
        if let SIGINT | SIGTERM = unsafe { syscall(call::RT_SIGTIMEDWAIT, [set, 0, 0, SIGSET_BYTES]) } {
            exit(0);
        }
    }
}

#[panic_handler]
fn panic(_: &PanicInfo) -> ! {
    exit(2)
}
