//! What the kernel is told so that it makes addresses and routes from router advertisements (`networking/ip-sysctl`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::report::under;

/// Name and value, in the order in which they are set: the kernel may act on each at once.
const WANTED: [(&str, &str); 7] = [
    ("disable_ipv6", "0"),
    // An address of the MAC address: the same at every start.
    ("addr_gen_mode", "0"),
    ("use_tempaddr", "0"),
    ("accept_ra_defrtr", "1"),
    ("accept_ra_pinfo", "1"),
    ("autoconf", "1"),
    // A node forwards packets of pods, and a machine that forwards is a router, which with 1 listens to no other.
    ("accept_ra", "2"),
];

/// What was there before, to be put back on a card that is not taken.
#[derive(Debug, Default)]
pub struct Before(Vec<(PathBuf, String)>);

/// Tells the kernel for the card `name`, whose default route gets the metric. A parameter that it does not have is left out,
/// but for the last: without that there is no address.
pub fn accept(root: &Path, name: &str, metric: Option<u32>) -> io::Result<Before> {
    let folder = under(root, "/proc/sys/net/ipv6/conf").join(name);
    let mut before = Before::default();
    let metric = metric.map(|metric| metric.to_string());
    // Before advertisements are taken: it holds for routes that are new.
    let metric = metric.as_deref().map(|metric| ("ra_defrtr_metric", metric));
    for (file, value) in metric.into_iter().chain(WANTED) {
        let path = folder.join(file);
        let present = match fs::read_to_string(&path) {
            Ok(present) => present.trim().to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound && file != "accept_ra" => continue,
            Err(error) => return Err(error),
        };
        if present != value {
            fs::write(&path, value)?;
            before.0.push((path, present));
        }
    }
    Ok(before)
}

impl Before {
    /// Puts it back; a card that is gone has nothing to put back.
    pub fn restore(&self) {
        for (path, value) in self.0.iter().rev() {
            let _ = fs::write(path, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_changed_is_put_back() {
        let root = tempfile::tempdir().unwrap();
        assert!(accept(root.path(), "eth0", None).is_err(), "a kernel without IPv6");
        let folder = root.path().join("proc/sys/net/ipv6/conf/eth0");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("accept_ra"), "1\n").unwrap();
        fs::write(folder.join("autoconf"), "1\n").unwrap();
        let read = |file: &str| fs::read_to_string(folder.join(file)).unwrap();
        let before = accept(root.path(), "eth0", Some(77)).unwrap();
        assert_eq!((read("accept_ra").as_str(), read("autoconf").as_str()), ("2", "1\n"));
        before.restore();
        assert_eq!(read("accept_ra"), "1");
    }
}
