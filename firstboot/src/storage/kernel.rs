//! Tells the kernel about partitions of a disk in use, one at a time: reading the whole table again
//! (`BLKRRPART`) is refused while the root is mounted from it.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// `BLKPG`, `_IO(0x12, 105)` of linux/blkpg.h.
const BLKPG: libc::c_ulong = 0x1269;
const ADD_PARTITION: i32 = 1;
const RESIZE_PARTITION: i32 = 3;

/// `struct blkpg_partition` of linux/blkpg.h; start and length in bytes.
#[repr(C)]
struct BlkpgPartition {
    start: i64,
    length: i64,
    number: i32,
    device_name: [u8; 64],
    volume_name: [u8; 64],
}

/// `struct blkpg_ioctl_arg` of linux/blkpg.h.
#[repr(C)]
struct BlkpgArgument {
    operation: i32,
    flags: i32,
    data_length: i32,
    data: *mut BlkpgPartition,
}

/// Bytes of a disk that a partition has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// First byte.
    pub start: u64,
    /// Length in bytes.
    pub length: u64,
}

/// Makes partition `number` known; fine if it is already.
pub fn add_partition(disk: &File, number: u32, extent: Extent) -> io::Result<()> {
    match blkpg(disk, ADD_PARTITION, number, extent) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(()),
        result => result,
    }
}

/// Tells the new length of partition `number`, which may be mounted.
pub fn resize_partition(disk: &File, number: u32, extent: Extent) -> io::Result<()> {
    blkpg(disk, RESIZE_PARTITION, number, extent)
}

fn blkpg(disk: &File, operation: i32, number: u32, extent: Extent) -> io::Result<()> {
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let mut partition = BlkpgPartition {
        start: i64::try_from(extent.start).map_err(invalid)?,
        length: i64::try_from(extent.length).map_err(invalid)?,
        number: i32::try_from(number).map_err(invalid)?,
        device_name: [0; 64],
        volume_name: [0; 64],
    };
    let data_length = size_of::<BlkpgPartition>() as i32;
    let mut argument = BlkpgArgument { operation, flags: 0, data_length, data: &mut partition };
    // SAFETY: both structures have the kernel's layout and live until the call returns.
    let result = unsafe { libc::ioctl(disk.as_raw_fd(), BLKPG, &mut argument) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
