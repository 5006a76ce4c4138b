//! The links that this machine asks for leases on: written by PID 1, kept up by `firstboot dhcp`.

use std::io;
use std::path::Path;

use super::held::Held;
use super::lease::{Lease, Route};
use crate::network::lending::kept::{self, Holding};
use crate::network::resolvers::{self, Said};

/// One link, and what came of asking.
pub type Kept = kept::Kept<Held>;

impl Kept {
    /// What is taken of a lease on this link, and the routes of it that described ones are taken instead of.
    pub fn reduced(&self, lease: Lease) -> (Lease, Vec<Route>) {
        let mut lease = lease.reduced(&self.described.dhcp4_overrides);
        let is_described = |route: &Route| self.described_to.contains(&route.to);
        let left_out = lease.routes.iter().copied().filter(is_described).collect();
        lease.routes.retain(|route| !is_described(route));
        (lease, left_out)
    }

    /// Puts what its lease says of resolvers into `/etc/resolv.conf`.
    pub fn write_resolvers(&self, root: &Path, of_cluster: &[std::net::IpAddr]) -> io::Result<()> {
        let lease = self.held.as_ref().map(|held| &held.lease);
        let resolvers = lease.into_iter().flat_map(|lease| &lease.resolvers).map(|one| (*one).into());
        let said = Said {
            resolvers: resolvers.collect(),
            search: lease.map_or_else(Vec::new, |lease| lease.search.clone()),
        };
        resolvers::say(root, &Held::resolvers(self.number), &said, of_cluster)
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
        let (number, link, described_to) = (0, "eth0".into(), vec!["10.40.0.0/16".parse().unwrap()]);
        let own = Kept { number, own: true, link, described, described_to, held };
        let named = |number, name: &str| {
            let described = Link { name: name.into(), dhcp4: true, ..Link::default() };
            let (link, described_to) = (String::new(), Vec::new());
            Kept { number, own: false, link, described, described_to, held: None }
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

    #[test]
    fn a_route_that_is_described_is_not_taken() {
        let route = |to: &str| Route { to: to.parse().unwrap(), via: None };
        let routes = vec![route("10.40.0.0/16"), route("10.50.0.0/16")];
        let (number, link, described) = (0, "eth0".into(), Link::default());
        let described_to = vec!["10.40.0.0/16".parse().unwrap()];
        let kept = Kept { number, own: true, link, described, described_to, held: None };
        let (taken, left_out) = kept.reduced(Lease { routes: routes.clone(), ..lease() });
        assert_eq!((taken.routes, left_out), (vec![routes[1]], vec![routes[0]]));
    }
}
