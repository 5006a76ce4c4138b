//! `/etc/resolv.conf` (resolv.conf(5)), of what several sources say: each writes its own file, and all are put together.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use bootwright_model::layout;
use bootwright_model::links::Link;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::report::under;

/// `MAXNS` of resolv.h: the C library reads no more, and the kubelet warns of each pod whose node has more.
const MOST_RESOLVERS: usize = 3;

/// What one source says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Said {
    /// In their order.
    pub resolvers: Vec<IpAddr>,
    /// Domains that short names are looked up in.
    pub search: Vec<String>,
}

/// The source of what is described for links: it comes before all that servers say. Sources are in the order of their names.
pub const DESCRIBED: &str = "10-described";

/// The source of a DHCPv4 lease, by its link's place among those that have one.
pub fn of_lease(number: usize) -> String {
    format!("20-dhcp4-{number:03}")
}

/// The source of an IPv6 router, and of the DHCPv6 server that it speaks of, by its link's place: after IPv4's, which all of
/// a network have.
pub fn of_ipv6(number: usize) -> String {
    format!("30-ipv6-{number:03}")
}

impl Said {
    /// What is described for links.
    pub fn by(links: &[Link]) -> Said {
        Said {
            resolvers: links.iter().flat_map(|link| link.resolvers.clone()).collect(),
            search: links.iter().flat_map(|link| link.search.clone()).collect(),
        }
    }
}

/// Takes down what `source` says, instead of what it said before, and writes `/etc/resolv.conf` anew. Programs may do it at
/// the same time, each for its source.
pub fn say(root: &Path, source: &str, said: &Said, of_cluster: &[IpAddr]) -> io::Result<()> {
    let folder = under(root, layout::RESOLVERS);
    fs::create_dir_all(&folder)?;
    // Who reads first does not write last: only one does both at a time. Let go of when it is closed.
    let lock = fs::File::create(folder.join("lock"))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    crate::files::replace(&folder.join(source).with_extension("json"), &serde_json::to_vec(said)?, 0o644)?;
    let mut paths: Vec<_> =
        fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|end| end == "json"));
    paths.sort();
    let mut all = Vec::new();
    for path in paths {
        all.push(serde_json::from_slice(&fs::read(path)?)?);
    }
    let text = resolv_conf(&all, of_cluster);
    // Replaced, not written to: Debian's may be a link.
    crate::files::replace(&under(root, "/etc/resolv.conf"), text.as_bytes(), 0o644)
}

/// The resolvers and search domains of the sources, then the cluster file's, each once; of the resolvers the first three.
fn resolv_conf(all: &[Said], of_cluster: &[IpAddr]) -> String {
    let mut text = String::new();
    let mut known = Vec::new();
    for address in all.iter().flat_map(|said| &said.resolvers).chain(of_cluster) {
        if known.len() < MOST_RESOLVERS && !known.contains(&address) {
            known.push(address);
            text += &format!("nameserver {address}\n");
        }
    }
    if text.is_empty() {
        text += "# the cluster file names no resolvers ([network] resolvers)\n";
    }
    let mut domains: Vec<&str> = Vec::new();
    for domain in all.iter().flat_map(|said| &said.search) {
        if !domains.contains(&domain.as_str()) {
            domains.push(domain);
        }
    }
    if !domains.is_empty() {
        text += &format!("search {}\n", domains.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_three_at_most() {
        let said = Said { resolvers: vec!["10.20.0.1".parse().unwrap()], search: Vec::new() };
        let of_cluster: [IpAddr; 4] =
            ["10.20.0.2", "10.20.0.1", "10.20.0.3", "10.20.0.4"].map(|one| one.parse().unwrap());
        let text = resolv_conf(&[said], &of_cluster);
        assert_eq!(text, "nameserver 10.20.0.1\nnameserver 10.20.0.2\nnameserver 10.20.0.3\n");
    }

    #[test]
    fn links_come_before_the_cluster_and_nothing_twice() {
        let link = |resolver: &str, domain: &str| Link {
            resolvers: vec![resolver.parse().unwrap()],
            search: vec![domain.to_owned(), "example".to_owned()],
            ..Link::default()
        };
        let links = [link("10.20.0.1", "harbor.example"), link("fd00::53", "example")];
        let of_cluster = ["10.20.0.1".parse().unwrap(), "10.20.0.2".parse().unwrap()];
        let text = resolv_conf(&[Said::by(&links)], &of_cluster);
        insta::assert_snapshot!(text, @r"
        nameserver 10.20.0.1
        nameserver fd00::53
        nameserver 10.20.0.2
        search harbor.example example
        ");
        assert!(resolv_conf(&[], &[]).starts_with('#'));
    }

    #[test]
    fn sources_are_put_together_in_their_order_whoever_comes_first() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let said = |address: &str, domain: &str| Said {
            resolvers: vec![address.parse().unwrap()],
            search: vec![domain.to_owned()],
        };
        let of_cluster = ["10.20.0.53".parse().unwrap()];
        let written = || fs::read_to_string(root.join("etc/resolv.conf")).unwrap();
        say(root, &of_lease(1), &said("10.9.0.2", "storage.example"), &of_cluster).unwrap();
        assert_eq!(written(), "nameserver 10.9.0.2\nnameserver 10.20.0.53\nsearch storage.example\n");
        say(root, &of_lease(0), &said("10.9.0.1", "lan.example"), &of_cluster).unwrap();
        say(root, DESCRIBED, &Said::default(), &of_cluster).unwrap();
        insta::assert_snapshot!(written(), @r"
        nameserver 10.9.0.1
        nameserver 10.9.0.2
        nameserver 10.20.0.53
        search lan.example storage.example
        ");
        say(root, &of_lease(0), &Said::default(), &of_cluster).unwrap();
        assert_eq!(written(), "nameserver 10.9.0.2\nnameserver 10.20.0.53\nsearch storage.example\n");
    }

    #[test]
    fn nothing_is_lost_when_several_speak_at_once() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        std::thread::scope(|scope| {
            for number in 0..3_u8 {
                scope.spawn(move || {
                    let resolvers = vec![IpAddr::from([10, 9, 0, number])];
                    let said = Said { resolvers, search: Vec::new() };
                    say(root, &of_lease(number.into()), &said, &[]).unwrap();
                });
            }
        });
        let written = fs::read_to_string(root.join("etc/resolv.conf")).unwrap();
        assert_eq!(written, "nameserver 10.9.0.0\nnameserver 10.9.0.1\nnameserver 10.9.0.2\n");
    }
}
