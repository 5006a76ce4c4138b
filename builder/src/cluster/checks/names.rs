//! Names: of the cluster, its nodes, its domain, its API, labels.

use std::net::IpAddr;

use bootwright_model::cluster::ClusterFile;

use super::{cluster, duplicates, node};
use crate::cluster::text::finding::{Finding, KeyPath};

/// Longest label of a name (RFC 1123, section 2.1, and RFC 1035, section 2.3.4).
const LABEL_BYTES: usize = 63;
/// Longest name (RFC 1035, section 2.3.4).
const NAME_BYTES: usize = 253;
/// Label keys below `kubernetes.io` and `k8s.io` that a kubelet may give its own node; it ends with an
/// error on any other (kubelet option `--node-labels`).
const KUBELET_LABELS: [&str; 10] = [
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/zone",
];

pub fn check(file: &ClusterFile, findings: &mut Vec<Finding>) {
    label(cluster("name"), "cluster name", &file.cluster.name, findings);
    domain(&file.cluster.domain, findings);
    endpoint_names(file, findings);
    for (index, one) in file.nodes.iter().enumerate() {
        label(node(index, "name"), "node name", &one.name, findings);
        for (key, value) in &one.labels {
            node_label(&node(index, "labels").key(key), key, value, findings);
        }
    }
}

/// A name that becomes a host name, a folder, a Kubernetes object.
pub(super) fn label(path: KeyPath, what: &str, name: &str, findings: &mut Vec<Finding>) {
    if let Err(why) = dns_label(name) {
        findings.push(
            Finding::new("name", format!("{what} \"{name}\" {why}"))
                .at_value(path, "not a host name label")
                .help("use 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends (RFC 1123)"),
        );
    }
}

fn domain(name: &str, findings: &mut Vec<Finding>) {
    if let Err(why) = dns_name(name) {
        findings.push(
            Finding::new("domain", format!("cluster domain \"{name}\" {why}"))
                .at_value(cluster("domain"), "not a domain name")
                .help("write labels of a-z, 0-9 and '-' joined by dots, without one at the end: \"cluster.local\""),
        );
    }
}

fn endpoint_names(file: &ClusterFile, findings: &mut Vec<Finding>) {
    let names = &file.cluster.endpoint_names;
    for (index, name) in names.iter().enumerate() {
        let path = cluster("endpoint-names").index(index);
        if name.parse::<IpAddr>().is_ok() {
            continue;
        }
        if let Err(why) = dns_name(name) {
            findings.push(
                Finding::new("endpoint-name", format!("endpoint name \"{name}\" {why}"))
                    .at_value(path, "neither a host name nor an address")
                    .help("write a name as clients spell it, without scheme or port, in lower case, or an address"),
            );
        }
    }
    duplicates(names.iter().map(Some), |first, second, name| {
        findings.push(
            Finding::new("duplicate-endpoint-name", format!("endpoint name \"{name}\" is written twice"))
                .at_value(cluster("endpoint-names").index(second), "again")
                .at_value(cluster("endpoint-names").index(first), "first here")
                .help("leave one of them out"),
        );
    });
}

/// Label syntax: <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/>.
fn node_label(path: &KeyPath, key: &str, value: &str, findings: &mut Vec<Finding>) {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let prefix_is_good = prefix.is_none_or(|prefix| dns_name(prefix).is_ok());
    if !prefix_is_good || name.is_empty() || !is_label_text(name) {
        findings.push(
            Finding::new("node-label", format!("\"{key}\" is not a label key"))
                .at_key(path.clone(), "not a label key")
                .help("write `name` or `\"domain/name\"`, the name of up to 63 letters, digits, '-', '_' and '.'"),
        );
    }
    if !is_label_text(value) {
        findings.push(
            Finding::new("node-label", format!("\"{value}\" is not a label value"))
                .at_value(path.clone(), "not a label value")
                .help(
                    "write up to 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends",
                ),
        );
    }
    if prefix.is_some_and(is_reserved_prefix) && !KUBELET_LABELS.contains(&key) {
        findings.push(
            Finding::new("reserved-label", format!("a node may not give itself the label \"{key}\""))
                .at_key(path.clone(), "reserved for Kubernetes")
                .help("use a domain of your own, or node.kubernetes.io/…; role labels are set with `kubectl label`"),
        );
    }
}

fn is_reserved_prefix(prefix: &str) -> bool {
    let reserved = |domain: &str| prefix == domain || prefix.ends_with(&format!(".{domain}"));
    let open = ["kubelet.kubernetes.io", "node.kubernetes.io"];
    let is_open = open.iter().any(|domain| prefix == *domain || prefix.ends_with(&format!(".{domain}")));
    (reserved("kubernetes.io") || reserved("k8s.io")) && !is_open
}

fn is_label_text(text: &str) -> bool {
    let end = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= LABEL_BYTES
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
        && end(bytes.first())
        && end(bytes.last())
}

/// Whether a host name label, and why not.
pub fn dns_label(text: &str) -> Result<(), &'static str> {
    let end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    if bytes.is_empty() {
        Err("is empty")
    } else if bytes.len() > LABEL_BYTES {
        Err("is longer than 63 bytes")
    } else if bytes.iter().any(u8::is_ascii_uppercase) {
        Err("has capital letters")
    } else if !bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-') {
        Err("has characters that a host name cannot have")
    } else if !end(bytes.first()) || !end(bytes.last()) {
        Err("begins or ends with '-'")
    } else {
        Ok(())
    }
}

/// Whether a host name of one or more labels, and why not.
pub fn dns_name(text: &str) -> Result<(), &'static str> {
    if text.len() > NAME_BYTES {
        return Err("is longer than 253 bytes");
    }
    if text.is_empty() {
        return Err("is empty");
    }
    text.split('.').try_for_each(|label| match dns_label(label) {
        Err("is empty") => Err("has a dot at an end, or two in a row"),
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_rfc_1123() {
        for good in ["a", "1", "cp-1", &"x".repeat(63)] {
            assert_eq!(dns_label(good), Ok(()), "{good}");
        }
        for bad in ["", "-a", "a-", "a.b", "A", "ä", "a_b", "a b", &"x".repeat(64)] {
            assert!(dns_label(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_are_labels_between_dots() {
        assert_eq!(dns_name("cluster.local"), Ok(()));
        for bad in ["", ".", "a.", ".a", "a..b", "a.B", &"a.".repeat(130)] {
            assert!(dns_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn reserved_label_prefixes() {
        assert!(is_reserved_prefix("node-role.kubernetes.io"));
        assert!(is_reserved_prefix("k8s.io"));
        assert!(!is_reserved_prefix("node.kubernetes.io"));
        assert!(!is_reserved_prefix("x.kubelet.kubernetes.io"));
        assert!(!is_reserved_prefix("example.org"));
        assert!(!is_reserved_prefix("notkubernetes.io"));
    }
}
