//! The links that this machine has or asks for an IPv6 address on, that nobody gives: written by PID 1, kept up by
//! `firstboot dhcp6`.

use std::io;
use std::net::IpAddr;
use std::path::Path;

use super::held::Held;
use crate::network::lending::kept::{self, Holding};
use crate::network::resolvers::{self, Said};

/// One link, and what came of asking.
pub type Kept = kept::Kept<Held>;

impl Kept {
    /// Puts what routers and DHCPv6 servers say of resolvers on this link into `/etc/resolv.conf`.
    pub fn write_resolvers(&self, root: &Path, of_cluster: &[IpAddr]) -> io::Result<()> {
        let told = self.held.as_ref().map(|held| &held.told);
        let resolvers = told.into_iter().flat_map(|told| &told.resolvers).copied().map(IpAddr::V6).collect();
        let search = told.map_or_else(Vec::new, |told| told.search.clone());
        resolvers::say(root, &Held::resolvers(self.number), &Said { resolvers, search }, of_cluster)
    }
}

#[cfg(test)]
mod tests {
    use bootwright_model::links::Link;

    use super::super::held::tests::held;
    use super::*;

    #[test]
    fn all_are_read_as_they_were_written() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        assert_eq!((Kept::all(root).unwrap(), Kept::own(root).unwrap()), (vec![], None));
        let (link, described) = ("eth0".to_owned(), Link::default());
        let described_to = Vec::new();
        let own = Kept { number: 0, own: true, link, described, described_to, held: Some(held()) };
        let described = Link { name: "storage".into(), dhcp6: true, ..Link::default() };
        let (link, described_to) = (String::new(), Vec::new());
        let further = Kept { number: 1, own: false, link, described, described_to, held: None };
        for kept in [&further, &own] {
            kept.write(root).unwrap();
        }
        assert_eq!(Kept::all(root).unwrap(), [own.clone(), further]);
        assert_eq!(Kept::own(root).unwrap(), Some(own));
        assert!(root.join("run/bootwright/leases-ipv6/storage.json").exists());
        std::fs::write(root.join("run/bootwright/lease-ipv6.json"), "{").unwrap();
        assert!(Kept::own(root).is_err() && Kept::all(root).is_err());
    }
}
