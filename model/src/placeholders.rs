//! `{placeholders}` in a profile's services: the few facts of a node that a command needs.
//!
//! `{name}` is replaced, `{{` and `}}` stand for the braces themselves. The builder checks names when it
//! reads a profile, so that an image with a misspelt one is never made; first boot fills them in.

use crate::agent;
use crate::layout;
use crate::node::NodeFacts;

/// A placeholder: its name, what it stands for, and how it is read from the facts.
struct Placeholder {
    name: &'static str,
    meaning: &'static str,
    value: fn(&NodeFacts) -> String,
}

/// Sorted by name.
const PLACEHOLDERS: &[Placeholder] = &[
    Placeholder {
        name: "address",
        meaning: "the node's address without prefix length, of the primary family",
        value: |f| f.address.addr().to_string(),
    },
    Placeholder {
        name: "agent-health-port",
        meaning: "the port on 127.0.0.1 where the agent answers to /healthz",
        value: |_| agent::HEALTH_PORT.to_string(),
    },
    Placeholder { name: "cluster", meaning: "the cluster's name", value: |f| cluster(f).name.clone() },
    Placeholder {
        name: "cluster-pod-cidr",
        meaning: "the range that pod CIDRs are cut from; with a comma between them in a cluster of both families",
        value: |f| cluster(f).pod_cidr.to_string(),
    },
    Placeholder { name: "domain", meaning: "the cluster's DNS domain", value: |f| cluster(f).domain.clone() },
    Placeholder {
        name: "endpoint",
        meaning: "the fixed address of the API",
        value: |f| cluster(f).endpoint.to_string(),
    },
    Placeholder {
        name: "endpoint-port",
        meaning: "the port of the API server",
        value: |f| cluster(f).endpoint_port.to_string(),
    },
    Placeholder {
        name: "etc-kubernetes",
        meaning: "the folder of rendered configuration files",
        value: |_| layout::ETC_KUBERNETES.to_owned(),
    },
    Placeholder {
        name: "images-archive",
        meaning: "the archive of the images that the OS layer brings",
        value: |_| layout::IMAGES_ARCHIVE.to_owned(),
    },
    Placeholder {
        name: "kubernetes",
        meaning: "the Kubernetes version, without v",
        value: |f| f.os.kubernetes.clone(),
    },
    Placeholder { name: "link", meaning: "the link that carries the address", value: |f| f.link.clone() },
    Placeholder { name: "node", meaning: "the node's name", value: |f| f.name.clone() },
    Placeholder {
        name: "node-pki",
        meaning: "the folder of the node's certificates, keys and kubeconfigs",
        value: |_| layout::NODE_PKI.to_owned(),
    },
    Placeholder {
        name: "pause-image",
        meaning: "the reference of the pause image",
        value: |f| f.os.pause_image.clone(),
    },
    Placeholder {
        name: "pki",
        meaning: "the folder of the cluster's CA certificates and keys",
        value: |_| format!("{}/{}", layout::RUN_CLUSTER, layout::CLUSTER_PKI),
    },
    Placeholder {
        name: "pod-cidr",
        meaning: "the node's pod CIDR, in the same way; nothing on a machine of etcd",
        value: |f| f.pod_cidr.map(|ranges| ranges.to_string()).unwrap_or_default(),
    },
    Placeholder {
        name: "root-hash",
        meaning: "the root hash of the OS layer",
        value: |f| f.layer.root_hash.clone(),
    },
    Placeholder {
        name: "service-cidr",
        meaning: "the range of Service addresses, in the same way",
        value: |f| cluster(f).service_cidr.to_string(),
    },
];

fn cluster(facts: &NodeFacts) -> &crate::cluster::Cluster {
    &facts.layer.file.cluster
}

/// A text with placeholders that cannot be filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceholderError {
    /// A name that is not in [`names`].
    #[error("unknown placeholder {{{name}}} in {text:?}; known are {known}", known = known())]
    Unknown {
        /// What stands between the braces.
        name: String,
        /// The whole text.
        text: String,
    },
    /// `{` without `}`, or `}` without `{`.
    #[error("unpaired {brace:?} at character {at} of {text:?}; write it twice for the brace itself")]
    Unpaired {
        /// The brace.
        brace: char,
        /// Its position, counted in characters from 1.
        at: usize,
        /// The whole text.
        text: String,
    },
}

/// Every placeholder's name and meaning, sorted by name.
pub fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
    PLACEHOLDERS.iter().map(|p| (p.name, p.meaning))
}

fn known() -> String {
    names().map(|(name, _)| name).collect::<Vec<_>>().join(", ")
}

/// Checks that every placeholder of `text` exists.
pub fn check(text: &str) -> Result<(), PlaceholderError> {
    replace(text, |_| String::new()).map(drop)
}

/// Replaces the placeholders of `text` by the node's facts.
pub fn expand(text: &str, facts: &NodeFacts) -> Result<String, PlaceholderError> {
    replace(text, |placeholder| (placeholder.value)(facts))
}

fn replace(text: &str, value: impl Fn(&Placeholder) -> String) -> Result<String, PlaceholderError> {
    let unpaired = |brace, at| PlaceholderError::Unpaired { brace, at: at + 1, text: text.to_owned() };
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().enumerate().peekable();
    while let Some((at, character)) = characters.next() {
        match character {
            '{' | '}' if characters.next_if(|(_, next)| *next == character).is_some() => out.push(character),
            '{' => {
                let mut name = String::new();
                loop {
                    match characters.next() {
                        Some((_, '}')) => break,
                        Some((_, '{')) | None => return Err(unpaired('{', at)),
                        Some((_, c)) => name.push(c),
                    }
                }
                let Some(placeholder) = PLACEHOLDERS.iter().find(|p| p.name == name) else {
                    return Err(PlaceholderError::Unknown { name, text: text.to_owned() });
                };
                out.push_str(&value(placeholder));
            }
            '}' => return Err(unpaired('}', at)),
            _ => out.push(character),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn facts() -> NodeFacts {
        serde_json::from_value(serde_json::json!({
            "name": "cp1", "address": "10.20.0.10/24", "gateway": null, "link": "eth0",
            "pod-cidr": "10.10.0.0/24",
            "layer": {
                "file": {
                    "cluster": { "name": "harbor", "endpoint": "10.20.0.10", "pod-cidr": "10.10.0.0/16",
                                 "service-cidr": "10.96.0.0/16" },
                    "kubernetes": { "version": "1.20.2" }
                },
                "role": "all-in-one", "epoch": 0, "root-hash": "abcd"
            },
            "os": { "kernel-release": "6.1.0", "kubernetes": "1.20.2", "containerd": "1.6.20",
                    "etcd": "3.4.23", "pause-image": "bootwright.local/pause:1", "images": [] }
        }))
        .unwrap()
    }

    #[test]
    fn every_placeholder_has_a_value() {
        let all: Vec<String> = names()
            .map(|(name, _)| format!("{name}={}", expand(&format!("{{{name}}}"), &facts()).unwrap()))
            .collect();
        insta::assert_snapshot!(all.join("\n"), @r#"
        address=10.20.0.10
        agent-health-port=7444
        cluster=harbor
        cluster-pod-cidr=10.10.0.0/16
        domain=cluster.local
        endpoint=10.20.0.10
        endpoint-port=6443
        etc-kubernetes=/etc/kubernetes
        images-archive=/usr/lib/bootwright/images.tar
        kubernetes=1.20.2
        link=eth0
        node=cp1
        node-pki=/var/lib/bootwright/pki
        pause-image=bootwright.local/pause:1
        pki=/run/bootwright/cluster/pki
        pod-cidr=10.10.0.0/24
        root-hash=abcd
        service-cidr=10.96.0.0/16
        "#);
    }

    #[test]
    fn text_around_stays_and_double_braces_are_braces() {
        assert_eq!(expand("--name={node},{{\"a\":1}}", &facts()).unwrap(), "--name=cp1,{\"a\":1}");
    }

    #[test]
    fn faults_name_the_placeholder_and_the_text() {
        let message = check("--x={nod}").unwrap_err().to_string();
        assert!(
            message.contains("{nod}") && message.contains("--x={nod}") && message.contains("pod-cidr"),
            "{message}"
        );
        assert_eq!(
            check("a{node").unwrap_err(),
            PlaceholderError::Unpaired { brace: '{', at: 2, text: "a{node".into() }
        );
        assert_eq!(
            check("é}").unwrap_err(),
            PlaceholderError::Unpaired { brace: '}', at: 2, text: "é}".into() }
        );
    }

    #[test]
    fn the_table_is_sorted_and_without_duplicates() {
        let all: Vec<_> = names().map(|(name, _)| name).collect();
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]));
    }

    proptest! {
        /// Whatever a profile says, there is an answer; and what `check` accepts, `expand` fills in.
        #[test]
        fn never_panics_and_check_agrees_with_expand(text in "[a-z{}é-]{0,24}|\\{[a-z-]{1,12}\\}") {
            prop_assert_eq!(check(&text).is_ok(), expand(&text, &facts()).is_ok());
        }

        #[test]
        fn escaped_text_comes_back(text in "\\PC{0,40}") {
            let escaped = text.replace('{', "{{").replace('}', "}}");
            prop_assert_eq!(expand(&escaped, &facts()).unwrap(), text);
        }
    }
}
