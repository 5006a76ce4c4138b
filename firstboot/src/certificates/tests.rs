//! Certificates against the `openssl` program, and every reason to issue one again.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose};

use super::profiles::{Name, Usage};
use super::*;

mod authorities;
mod without_authorities;

/// 23 November 2026, a day after the image was built.
const NOW: u64 = 1_795_392_000;
const EPOCH: u64 = NOW - DAY;

/// Ten years of an authority around [`NOW`].
const AUTHORITY: (u64, u64) = (EPOCH - 2 * DAY, NOW + 3650 * DAY);

struct Node {
    folder: tempfile::TempDir,
    facts: NodeFacts,
}

impl Node {
    fn new() -> Node {
        let node = Node { folder: tempfile::tempdir().unwrap(), facts: facts() };
        for name in [pki::CA, pki::FRONT_PROXY_CA, pki::ETCD_CA] {
            node.make_authority(name, AUTHORITY);
        }
        node
    }

    fn roots(&self) -> Roots {
        Roots::below(self.folder.path())
    }

    fn make_authority(&self, name: &str, (not_before, not_after): (u64, u64)) {
        let time =
            |seconds| time::OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).unwrap()).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = time(not_before);
        params.not_after = time(not_after);
        let key = KeyPair::generate().unwrap();
        self.write_authority(name, &params.self_signed(&key).unwrap().pem(), &key.serialize_pem());
    }

    fn write_authority(&self, name: &str, certificate: &str, key: &str) {
        let folder = self.roots().cluster_pki;
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(pki::certificate(name)), certificate).unwrap();
        fs::write(folder.join(pki::key(name)), key).unwrap();
    }

    fn ensure(&self) -> Result<Issued, CertificatesError> {
        ensure(&self.roots(), &self.facts, NOW)
    }

    fn path(&self, file: &str) -> std::path::PathBuf {
        self.roots().node_pki.join(file)
    }

    /// The reasons given for `name` after something was done to an otherwise good node.
    fn reasons(&self, now: u64) -> Vec<(&'static str, Reason)> {
        let due = renew_due(&self.roots(), &self.facts, now).unwrap();
        due.into_iter().map(|reissue| (reissue.name, reissue.reason)).collect()
    }
}

fn facts() -> NodeFacts {
    let file = r#"{
        "cluster": { "name": "harbor", "endpoint": "10.20.0.100", "endpoint-names": ["api.harbor.example", "192.0.2.7"],
                     "pod-cidr": "10.10.0.0/16", "service-cidr": "10.96.0.0/16" },
        "kubernetes": { "version": "1.20.2" },
        "node": [{ "name": "cp1", "role": "all-in-one", "address": "10.20.0.10/24" }]
    }"#;
    serde_json::from_str(&format!(
        r#"{{ "name": "cp1", "address": "10.20.0.10/24", "gateway": null, "link": "eth0", "pod-cidr": "10.10.0.0/24",
             "layer": {{ "file": {file}, "role": "all-in-one", "epoch": {EPOCH}, "root-hash": "" }},
             "os": {{ "kernel-release": "", "kubernetes": "1.20.2", "containerd": "1.6.20", "etcd": "3.4.23",
                      "pause-image": "", "images": [] }} }}"#
    ))
    .unwrap()
}

fn openssl(arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).output().expect("openssl is needed by this test");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "openssl {arguments:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// A machine of etcd holds one authority, and a control plane beside it has no member's certificates.
#[test]
fn a_machine_of_etcd_issues_its_members_certificates_alone() {
    let mut node = Node { folder: tempfile::tempdir().unwrap(), facts: facts() };
    node.make_authority(pki::ETCD_CA, AUTHORITY);
    let own = bootwright_model::cluster::Node {
        name: "e1".to_owned(),
        role: "etcd".to_owned(),
        address: "10.20.0.21/24".parse().unwrap(),
        ..node.facts.layer.file.nodes[0].clone()
    };
    node.facts.layer.file.nodes.push(own.clone());
    let names = |facts: &NodeFacts| -> Vec<&str> {
        profiles::all(facts).unwrap().iter().map(|profile| profile.name).collect()
    };
    let plane = names(&node.facts);
    assert!(plane.contains(&pki::APISERVER_ETCD_CLIENT) && !plane.contains(&pki::ETCD_PEER), "{plane:?}");

    (node.facts.name, node.facts.address, node.facts.layer.role) = (own.name, own.address, own.role);
    let member = [pki::ETCD_SERVER, pki::ETCD_PEER, pki::ETCD_HEALTH_CLIENT];
    assert_eq!(names(&node.facts), member);
    assert_eq!(node.ensure().unwrap().issued.len(), 3);
    assert_eq!(node.ensure().unwrap(), Issued { reused: 3, issued: Vec::new() });
    for name in member {
        let certificate = node.path(&pki::certificate(name));
        let authority = node.roots().cluster_pki.join("etcd-ca.crt");
        openssl(&["verify", "-CAfile", authority.to_str().unwrap(), certificate.to_str().unwrap()]);
    }
    let mut files: Vec<String> = fs::read_dir(node.roots().node_pki)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    files.retain(|file| !file.starts_with("etcd-"));
    assert_eq!(files, [] as [&str; 0], "no kubeconfig");
}

#[test]
fn the_table() {
    let lines: Vec<String> = profiles::all(&facts())
        .unwrap()
        .iter()
        .map(|profile| {
            let names: Vec<String> = profile.names.iter().map(Name::to_string).collect();
            format!(
                "{} ({}): CN={} O={} {:?}{}{} [{}]",
                profile.name,
                profile.authority,
                profile.common_name,
                profile.organization.unwrap_or("-"),
                profile.usage,
                if profile.kubeconfig { " kubeconfig" } else { "" },
                if profile.restart.is_empty() {
                    String::new()
                } else {
                    format!(" restart {:?}", profile.restart)
                },
                names.join(" ")
            )
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn servers_of_a_node_of_both_families_are_good_for_its_addresses_of_both() {
    let mut facts = facts();
    facts.address = "10.20.0.10/24,fd00:20::10/64".parse().unwrap();
    facts.layer.file.cluster.service_cidr = "10.96.0.0/16,fd00:96::/112".parse().unwrap();
    let profiles = profiles::all(&facts).unwrap();
    let addresses = |name: &str| -> Vec<String> {
        let profile = profiles.iter().find(|profile| profile.name == name).unwrap();
        let addresses = profile.names.iter().filter(|name| matches!(name, Name::Ip(_)));
        addresses.map(Name::to_string).collect()
    };
    for name in [pki::APISERVER, pki::ETCD_SERVER, pki::ETCD_PEER, pki::KUBELET_SERVER] {
        let addresses = addresses(name);
        assert!(
            ["10.20.0.10", "fd00:20::10"].iter().all(|one| addresses.iter().any(|a| a.contains(one))),
            "{name}"
        );
    }
    let services = addresses(pki::APISERVER);
    assert!(
        ["10.96.0.1", "fd00:96::1"].iter().all(|one| services.iter().any(|a| a.contains(one))),
        "{services:?}"
    );
}

#[test]
fn openssl_accepts_every_certificate_for_its_purpose_and_no_other() {
    let node = Node::new();
    assert_eq!(node.ensure().unwrap().issued.len(), 16);
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let at = NOW.to_string();
    for profile in profiles::all(&node.facts).unwrap() {
        let certificate = text(&node.path(&pki::certificate(profile.name)));
        let verify = |authority: &str, purpose: &str| {
            let authority = text(&node.roots().cluster_pki.join(pki::certificate(authority)));
            let mut command = Command::new("openssl");
            command.args([
                "verify",
                "-x509_strict",
                "-attime",
                &at,
                "-CAfile",
                &authority,
                "-purpose",
                purpose,
            ]);
            command.arg(&certificate).output().unwrap().status.success()
        };
        let (server, client) = match profile.usage {
            Usage::Client => (false, true),
            Usage::Server => (true, false),
            Usage::Both => (true, true),
        };
        assert_eq!(verify(profile.authority, "sslserver"), server, "{} as a server", profile.name);
        assert_eq!(verify(profile.authority, "sslclient"), client, "{} as a client", profile.name);
        let others = [pki::CA, pki::FRONT_PROXY_CA, pki::ETCD_CA];
        for other in others.into_iter().filter(|other| *other != profile.authority) {
            assert!(!verify(other, "any"), "{} verified by {other}", profile.name);
        }
        for name in &profile.names {
            let (flag, value) = match name {
                Name::Dns(name) => ("-checkhost", name.clone()),
                Name::Ip(address) => ("-checkip", address.to_string()),
            };
            let answer = openssl(&["x509", "-noout", "-in", &certificate, flag, &value]);
            assert!(answer.contains("does match"), "{}: {answer}", profile.name);
        }
        let of_certificate = openssl(&["x509", "-noout", "-pubkey", "-in", &certificate]);
        let of_key = openssl(&["pkey", "-pubout", "-in", &text(&node.path(&pki::key(profile.name)))]);
        assert_eq!(of_certificate, of_key, "{}", profile.name);
        let usage = openssl(&["x509", "-noout", "-ext", "keyUsage", "-in", &certificate]);
        assert!(usage.contains("Digital Signature, Key Encipherment"), "{usage}");
    }
    let apiserver = text(&node.path("apiserver.crt"));
    for name in ["cp1", "localhost", "kubernetes.default.svc.cluster.local", "api.harbor.example"] {
        assert!(openssl(&["x509", "-noout", "-in", &apiserver, "-checkhost", name]).contains("does match"));
    }
    for address in ["10.20.0.10", "10.20.0.100", "10.96.0.1", "127.0.0.1", "::1", "192.0.2.7"] {
        assert!(openssl(&["x509", "-noout", "-in", &apiserver, "-checkip", address]).contains("does match"));
    }
}

#[test]
fn keys_and_kubeconfigs_are_private_and_leave_nothing_behind() {
    let node = Node::new();
    node.ensure().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&node.roots().node_pki), 0o700);
    let mut names = Vec::new();
    for entry in fs::read_dir(node.roots().node_pki).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(mode(&path), if name.ends_with(".crt") { 0o644 } else { 0o600 }, "{name}");
        names.push(name);
    }
    assert_eq!(names.len(), 2 * 16 + 6);
    assert!(!names.iter().any(|name| name.ends_with(".new")));
    let config: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(node.path("kubelet-client.conf")).unwrap()).unwrap();
    assert_eq!(config["clusters"][0]["cluster"]["server"], "https://127.0.0.1:6443");
    assert_eq!(config["users"][0]["name"], "system:node:cp1");
    let config: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(node.path("agent.conf")).unwrap()).unwrap();
    assert_eq!(config["clusters"][0]["cluster"]["server"], "https://127.0.0.1:7443", "its own balancer");
}

#[test]
fn the_second_run_changes_nothing() {
    let node = Node::new();
    let first = node.ensure().unwrap();
    assert_eq!(first.to_string(), "16 issued, 0 reused");
    let read = || {
        let mut files: Vec<_> = fs::read_dir(node.roots().node_pki)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (fs::read(&path).unwrap(), fs::metadata(&path).unwrap().modified().unwrap(), path))
            .collect();
        files.sort();
        files
    };
    let before = read();
    let second = node.ensure().unwrap();
    assert_eq!((second.reused, second.issued.len()), (16, 0));
    assert_eq!(second.to_string(), "0 issued, 16 reused");
    assert_eq!(before, read());
}

#[test]
fn renewed_before_they_expire() {
    let node = Node::new();
    node.ensure().unwrap();
    assert!(node.reasons(NOW + LIFETIME - RENEW_BEFORE - DAY).is_empty());
    let later = NOW + LIFETIME - RENEW_BEFORE;
    assert_eq!(node.reasons(later).len(), 16);
    let issued = ensure(&node.roots(), &node.facts, later).unwrap();
    assert!(issued.issued.iter().all(|reissue| reissue.reason == Reason::Expiring));
    assert_eq!(issued.restart(), ["kubelet"].into());
    assert!(node.reasons(later).is_empty());
}

#[test]
fn none_outlives_its_authority_and_a_dying_one_is_not_renewed_for_ever() {
    let node = Node::new();
    node.make_authority(pki::FRONT_PROXY_CA, (EPOCH, NOW + 30 * DAY));
    node.ensure().unwrap();
    let end = openssl(&[
        "x509",
        "-noout",
        "-enddate",
        "-in",
        node.path("front-proxy-client.crt").to_str().unwrap(),
    ]);
    let of_authority = node.roots().cluster_pki.join("front-proxy-ca.crt");
    assert_eq!(end, openssl(&["x509", "-noout", "-enddate", "-in", of_authority.to_str().unwrap()]));
    assert!(node.reasons(NOW + 10 * DAY).is_empty());
}

#[test]
fn a_clock_that_ran_ahead_does_no_harm() {
    let node = Node::new();
    let ahead = NOW + 5 * LIFETIME;
    ensure(&node.roots(), &node.facts, ahead).unwrap();
    assert!(node.reasons(NOW).is_empty());
}

#[test]
fn what_no_longer_fits_is_issued_again() {
    let node = Node::new();
    node.ensure().unwrap();
    let only = |name, reason| vec![(name, reason)];

    fs::remove_file(node.path("proxy.key")).unwrap();
    assert_eq!(node.reasons(NOW), only("proxy", Reason::Missing));
    node.ensure().unwrap();

    fs::write(node.path("scheduler.crt"), "-----BEGIN CERTIFICATE-----\nbroken").unwrap();
    assert_eq!(node.reasons(NOW), only("scheduler", Reason::Damaged("damaged")));
    node.ensure().unwrap();

    fs::write(node.path("scheduler.key"), [0xff; 40]).unwrap();
    assert_eq!(node.reasons(NOW), only("scheduler", Reason::Damaged("key damaged")));
    let issued = node.ensure().unwrap();
    assert_eq!(issued.to_string(), "1 issued, 15 reused (scheduler: key damaged)");

    // As after a power cut between the renames of key and certificate.
    fs::copy(node.path("admin.key"), node.path("etcd-peer.key")).unwrap();
    assert_eq!(node.reasons(NOW), only("etcd-peer", Reason::KeyMismatch));
    node.ensure().unwrap();

    fs::set_permissions(node.path("admin.key"), fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(node.reasons(NOW), only("admin", Reason::Damaged("key was readable by others")));
    node.ensure().unwrap();

    for end in ["crt", "key"] {
        fs::copy(node.path(&format!("scheduler.{end}")), node.path(&format!("proxy.{end}"))).unwrap();
        fs::copy(
            node.path(&format!("apiserver-etcd-client.{end}")),
            node.path(&format!("etcd-server.{end}")),
        )
        .unwrap();
    }
    assert_eq!(node.reasons(NOW), [("etcd-server", Reason::OtherSubject), ("proxy", Reason::OtherSubject)]);
    node.ensure().unwrap();

    node.make_authority(pki::FRONT_PROXY_CA, AUTHORITY);
    assert_eq!(node.reasons(NOW), only("front-proxy-client", Reason::OtherAuthority));
    node.ensure().unwrap();
    assert!(node.reasons(NOW).is_empty());
}

#[test]
fn a_new_address_concerns_the_servers_only() {
    let mut node = Node::new();
    node.ensure().unwrap();
    node.facts.address = "10.20.0.11/24".parse().unwrap();
    let names: Vec<_> = node.reasons(NOW).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["apiserver", "etcd-server", "etcd-peer", "kubelet-server"]);
    assert!(node.reasons(NOW).iter().all(|(_, reason)| *reason == Reason::OtherNames));
}
