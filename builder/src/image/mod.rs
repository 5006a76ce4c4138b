//! From a root tree to a bootable disk.
//!
//! [`squashfs`], [`verity`] and [`initramfs`] make the parts of the OS layer.

pub mod host;
pub mod initramfs;
pub mod squashfs;
pub mod verity;
