//! Where a node's time comes from.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::cluster::ClusterFile;
use crate::kubernetes::{control_planes, is_control_plane};

/// Longest name (RFC 1035, section 2.3.4).
const NAME_BYTES: usize = 253;
/// Longest label of a name (RFC 1035, section 2.3.4).
const LABEL_BYTES: usize = 63;

/// NTP servers of a node of this role: those that its seed names, an empty list included; else with `clock.serve` the
/// control planes, for every node that is none of them; else those of the cluster file, or, if it names none, those that
/// came with the node's address (`lent`).
pub fn servers(
    file: &ClusterFile,
    role: &str,
    seeded: Option<Vec<String>>,
    lent: Vec<String>,
) -> Vec<String> {
    if let Some(seeded) = seeded {
        return seeded;
    }
    if file.clock.serve && !is_control_plane(role) {
        return control_planes(file).map(|node| node.address.addr().to_string()).collect();
    }
    if file.clock.servers.is_empty() { lent } else { file.clock.servers.clone() }
}

/// Networks that control planes give the time to: those of all nodes, in the order of the cluster file.
pub fn served_networks(file: &ClusterFile) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for network in file.nodes.iter().flat_map(|node| node.address.iter()).map(|address| address.trunc()) {
        if !networks.contains(&network) {
            networks.push(network);
        }
    }
    networks
}

/// Whether this is an address or a host name: it becomes a word of chrony's configuration.
pub fn is_server(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let label = |label: &str| {
        (1..=LABEL_BYTES).contains(&label.len())
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.parse::<IpAddr>().is_ok() || (text.len() <= NAME_BYTES && text.split('.').all(label))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(clock: &str) -> ClusterFile {
        let node = |name: &str, role: &str, address: &str| {
            format!("[[node]]\nname = '{name}'\nrole = '{role}'\naddress = {address}\n")
        };
        let nodes = [
            node("cp1", "control-plane", "['10.20.0.10/24', 'fd00:20::10/64']"),
            node("cp2", "control-plane", "['10.20.0.11/24', 'fd00:20::11/64']"),
            node("w1", "worker", "['10.21.0.20/24', 'fd00:21::20/64']"),
        ];
        let text = format!(
            "[cluster]\nname = 'harbor'\nendpoint = '10.20.0.10'\npod-cidr = ['10.10.0.0/16', 'fd00:10::/56']\n\
             service-cidr = ['10.96.0.0/16', 'fd00:96::/112']\n[kubernetes]\nversion = '1.20.2'\n[clock]\n{clock}\n{}",
            nodes.concat()
        );
        toml::from_str(&text).unwrap()
    }

    #[test]
    fn the_nearest_source_names_the_servers() {
        let servers = |file: &ClusterFile, role: &str, seeded: Option<Vec<String>>| {
            servers(file, role, seeded, vec!["10.0.0.9".to_owned()])
        };
        assert_eq!(servers(&file(""), "worker", None), ["10.0.0.9"]);
        assert_eq!(servers(&file(""), "worker", Some(Vec::new())), [""; 0]);
        let plain = file("servers = ['ntp.harbor.example']");
        assert_eq!(servers(&plain, "worker", None), ["ntp.harbor.example"]);
        assert_eq!(servers(&plain, "worker", Some(vec!["10.0.0.1".into()])), ["10.0.0.1"]);
        assert_eq!(servers(&plain, "worker", Some(Vec::new())), [""; 0]);
        let serving = file("servers = ['ntp.harbor.example']\nserve = true");
        assert_eq!(servers(&serving, "control-plane", None), ["ntp.harbor.example"]);
        assert_eq!(servers(&serving, "worker", None), ["10.20.0.10", "10.20.0.11"]);
        assert_eq!(servers(&serving, "etcd", None), ["10.20.0.10", "10.20.0.11"]);
        assert_eq!(servers(&serving, "worker", Some(vec!["10.0.0.1".into()])), ["10.0.0.1"]);
    }

    #[test]
    fn time_is_for_the_networks_of_nodes() {
        let networks: Vec<String> = served_networks(&file("")).iter().map(ToString::to_string).collect();
        assert_eq!(networks, ["10.20.0.0/24", "fd00:20::/64", "10.21.0.0/24", "fd00:21::/64"]);
    }

    #[test]
    fn nothing_that_chrony_would_read_otherwise_is_a_server() {
        for good in ["10.0.0.1", "fd00::1", "ntp", "0.pool.example.org"] {
            assert!(is_server(good), "{good}");
        }
        for bad in ["", "a b", "a\nallow", "a.", "-a", "A", "ntp://a", "a#", &"a.".repeat(130)] {
            assert!(!is_server(bad), "{bad}");
        }
    }
}
