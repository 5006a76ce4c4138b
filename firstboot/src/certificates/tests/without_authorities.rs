//! A node without authorities: what it asks for, and what of an earlier life it lets go.

use super::*;

/// A worker of the cluster of [`Node`], which has the authority's certificate and no key.
fn worker(node: &Node) -> NodeFacts {
    let roots = node.roots();
    for name in [pki::FRONT_PROXY_CA, pki::ETCD_CA] {
        fs::remove_file(roots.cluster_pki.join(pki::certificate(name))).unwrap();
        fs::remove_file(roots.cluster_pki.join(pki::key(name))).unwrap();
    }
    let mut facts = node.facts.clone();
    facts.name = "w1".to_owned();
    facts.layer.role = "worker".to_owned();
    facts
}

/// Gives the kubelet a certificate as the controller manager would; of `user`.
fn give(node: &Node, user: &str) {
    let roots = node.roots();
    let authority = fs::read_to_string(roots.cluster_pki.join(pki::certificate(pki::CA))).unwrap();
    let key = fs::read_to_string(roots.cluster_pki.join(pki::key(pki::CA))).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&authority, KeyPair::from_pem(&key).unwrap()).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, user);
    let own = KeyPair::generate().unwrap();
    let pem = params.signed_by(&own, &issuer).unwrap().pem() + &own.serialize_pem();
    fs::create_dir_all(&roots.kubelet_pki).unwrap();
    fs::write(roots.kubelet_pki.join(pki::KUBELET_CLIENT_CURRENT), pem).unwrap();
}

#[test]
fn a_worker_issues_nothing_and_asks() {
    let node = Node::new();
    let facts = worker(&node);
    let key = fs::read(node.roots().cluster_pki.join(pki::key(pki::CA))).unwrap();
    fs::remove_file(node.roots().cluster_pki.join(pki::key(pki::CA))).unwrap();
    let line = joined::ensure(&node.roots(), &facts, NOW).unwrap();
    assert_eq!(line, "the kubelet asks with the bootstrap token");
    let mut names: Vec<_> = fs::read_dir(node.roots().node_pki)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["agent.conf", "kubelet-bootstrap.conf", "kubelet-client.conf", "proxy.conf"]);
    for name in names {
        let path = node.path(&name);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(fs::read_to_string(&path).unwrap().contains("\"https://127.0.0.1:7443\""));
    }
    assert!(clock_floor(&node.roots().cluster_pki).unwrap() > 0);
    assert_eq!(ensure(&node.roots(), &facts, NOW).unwrap(), Issued::default());
    fs::write(node.roots().cluster_pki.join(pki::key(pki::CA)), key).unwrap();
    give(&node, "system:node:w1");
    assert_eq!(joined::ensure(&node.roots(), &facts, NOW).unwrap(), "the kubelet has its own");
}

#[test]
fn what_a_kubelet_cannot_get_over_is_removed() {
    let node = Node::new();
    let facts = worker(&node);
    let told = || joined::ensure(&node.roots(), &facts, NOW).unwrap();
    let path = node.roots().kubelet_pki.join(pki::KUBELET_CLIENT_CURRENT);
    give(&node, "system:node:w2");
    let line = told();
    let reason = "for another node; if this machine is w2 no more, run \"kubectl delete node w2\"";
    assert!(line.ends_with(&format!("kubelet-client-current.pem removed: {reason}")), "{line}");
    give(&node, "somebody");
    assert!(told().ends_with("kubelet-client-current.pem removed: for another node"));
    assert!(!path.exists());
    give(&node, "system:node:w1");
    let whole = fs::read(&path).unwrap();
    for damaged in [&whole[..0], &whole[..whole.len() / 2]] {
        fs::write(&path, damaged).unwrap();
        assert!(told().ends_with("kubelet-client-current.pem removed: damaged"));
    }
    fs::write(&path, &whole).unwrap();
    node.make_authority(pki::CA, AUTHORITY);
    assert!(told().ends_with("removed: signed by another authority"));
}
