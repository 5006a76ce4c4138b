//! First boot: from the initramfs to running services.
