//! How long the kernel takes over grace periods while the machine boots.
//!
//! Loading a module, adding a link, setting up a device and moving a process to its cgroup each wait for at least
//! one: some 20 ms, ten times that on a busy machine. The kernel can interrupt all processors instead of waiting
//! for them, which costs them a little and the boot nothing. For the boot only: afterwards pods want their
//! processors to themselves. Android does the same.
//!
//! <https://docs.kernel.org/RCU/Design/Expedited-Grace-Periods/Expedited-Grace-Periods.html>

use std::path::Path;

use crate::report::under;

const EXPEDITED: &str = "/sys/kernel/rcu_expedited";

/// From now on the kernel hurries. Kept from the initramfs to the root.
pub fn hurry(root: &Path) {
    set(root, "1");
}

/// The boot is over.
pub fn take_time(root: &Path) {
    set(root, "0");
}

/// A kernel without it takes its time.
fn set(root: &Path, value: &str) {
    let _ = std::fs::write(under(root, EXPEDITED), value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_told_and_need_not_have_the_file() {
        let root = tempfile::tempdir().unwrap();
        hurry(root.path());
        std::fs::create_dir_all(root.path().join("sys/kernel")).unwrap();
        let read = || std::fs::read_to_string(root.path().join(&EXPEDITED[1..])).unwrap();
        hurry(root.path());
        assert_eq!(read(), "1");
        take_time(root.path());
        assert_eq!(read(), "0");
    }
}
