//! Disks: finding partitions, dm-verity, the partition table, the state filesystem.

pub mod disks;
pub mod ext4;
pub mod gpt;
pub mod grow;
pub mod kernel;
pub mod own_disk;
pub mod verity;
