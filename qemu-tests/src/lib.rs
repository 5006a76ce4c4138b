//! Whole images in QEMU.
