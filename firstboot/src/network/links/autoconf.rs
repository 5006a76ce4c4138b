//! Whether a link takes addresses and routes from router advertisements (`accept_ra` and `autoconf` of the kernel's
//! `networking/ip-sysctl`).

use std::io;
use std::path::Path;

use super::LinkError;
use super::error::request;
use crate::report::under;

/// Tells the kernel for the device `name`, and with which metric it is to take default routes; true if that was a change. A
/// kernel without IPv6 takes none anyway.
pub(super) fn accept_ra(root: &Path, name: &str, accept: bool, metric: Option<u32>) -> io::Result<bool> {
    // 2 and not 1: a node forwards packets of pods, and a machine that forwards is a router, which with 1 listens to no
    // other.
    let values = if accept {
        [("accept_ra", "2"), ("autoconf", "1")]
    } else {
        [("accept_ra", "0"), ("autoconf", "0")]
    };
    let folder = under(root, "/proc/sys/net/ipv6/conf").join(name);
    // Before they are taken: it holds for routes that are new.
    let metric = metric.map(|metric| ("ra_defrtr_metric", metric.to_string()));
    let metric = metric.iter().map(|(file, metric)| (*file, metric.as_str()));
    let mut changed = false;
    for (file, value) in metric.chain(values) {
        let path = folder.join(file);
        match std::fs::read_to_string(&path) {
            Ok(present) if present.trim() == value => {}
            // Kernels before 5.12 have no such metric.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && (!accept || file == "ra_defrtr_metric") => {}
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
    let set = accept_ra(root, name, accept, None).map(drop);
    set.map_err(|source| request(&format!("set accept_ra of {name}"), source))
}
