//! Whether a link takes addresses and routes from router advertisements (`accept_ra` and `autoconf` of the kernel's
//! `networking/ip-sysctl`).

use std::io;
use std::path::Path;

use super::LinkError;
use super::error::request;
use crate::report::under;

/// Tells the kernel for the device `name`; true if that was a change. A kernel without IPv6 takes none anyway.
pub(super) fn accept_ra(root: &Path, name: &str, accept: bool) -> io::Result<bool> {
    // 2 and not 1: a node forwards packets of pods, and a machine that forwards is a router, which with 1 listens to no
    // other.
    let values = if accept {
        [("accept_ra", "2"), ("autoconf", "1")]
    } else {
        [("accept_ra", "0"), ("autoconf", "0")]
    };
    let folder = under(root, "/proc/sys/net/ipv6/conf").join(name);
    let mut changed = false;
    for (file, value) in values {
        let path = folder.join(file);
        match std::fs::read_to_string(&path) {
            Ok(present) if present.trim() == value => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && !accept => {}
            Ok(_) => {
                std::fs::write(&path, value)?;
                changed = true;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(changed)
}

/// The same for a card whose address is lent: it is on no plan.
pub fn set_accept_ra(root: &Path, name: &str, accept: bool) -> Result<(), LinkError> {
    let set = accept_ra(root, name, accept).map(drop);
    set.map_err(|source| request(&format!("set accept_ra of {name}"), source))
}
