//! From a root tree to a bootable disk: squashfs, verity, initramfs, UKI, ESP, GPT; one file each.
