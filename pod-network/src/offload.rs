//! Checksum offload of a VXLAN device.
//!
//! It is switched off: where the outer packet is rewritten on its way out (NAT, as kube-proxy does for Services),
//! the kernel leaves the inner checksum to a network card that then gets it wrong, and connections hang for 63
//! seconds or for ever (<https://github.com/kubernetes/kubernetes/issues/87852>). What `ethtool -K` calls
//! `tx-checksum-ip-generic` is the only feature of a VXLAN device that `ETHTOOL_STXCSUM` means.

use std::io;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// Commands of linux/ethtool.h.
const ETHTOOL_GTXCSUM: u32 = 0x16;
const ETHTOOL_STXCSUM: u32 = 0x17;

/// Whether a device leaves checksums to what is below it.
pub fn is_on(device: &str) -> io::Result<bool> {
    Ok(ask(device, ETHTOOL_GTXCSUM)? != 0)
}

/// Lets the device compute checksums itself.
pub fn turn_off(device: &str) -> io::Result<()> {
    ask(device, ETHTOOL_STXCSUM).map(drop)
}

/// `struct ethtool_value`
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

fn ask(device: &str, command: u32) -> io::Result<u32> {
    let mut value = Value { command, data: 0 };
    // SAFETY: all zeroes are a request without a name.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // One byte stays zero.
    for (place, byte) in request.ifr_name[..libc::IFNAMSIZ - 1].iter_mut().zip(device.bytes()) {
        *place = byte.cast_signed();
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&socket);
    // SAFETY: the request names a device and points at a value, as SIOCETHTOOL wants; both live on.
    let result = unsafe { libc::ioctl(descriptor, libc::SIOCETHTOOL as _, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value.data) }
}
