//! The links that this machine asks for leases on: written by PID 1, kept up by `firstboot dhcp`.

use std::io;
use std::path::Path;

use super::held::Held;
use crate::network::lending::kept;
use crate::network::resolvers::{self, Said};

/// One link, and what came of asking.
pub type Kept = kept::Kept<Held>;

impl Kept {
    /// Puts what its lease says of resolvers into `/etc/resolv.conf`.
    pub fn write_resolvers(&self, root: &Path, of_cluster: &[std::net::IpAddr]) -> io::Result<()> {
        let lease = self.held.as_ref().map(|held| &held.lease);
        let resolvers = lease.into_iter().flat_map(|lease| &lease.resolvers).map(|one| (*one).into());
        let said = Said {
            resolvers: resolvers.collect(),
            search: lease.map_or_else(Vec::new, |lease| lease.search.clone()),
        };
        resolvers::say(root, &resolvers::of_lease(self.number), &said, of_cluster)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bootwright_model::links::Link;

    use super::super::lease::tests::lease;
    use super::*;

    #[test]
    fn all_are_read_as_they_were_written() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        assert_eq!((Kept::all(root).unwrap(), Kept::own(root).unwrap()), (vec![], None));
        let resolvers = vec!["10.9.0.53".parse().unwrap()];
        let described = Link { resolvers, search: vec!["example.com".into()], ..Link::default() };
        let held = Some(Held { since_ms: 5_000, lease: lease() });
        let own = Kept { number: 0, own: true, link: "eth0".into(), described, held };
        let named = |number, name: &str| {
            let described = Link { name: name.into(), dhcp4: true, ..Link::default() };
            Kept { number, own: false, link: String::new(), described, held: None }
        };
        let (first, second) = (named(1, "storage"), named(2, "backup"));
        for kept in [&second, &own, &first] {
            kept.write(root).unwrap();
        }
        // As one that was cut off leaves it.
        fs::write(root.join("run/bootwright/leases/third.json.new"), "{").unwrap();
        assert_eq!(Kept::all(root).unwrap(), [own.clone(), first, second]);
        assert_eq!(Kept::own(root).unwrap(), Some(own));
        fs::write(root.join("run/bootwright/lease.json"), "{").unwrap();
        assert!(Kept::own(root).is_err() && Kept::all(root).is_err());
    }
}
