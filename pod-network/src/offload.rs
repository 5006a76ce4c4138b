//! Checksum offload of a VXLAN device.
//!
//! It is left on: without it the kernel cuts what a connection sends into packets before they enter the tunnel, one
//! by one, and a connection carries a third (docs/performance.md). What speaks against it:
//!
//! - Kernels before 5.7 (and 5.4.41, 4.19.123) got the inner checksum wrong where the outer packet is rewritten on its
//!   way out (<https://github.com/kubernetes/kubernetes/issues/88986>, commit ea64d8d6c675 of Linux). Images have a
//!   later one, and kube-proxy rewrites no outer packet since 1.19.
//! - The virtual card `vmxnet3` offers to do it for tunnels, and the hypervisor then drops what does not come on the
//!   port that it takes for VXLAN (<https://github.com/projectcalico/calico/issues/4727>). On it offload is off.
//!
//! What `ethtool -K` calls `tx-checksum-ip-generic` is the only feature of a VXLAN device that `ETHTOOL_STXCSUM`
//! means.

use std::io;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// Commands of linux/ethtool.h.
const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GTXCSUM: u32 = 0x16;
const ETHTOOL_STXCSUM: u32 = 0x17;

/// Driver of links that cannot be left the checksums in a tunnel.
const BROKEN: &str = "vmxnet3";

/// Whether tunnels may leave checksums to a link.
pub fn is_safe_on(link: &str) -> io::Result<bool> {
    // Its texts are not read but for the driver's name.
    let mut info = DriverInfo { command: ETHTOOL_GDRVINFO, driver: [0; 32], rest: [0; 160] };
    match ask(link, &mut info) {
        Ok(()) => Ok(!info.driver.starts_with(BROKEN.as_bytes())),
        // It has no driver of its own, as loopback.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Whether a device leaves checksums to what is below it.
pub fn is_on(device: &str) -> io::Result<bool> {
    let mut value = Value { command: ETHTOOL_GTXCSUM, data: 0 };
    ask(device, &mut value)?;
    Ok(value.data != 0)
}

/// Lets the device leave checksums to what is below it, or compute them itself.
pub fn set(device: &str, on: bool) -> io::Result<()> {
    ask(device, &mut Value { command: ETHTOOL_STXCSUM, data: on.into() })
}

/// What begins with a command of linux/ethtool.h, in its layout.
trait Question {}

/// `struct ethtool_value`
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

impl Question for Value {}

/// `struct ethtool_drvinfo`
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    rest: [u8; 160],
}

impl Question for DriverInfo {}

fn ask(device: &str, question: &mut impl Question) -> io::Result<()> {
    // SAFETY: all zeroes are a request without a name.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // One byte stays zero.
    for (place, byte) in request.ifr_name[..libc::IFNAMSIZ - 1].iter_mut().zip(device.bytes()) {
        *place = byte.cast_signed();
    }
    request.ifr_ifru.ifru_data = std::ptr::from_mut(question).cast();
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&socket);
    // SAFETY: the request names a device and points at a question of the size that its command has, as SIOCETHTOOL
    // wants; both live on.
    let result = unsafe { libc::ioctl(descriptor, libc::SIOCETHTOOL as _, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_of_a_link_is_asked_in_the_kernels_layout() {
        assert_eq!(std::mem::size_of::<DriverInfo>(), 196);
        assert!(is_safe_on("lo").unwrap());
        assert_eq!(is_safe_on("none-such").unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }
}
