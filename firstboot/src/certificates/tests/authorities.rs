//! The authorities that leaves are issued from: damaged, too young for the clock, made by other programs.

use super::*;

/// The last line that a person sees, causes included.
fn message(error: &dyn std::error::Error, folder: &Path) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text.replace(folder.to_str().unwrap(), "")
}

#[test]
fn bad_authorities_say_what_to_do() {
    let failure = |break_it: &dyn Fn(&Node)| {
        let node = Node::new();
        break_it(&node);
        message(&node.ensure().unwrap_err(), node.folder.path())
    };
    let file = |node: &Node, name: &str| node.roots().cluster_pki.join(name);
    insta::assert_snapshot!(failure(&|node| fs::remove_file(file(node, "ca.key")).unwrap()), @"/run/bootwright/cluster/pki/ca.key is missing, and every certificate hangs on it; build the image again, with secrets = \"baked\"");
    insta::assert_snapshot!(failure(&|node| fs::write(file(node, "etcd-ca.crt"), "hello").unwrap()), @"/run/bootwright/cluster/pki/etcd-ca.crt is no certificate of an authority (no PEM block); put the cluster's secrets folder right and build the image again");
    insta::assert_snapshot!(failure(&|node| { fs::copy(file(node, "etcd-ca.key"), file(node, "ca.key")).unwrap(); }), @"/run/bootwright/cluster/pki/ca.key is not the key of /run/bootwright/cluster/pki/ca.crt; put the cluster's secrets folder right and build the image again");
    insta::assert_snapshot!(failure(&|node| node.make_authority("ca", (EPOCH - DAY, NOW))), @"/run/bootwright/cluster/pki/ca.crt expired at Nov 23 00:00:00 2026 +00:00; the clock says Nov 23 00:00:00 2026 +00:00: set the clock, or renew the authority and build the image again");
    insta::assert_snapshot!(failure(&|node| node.make_authority("ca", (NOW + 1, NOW + DAY))), @"/run/bootwright/cluster/pki/ca.crt is valid from Nov 23 00:00:01 2026 +00:00; the clock says Nov 23 00:00:00 2026 +00:00: set the hardware clock");
    let unwritable = failure(&|node| {
        fs::create_dir_all(node.roots().node_pki.parent().unwrap()).unwrap();
        fs::write(node.roots().node_pki, "a file").unwrap();
    });
    insta::assert_snapshot!(unwritable, @"cannot write /var/lib/bootwright/pki: File exists (os error 17)");
}

#[test]
fn the_clock_must_have_reached_the_youngest_authority() {
    let node = Node::new();
    node.make_authority(pki::ETCD_CA, (EPOCH + 7, NOW + DAY));
    assert_eq!(clock_floor(&node.roots().cluster_pki).unwrap(), EPOCH + 7);
}

/// Authorities that somebody made with openssl: RSA, and with a subject in PrintableString.
#[test]
fn foreign_authorities_sign_too() {
    let node = Node::new();
    let folder = node.folder.path().to_str().unwrap();
    let (key, certificate) = (format!("{folder}/own.key"), format!("{folder}/own.crt"));
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "36500",
        "-subj",
        "/O=Harbor Works/CN=own authority",
        "-keyout",
        &key,
        "-out",
        &certificate,
        "-addext",
        "keyUsage=critical,keyCertSign,cRLSign",
    ]);
    node.write_authority(
        "ca",
        &fs::read_to_string(&certificate).unwrap(),
        &fs::read_to_string(&key).unwrap(),
    );
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().max(NOW);
    ensure(&node.roots(), &node.facts, now).unwrap();
    assert!(node.reasons(now).is_empty());
    let leaf = node.path("apiserver.crt");
    openssl(&[
        "verify",
        "-x509_strict",
        "-attime",
        &now.to_string(),
        "-CAfile",
        &certificate,
        leaf.to_str().unwrap(),
    ]);
}
