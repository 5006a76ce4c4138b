//! From a root tree to a bootable disk.
//!
//! The modules read in the order that the data flows: [`squashfs`], [`verity`] and [`initramfs`] make
//! the parts of the OS layer, which [`layer`] keeps in the cache; [`uki`], [`bios`], [`fat`], [`esp`]
//! and [`disk`] put a role's image together around it, driven by [`role`].

pub mod bios;
pub mod disk;
pub mod esp;
pub mod fat;
pub mod host;
pub mod initramfs;
pub mod layer;
pub mod refusal;
pub mod role;
pub mod slots;
pub mod squashfs;
pub mod table;
pub mod uki;
pub mod verity;

#[cfg(test)]
use bios::tests::installed as bios_files_installed;
#[cfg(test)]
mod testing;
#[cfg(test)]
use testing::small_stub;
