//! The links that this machine asks for leases on: written by PID 1, kept up by `firstboot dhcp`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bootwright_model::layout;
use bootwright_model::links::Link;
use serde::{Deserialize, Serialize};

use super::held::Held;
use crate::network::resolvers::{self, Said};
use crate::report::under;

/// One link, and what came of asking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Kept {
    /// Its place among them. What several leases say is put together in this order.
    pub number: usize,
    /// It has the node's own address.
    pub own: bool,
    /// Name of the link in the kernel; empty if it was not there at the start.
    pub link: String,
    /// As it is described, by no more than what a lease leaves open: with the most that its MTU may be, and the metric of
    /// the lease's routes.
    #[serde(default)]
    pub described: Link,
    /// The lease, unless nobody has lent one yet.
    #[serde(default)]
    pub held: Option<Held>,
}

impl Kept {
    /// Reads all, in their order; none if all addresses are from elsewhere.
    pub fn all(root: &Path) -> io::Result<Vec<Kept>> {
        let mut paths = vec![under(root, layout::LEASE)];
        match fs::read_dir(under(root, layout::LEASES)) {
            Ok(entries) => {
                for entry in entries {
                    paths.push(entry?.path());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        // A file that is about to be replaced has another end.
        paths.retain(|path| path.extension().is_some_and(|end| end == "json"));
        let mut all = Vec::new();
        for path in paths {
            all.extend(read(&path)?);
        }
        all.sort_by_key(|kept| kept.number);
        Ok(all)
    }

    /// Reads that of the node's own address; none if it is from elsewhere.
    pub fn own(root: &Path) -> io::Result<Option<Kept>> {
        read(&under(root, layout::LEASE))
    }

    /// Writes it, whole or not at all. The folder of all is there afterwards: the service is started if it is.
    pub fn write(&self, root: &Path) -> io::Result<()> {
        fs::create_dir_all(under(root, layout::LEASES))?;
        crate::files::replace(&self.path(root), &serde_json::to_vec(self)?, 0o644)
    }

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

    fn path(&self, root: &Path) -> PathBuf {
        match self.own {
            true => under(root, layout::LEASE),
            // Described links have names, each its own, which are names of files.
            false => under(root, layout::LEASES).join(format!("{}.json", self.described.name)),
        }
    }
}

fn read(path: &Path) -> io::Result<Option<Kept>> {
    match fs::read(path) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
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
