//! The backdoor: an I/O port by which a guest calls VMware's hypervisor, with values in registers both ways
//! (open-vm-tools, `lib/include/backdoor_def.h` and `lib/backdoor/backdoorGcc64.c`).

use std::arch::asm;
use std::io;
use std::marker::PhantomData;

/// Port of the calls that carry all they say in registers, `BDOOR_PORT`.
pub const PORT: u16 = 0x5658;
/// In `eax` of every call, by which the hypervisor tells it from another read of the port, `BDOOR_MAGIC`.
pub const MAGIC: u32 = 0x564d_5868;
/// Ports that a read of 32 bits touches.
const PORTS: libc::c_ulong = 4;

/// What a call hands over, and what it brings back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Registers {
    /// [`MAGIC`]; what comes back depends on the command.
    pub eax: u32,
    /// The command's argument; its result.
    pub ebx: u32,
    /// The command in the lower half.
    pub ecx: u32,
    /// [`PORT`] in the lower half.
    pub edx: u32,
    /// Upper half of a message channel's cookie.
    pub esi: u32,
    /// Lower half of a message channel's cookie.
    pub edi: u32,
}

/// Who answers calls: a hypervisor, or a test that stands in for one.
pub trait Backdoor {
    /// One call.
    fn call(&mut self, registers: Registers) -> Registers;
}

/// The port of this machine, of which this thread has the use until it is dropped.
#[derive(Debug)]
pub struct Port {
    /// The kernel grants a port to a thread.
    of_this_thread: PhantomData<*const ()>,
}

impl Port {
    /// Asks the kernel for the use of the port. Only on a machine that says that it is VMware's: on another one the port may
    /// be a device's, and reading it may have an effect.
    ///
    /// # Errors
    /// The kernel grants no ports to programs: it is locked down, or was built without.
    pub fn open() -> io::Result<Port> {
        permit(true)?;
        Ok(Port { of_this_thread: PhantomData })
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        // What was granted can be given back.
        let _ = permit(false);
    }
}

fn permit(on: bool) -> io::Result<()> {
    // Not iopl(2), which grants all ports there are.
    // SAFETY: it changes what this thread may read and write, and no memory.
    match unsafe { libc::ioperm(PORT.into(), PORTS, on.into()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

impl Backdoor for Port {
    fn call(&mut self, registers: Registers) -> Registers {
        let Registers { eax, ebx, ecx, edx, esi, edi } = registers;
        // Whole registers, as it is nowhere said that the hypervisor leaves upper halves alone.
        let (mut rax, mut rbx, mut rcx) = (u64::from(eax), u64::from(ebx), u64::from(ecx));
        let (mut rdx, mut rsi, mut rdi) = (u64::from(edx), u64::from(esi), u64::from(edi));
        // SAFETY: the kernel has granted the port to this thread, so that the instruction does not fault. Commands of this
        // port change the registers that are named here and no memory: those with addresses of memory are the other
        // port's, BDOORHB_PORT. The compiler keeps rbx to itself, and gets it back. Flags are not said to be kept.
        unsafe {
            asm!(
                "xchg {rbx}, rbx",
                "in eax, dx",
                "xchg {rbx}, rbx",
                rbx = inout(reg) rbx,
                inout("rax") rax,
                inout("rcx") rcx,
                inout("rdx") rdx,
                inout("rsi") rsi,
                inout("rdi") rdi,
                options(nomem, nostack),
            );
        }
        let [eax, ebx, ecx, edx, esi, edi] = [rax, rbx, rcx, rdx, rsi, rdi].map(low);
        Registers { eax, ebx, ecx, edx, esi, edi }
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
fn low(register: u64) -> u32 {
    register as u32
}
