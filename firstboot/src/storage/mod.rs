//! Disks: finding partitions, dm-verity, the partition table, the state filesystem.
