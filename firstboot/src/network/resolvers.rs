//! `/etc/resolv.conf` (resolv.conf(5)).

use std::net::IpAddr;

use bootwright_model::links::Link;

/// `MAXNS` of resolv.h: the C library reads no more, and the kubelet warns of each pod whose node has more.
const MOST_RESOLVERS: usize = 3;

/// The resolvers and search domains of the links as they are described, then the cluster file's, each once; of the
/// resolvers the first three.
pub fn resolv_conf(links: &[Link], of_cluster: &[IpAddr]) -> String {
    let mut text = String::new();
    let mut known = Vec::new();
    for address in links.iter().flat_map(|link| &link.resolvers).chain(of_cluster) {
        if known.len() < MOST_RESOLVERS && !known.contains(&address) {
            known.push(address);
            text += &format!("nameserver {address}\n");
        }
    }
    if text.is_empty() {
        text += "# the cluster file names no resolvers ([network] resolvers)\n";
    }
    let mut domains: Vec<&str> = Vec::new();
    for domain in links.iter().flat_map(|link| &link.search) {
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
        let link = Link { resolvers: vec!["10.20.0.1".parse().unwrap()], ..Link::default() };
        let of_cluster: [IpAddr; 4] =
            ["10.20.0.2", "10.20.0.1", "10.20.0.3", "10.20.0.4"].map(|one| one.parse().unwrap());
        let text = resolv_conf(&[link], &of_cluster);
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
        let text = resolv_conf(&links, &["10.20.0.1".parse().unwrap(), "10.20.0.2".parse().unwrap()]);
        insta::assert_snapshot!(text, @r"
        nameserver 10.20.0.1
        nameserver fd00::53
        nameserver 10.20.0.2
        search harbor.example example
        ");
        assert!(resolv_conf(&[], &[]).starts_with('#'));
    }
}
