//! Drives a build from the cluster file to the disk image.
