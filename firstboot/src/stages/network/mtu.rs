//! The MTU of a link that has got addresses of both families: each may have come with less.

use std::path::Path;

use super::NetworkError;
use crate::network::lending::kept::{Holding, Kept};
use crate::network::links::{self, Configured};
use crate::network::netlink::Netlink;
use crate::network::{dhcp, dhcp6};
use crate::report::under;
use crate::stages::problem;

/// Gives each link the least of what it has got by several ways: name and bytes. What a link does not take is a problem of
/// `configured`, or an error if it is the node's.
pub(super) fn settle(
    root: &Path,
    mtus: &[(String, u16)],
    configured: &mut Configured,
) -> Result<(), NetworkError> {
    let mut settled: Vec<(String, u16)> = Vec::new();
    for (link, mtu) in mtus {
        match settled.iter_mut().find(|(known, _)| known == link) {
            None => settled.push((link.clone(), *mtu)),
            Some((_, least)) => *least = (*least).min(*mtu),
        }
    }
    for (link, least) in &settled {
        if mtus.iter().all(|(of, mtu)| of != link || mtu == least) {
            continue;
        }
        let links = Netlink::open().and_then(|mut netlink| netlink.links()).unwrap_or_default();
        if let Some(present) = links.iter().find(|one| one.name == *link) {
            match links::set_mtu(present.index, link, *least, Some(*least)) {
                Err(error) if *link != configured.link => configured.problems.push(problem(&error)),
                result => drop(result?),
            }
        }
        // Who renews one of them later leaves it so.
        lower::<dhcp::held::Held>(root, link, *least)?;
        lower::<dhcp6::held::Held>(root, link, *least)?;
    }
    if let Some((_, mtu)) = settled.iter().find(|(link, _)| *link == configured.link) {
        configured.mtu = (*mtu).into();
    }
    Ok(())
}

fn lower<H: Holding>(root: &Path, link: &str, least: u16) -> Result<(), NetworkError> {
    let lower = || {
        for mut kept in Kept::<H>::all(root)?.into_iter().filter(|kept| kept.link == link) {
            kept.described.mtu = Some(kept.described.mtu.map_or(least, |mtu| mtu.min(least)));
            kept.write(root)?;
        }
        Ok(())
    };
    lower().map_err(|source| NetworkError::Facts { path: under(root, H::FURTHER), source })
}
