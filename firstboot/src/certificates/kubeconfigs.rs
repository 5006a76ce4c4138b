//! kubeconfigs of this node's own programs.

use std::net::Ipv4Addr;
use std::path::Path;

use bootwright_model::agent;
use bootwright_model::kubernetes::kubeconfig::{Kubeconfig, Pem};
use bootwright_model::kubernetes::{api_server, pki};
use bootwright_model::node::NodeFacts;

use super::Roots;
use super::profiles::Profile;

/// File name and contents of each. They name the certificate's files instead of carrying them, so that
/// clients see a renewed one.
pub(super) fn all(roots: &Roots, facts: &NodeFacts, profiles: &[Profile]) -> Vec<(String, String)> {
    let cluster = &facts.layer.file.cluster;
    // The agent goes by its own balancer, which stands before all control planes: it goes on when this one does not.
    let server = |name: &str| match name {
        pki::AGENT => format!("https://{}:{}", Ipv4Addr::LOCALHOST, agent::BALANCER_PORT),
        _ => format!("https://{}", api_server(facts)),
    };
    let authority = text(&roots.cluster_pki.join(pki::certificate(pki::CA)));
    profiles
        .iter()
        .filter(|profile| profile.kubeconfig)
        .map(|profile| {
            let config = Kubeconfig {
                cluster: &cluster.name,
                server: &server(profile.name),
                authority: Pem::File(&authority),
                user: &profile.common_name,
                certificate: Pem::File(&text(&roots.node_pki.join(pki::certificate(profile.name)))),
                key: Pem::File(&text(&roots.node_pki.join(pki::key(profile.name)))),
            };
            (pki::kubeconfig(profile.name), config.render())
        })
        .collect()
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
