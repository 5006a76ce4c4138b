//! Machines in QEMU.
