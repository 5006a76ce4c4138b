//! A node without authorities: it issues nothing. Its kubelet asks for certificates and renews them; here stand
//! the kubeconfigs that say where and with what, and what the kubelet could not get over by itself is removed.

use std::fs;
use std::path::Path;

use bootwright_model::kubernetes::kubeconfig::{Kubeconfig, Pem, TokenKubeconfig};
use bootwright_model::kubernetes::{api_server, pki};
use bootwright_model::node::NodeFacts;
use x509_parser::prelude::Pem as PemBlock;

use super::authority::Trusted;
use super::{CertificatesError, Roots, files};

/// Certificate and key of the kubelet as a client, and as a server.
const GIVEN: [&str; 2] = [pki::KUBELET_CLIENT_CURRENT, "kubelet-server-current.pem"];

/// Begins the name that a node has as a user of the API.
const USER: &str = "system:node:";

/// Makes the node ready to ask, at `now` (seconds since the Unix epoch); one line for the report.
pub(super) fn ensure(roots: &Roots, facts: &NodeFacts, now: u64) -> Result<String, CertificatesError> {
    let authority = Trusted::load(&roots.cluster_pki, pki::CA, now)?;
    let user = format!("{USER}{}", facts.name);
    let mut removed = Vec::new();
    for name in GIVEN {
        let path = roots.kubelet_pki.join(name);
        if let Some(reason) = unusable(&path, &facts.name, &authority)? {
            fs::remove_file(&path)
                .map_err(|source| CertificatesError::Write { path: path.clone(), source })?;
            removed.push(format!("{name} removed: {reason}"));
        }
    }
    files::make_private_folder(&roots.node_pki)?;
    let mut batch = files::Batch::new(&roots.node_pki);
    for (name, contents) in kubeconfigs(roots, facts, &user) {
        batch.write_if_different(&pki::kubeconfig(name), contents.as_bytes(), 0o600)?;
    }
    batch.commit()?;
    let has_one = roots.kubelet_pki.join(pki::KUBELET_CLIENT_CURRENT).exists();
    let state = if has_one { "the kubelet has its own" } else { "the kubelet asks with the bootstrap token" };
    Ok(std::iter::once(state.to_owned()).chain(removed).collect::<Vec<_>>().join("; "))
}

fn kubeconfigs(roots: &Roots, facts: &NodeFacts, user: &str) -> [(&'static str, String); 4] {
    let cluster = &facts.layer.file.cluster.name;
    let server = format!("https://{}", api_server(facts));
    let text = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
    let authority = text(roots.cluster_pki.join(pki::certificate(pki::CA)));
    let given = text(roots.kubelet_pki.join(pki::KUBELET_CLIENT_CURRENT));
    let token_file = text(roots.cluster_pki.join(pki::BOOTSTRAP_TOKEN));
    let as_node = Kubeconfig {
        cluster,
        server: &server,
        authority: Pem::File(&authority),
        user,
        certificate: Pem::File(&given),
        key: Pem::File(&given),
    };
    let bootstrap = TokenKubeconfig {
        cluster,
        server: &server,
        authority: Pem::File(&authority),
        user: "bootstrap",
        token_file: &token_file,
    };
    [
        // The kubelet would write it as well, and keep an old server in it.
        (pki::KUBELET_CLIENT, as_node.render()),
        (pki::PROXY, as_node.render()),
        (pki::AGENT, as_node.render()),
        (pki::KUBELET_BOOTSTRAP, bootstrap.render()),
    ]
}

/// Why the kubelet could do nothing with what it was given: it ends when the file is damaged, and never asks
/// again by itself when it is of another cluster or node. One that has expired it renews.
fn unusable(path: &Path, node: &str, authority: &Trusted) -> Result<Option<String>, CertificatesError> {
    let Some(bytes) = files::read(path)? else { return Ok(None) };
    let blocks: Vec<PemBlock> = PemBlock::iter_from_buffer(&bytes).filter_map(Result::ok).collect();
    let has_key = blocks.iter().any(|block| block.label.ends_with("PRIVATE KEY"));
    let first = blocks.iter().find(|block| block.label == "CERTIFICATE");
    let Some(certificate) = first.and_then(|block| block.parse_x509().ok()).filter(|_| has_key) else {
        return Ok(Some("damaged".to_owned()));
    };
    let name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    if !authority.signed(&certificate) {
        return Ok(Some("signed by another authority".to_owned()));
    }
    Ok(match name.and_then(|name| name.strip_prefix(USER)) {
        Some(name) if name == node => None,
        // Its Node would keep this machine's address and range from it.
        Some(before) => Some(format!(
            "for another node; if this machine is {before} no more, run \"kubectl delete node {before}\""
        )),
        None => Some("for another node".to_owned()),
    })
}
