//! From a root tree to a bootable disk.
//!
//! [`squashfs`], [`verity`] and [`initramfs`] make the parts of the OS layer; [`uki`], [`bios`], [`fat`],
//! [`esp`], [`table`] and [`disk`] put a disk together around it.

pub mod bios;
pub mod disk;
pub mod esp;
pub mod fat;
pub mod host;
pub mod initramfs;
pub mod squashfs;
pub mod table;
pub mod uki;
pub mod verity;
