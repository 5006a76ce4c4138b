//! Disk image formats made from the raw image.
