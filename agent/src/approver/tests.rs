//! Real requests, made as a kubelet makes them and as somebody else might.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType,
};

use super::request::{Request, RequestError};
use super::rules::{Inventory, Verdict, is_ours, judge};
use super::{AGAIN, MOST_MESSAGE, MOST_PENDING, MOST_REQUEST, Table};
use crate::api::objects::{CertificateSigningRequest, Node, RequestSpec};

mod strangers;
mod table;

const SERVING: [&str; 3] = ["digital signature", "key encipherment", "server auth"];
const CLIENT: [&str; 3] = ["digital signature", "key encipherment", "client auth"];

/// A request before it is encoded.
struct Asked {
    common_name: String,
    organizations: Vec<String>,
    /// Further attributes of the subject.
    further: Vec<(DnType, String)>,
    names: Vec<SanType>,
    spec: RequestSpec,
    change: fn(&mut CertificateParams),
}

/// What the kubelet of w1 asks for, for its serving certificate.
fn serving() -> Asked {
    Asked {
        common_name: "system:node:w1".to_owned(),
        organizations: vec!["system:nodes".to_owned()],
        further: Vec::new(),
        names: vec![dns("w1"), ip("10.20.0.21")],
        spec: RequestSpec {
            request: String::new(),
            signer_name: "kubernetes.io/kubelet-serving".to_owned(),
            usages: SERVING.map(str::to_owned).to_vec(),
            username: "system:node:w1".to_owned(),
            groups: ["system:nodes", "system:authenticated"].map(str::to_owned).to_vec(),
        },
        change: |_| {},
    }
}

/// What the kubelet of w1 asks for with the bootstrap token.
fn joining() -> Asked {
    let asked = serving();
    Asked {
        names: Vec::new(),
        spec: RequestSpec {
            signer_name: "kubernetes.io/kube-apiserver-client-kubelet".to_owned(),
            usages: CLIENT.map(str::to_owned).to_vec(),
            username: "system:bootstrap:abc123".to_owned(),
            groups: ["system:bootstrappers", "system:authenticated"].map(str::to_owned).to_vec(),
            ..asked.spec
        },
        ..asked
    }
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

fn ip(address: &str) -> SanType {
    SanType::IpAddress(address.parse().unwrap())
}

impl Asked {
    fn spec(&self) -> RequestSpec {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for organization in &self.organizations {
            params.distinguished_name.push(DnType::OrganizationName, organization);
        }
        params.distinguished_name.push(DnType::CommonName, &self.common_name);
        for (kind, text) in &self.further {
            params.distinguished_name.push(kind.clone(), text);
        }
        params.subject_alt_names.clone_from(&self.names);
        (self.change)(&mut params);
        let request = params.serialize_request(&KeyPair::generate().unwrap()).unwrap();
        RequestSpec { request: STANDARD.encode(request.pem().unwrap()), ..self.spec.clone() }
    }

    fn read(&self) -> Result<Request, RequestError> {
        Request::read(&self.spec())
    }

    fn judge(&self, node: Option<&Node>) -> Verdict {
        judge(&self.read().unwrap(), &inventory(), node)
    }
}

fn inventory() -> Inventory {
    let file = serde_json::from_str(
        r#"{
            "cluster": { "name": "harbor", "endpoint": "10.20.0.10", "pod-cidr": "10.10.0.0/16",
                         "service-cidr": "10.96.0.0/16",
                         "endpoint-names": ["api.harbor.example", "10.20.0.100"] },
            "kubernetes": { "version": "1.20.2" },
            "node": [
                { "name": "cp1", "role": "control-plane", "address": "10.20.0.10/24" },
                { "name": "w1", "role": "worker", "address": "10.20.0.21/24" },
                { "name": "w2", "role": "worker", "address": "10.20.0.22/24" }
            ]
        }"#,
    );
    Inventory::from(&file.unwrap())
}

/// A Node with these addresses.
fn node(ready: bool, addresses: &[(&str, &str)]) -> Node {
    let addresses: Vec<_> = addresses
        .iter()
        .map(|(kind, address)| serde_json::json!({ "type": kind, "address": address }))
        .collect();
    serde_json::from_value(serde_json::json!({
        "metadata": { "name": "w1", "managedFields": [] },
        "spec": { "podCIDR": "10.10.1.0/24", "podCIDRs": ["10.10.1.0/24"] },
        "status": {
            "addresses": addresses,
            "conditions": [{ "type": "MemoryPressure", "status": "False" },
                           { "type": "Ready", "status": if ready { "True" } else { "Unknown" } }],
        },
    }))
    .unwrap()
}

#[track_caller]
fn approved(verdict: &Verdict) {
    assert!(matches!(verdict, Verdict::Approve(_)), "{verdict:?}");
}

#[track_caller]
fn denied(verdict: &Verdict, why: &str) {
    assert!(matches!(verdict, Verdict::Deny(text) if text.contains(why)), "{verdict:?} without {why:?}");
}

#[track_caller]
fn left(verdict: &Verdict, why: &str) {
    assert!(matches!(verdict, Verdict::Leave(text) if text.contains(why)), "{verdict:?} without {why:?}");
}

#[test]
fn a_node_gets_a_serving_certificate_for_what_is_its_own() {
    // The inventory says it all, before the Node is there.
    approved(&serving().judge(None));
    let status = node(true, &[("InternalIP", "10.20.0.21"), ("Hostname", "w1")]);
    approved(&serving().judge(Some(&status)));
    // What only its Node says, which it writes itself.
    let claims = node(true, &[("ExternalIP", "192.0.2.7"), ("InternalDNS", "w1.harbor.example")]);
    for (name, text) in [(dns("w1.harbor.example"), "w1.harbor.example"), (ip("192.0.2.7"), "192.0.2.7")] {
        let asked = Asked { names: vec![dns("w1"), name], ..serving() };
        let why = format!("{text} is not in the inventory");
        left(&asked.judge(None), &why);
        left(&asked.judge(Some(&claims)), &why);
    }
    // The same address in another form.
    approved(&Asked { names: vec![ip("::ffff:10.20.0.21")], ..serving() }.judge(None));
    // From 1.27 on, without encipherment.
    let mut asked = serving();
    asked.spec.usages = ["server auth", "digital signature"].map(str::to_owned).to_vec();
    approved(&asked.judge(None));
    // A control plane whose address is the endpoint.
    let mut asked = serving();
    asked.common_name = "system:node:cp1".to_owned();
    asked.spec.username = asked.common_name.clone();
    asked.names = vec![dns("cp1"), ip("10.20.0.10")];
    approved(&asked.judge(None));
}

#[test]
fn a_node_of_both_families_gets_both_of_its_addresses_and_nobody_elses() {
    let file = serde_json::from_str(
        r#"{
            "cluster": { "name": "harbor", "endpoint": "10.20.0.10", "pod-cidr": ["10.10.0.0/16", "fd00:10:10::/56"],
                         "service-cidr": ["10.96.0.0/16", "fd00:96::/112"] },
            "kubernetes": { "version": "1.20.2" },
            "node": [
                { "name": "w1", "role": "worker", "address": ["10.20.0.21/24", "fd00:20::21/64"] },
                { "name": "w2", "role": "worker", "address": ["10.20.0.22/24", "fd00:20::22/64"] }
            ]
        }"#,
    );
    let inventory = Inventory::from(&file.unwrap());
    let asks_for = |addresses: &[&str]| {
        let names = std::iter::once(dns("w1")).chain(addresses.iter().map(|address| ip(address))).collect();
        judge(&Asked { names, ..serving() }.read().unwrap(), &inventory, None)
    };
    approved(&asks_for(&["10.20.0.21", "fd00:20::21"]));
    approved(&asks_for(&["fd00:20::21"]));
    for (address, whose) in [
        ("fd00:20::22", "is node w2's"),
        ("fd00:96::1", "is a Service's"),
        ("fd00:10:10::2", "is a pod's"),
        ("10.96.0.1", "is a Service's"),
    ] {
        denied(&asks_for(&["10.20.0.21", address]), whose);
    }
}

#[test]
fn a_node_of_no_inventory_gets_what_its_node_says() {
    let mut asked = serving();
    asked.common_name = "system:node:extra".to_owned();
    asked.spec.username = asked.common_name.clone();
    asked.names = vec![dns("extra"), dns("extra.harbor.example"), ip("10.20.0.77"), ip("fd00::77")];
    left(&asked.judge(None), "there is no Node yet that says it has extra.harbor.example");
    let mut says = vec![("InternalIP", "::ffff:10.20.0.77"), ("InternalIP", "fd00:0::77")];
    left(
        &asked.judge(Some(&node(true, &says))),
        "extra.harbor.example is neither in its Node's status nor in the inventory",
    );
    says.push(("InternalDNS", "extra.harbor.example"));
    approved(&asked.judge(Some(&node(true, &says))));
}

#[test]
fn nobody_gets_what_is_anothers_even_if_its_node_says_so() {
    for (name, whose) in [
        (dns("w2"), "w2 is node w2's"),
        (dns("cp1"), "cp1 is node cp1's"),
        (dns("localhost"), "localhost is no node's"),
        (dns("*.harbor.example"), "* is no node's"),
        (dns("kubernetes"), "kubernetes is a Service's"),
        (dns("Kubernetes.Default"), "Kubernetes.Default is a Service's"),
        (dns("web.default.svc"), "web.default.svc is a Service's"),
        (dns("web.default.svc.cluster.local"), "is a Service's"),
        (dns("web.default.svc."), "web.default.svc. is a Service's"),
        (dns("kubernetes."), "kubernetes. is a Service's"),
        (dns("api.harbor.example"), "api.harbor.example is the API's"),
        (dns("api.harbor.example."), "api.harbor.example. is the API's"),
        (ip("10.20.0.22"), "10.20.0.22 is node w2's"),
        (ip("10.20.0.10"), "10.20.0.10 is the API's"),
        (ip("::ffff:10.20.0.10"), "10.20.0.10 is the API's"),
        (ip("::ffff:10.96.0.1"), "10.96.0.1 is a Service's"),
        (ip("::ffff:10.20.0.22"), "10.20.0.22 is node w2's"),
        (ip("::ffff:127.0.0.1"), "127.0.0.1 is no node's"),
        (ip("10.20.0.100"), "10.20.0.100 is the API's"),
        (ip("10.96.0.1"), "10.96.0.1 is a Service's"),
        (ip("10.10.0.5"), "10.10.0.5 is a pod's"),
        (ip("127.0.0.1"), "127.0.0.1 is no node's"),
        (ip("::1"), "::1 is no node's"),
        (ip("0.0.0.0"), "0.0.0.0 is no node's"),
    ] {
        let text = match &name {
            SanType::DnsName(name) => name.to_string(),
            SanType::IpAddress(address) => address.to_string(),
            other => panic!("{other:?}"),
        };
        let claims = node(true, &[("InternalIP", "10.20.0.21"), ("Hostname", "w1"), ("ExternalIP", &text)]);
        let asked = Asked { names: vec![dns("w1"), name], ..serving() };
        denied(&asked.judge(Some(&claims)), whose.trim_start_matches('*'));
    }
}

#[test]
fn a_serving_certificate_is_for_the_node_that_asks() {
    let mut asked = serving();
    asked.spec.username = "system:node:w2".to_owned();
    denied(&asked.judge(None), "is asked for by system:node:w2");
    let mut asked = serving();
    asked.spec.groups = vec!["system:masters".to_owned()];
    denied(&asked.judge(None), "a node asks for its own only");
    let mut asked = serving();
    asked.spec.usages.push("client auth".to_owned());
    denied(&asked.judge(None), "with usages client auth, digital signature, key encipherment, server auth");
    let mut asked = serving();
    asked.spec.usages.clear();
    denied(&asked.judge(None), "usages");
    denied(&Asked { names: Vec::new(), ..serving() }.judge(None), "without a name or address");
}

#[test]
fn a_machine_joins_as_a_node_of_the_inventory_that_is_not_alive() {
    approved(&joining().judge(None));
    approved(&joining().judge(Some(&node(false, &[("InternalIP", "10.20.0.21")]))));
    left(&joining().judge(Some(&node(true, &[("InternalIP", "10.20.0.21")]))), "that node is alive");
    let mut asked = joining();
    asked.common_name = "system:node:w9".to_owned();
    left(&asked.judge(None), "the inventory has no such node");
    asked.common_name = "system:node:cp1".to_owned();
    denied(&asked.judge(None), "nobody may join as it");
    let mut asked = joining();
    asked.spec.usages.push("server auth".to_owned());
    denied(&asked.judge(None), "with usages");
    denied(&Asked { names: vec![dns("w1")], ..joining() }.judge(None), "a client has no names");
}

#[test]
fn renewals_are_left_to_kubernetes() {
    assert!(is_ours(&serving().spec));
    assert!(is_ours(&joining().spec));
    let mut renewal = joining();
    renewal.spec.username = "system:node:w1".to_owned();
    renewal.spec.groups = vec!["system:nodes".to_owned()];
    assert!(!is_ours(&renewal.spec));
    let mut other = joining();
    other.spec.signer_name = "kubernetes.io/kube-apiserver-client".to_owned();
    assert!(!is_ours(&other.spec));
}

#[test]
fn subjects_that_are_no_nodes() {
    let common_name = |name: &str| Asked { common_name: name.to_owned(), ..serving() };
    let organizations = |all: &[&str]| Asked {
        organizations: all.iter().map(|name| (*name).to_owned()).collect(),
        ..serving()
    };
    let further = |kind| Asked { further: vec![(kind, "x".to_owned())], ..serving() };
    for asked in [
        common_name("kubernetes-admin"),
        common_name("system:node:"),
        common_name("system:node:../../secrets"),
        common_name("system:node:W1"),
        common_name("system:node:a..b"),
        common_name(&format!("system:node:{}", "a".repeat(254))),
        organizations(&[]),
        organizations(&["system:masters"]),
        further(DnType::OrganizationalUnitName),
        further(DnType::CountryName),
    ] {
        let error = asked.read().unwrap_err();
        assert!(matches!(error, RequestError::Subject(_)), "{error}");
    }
}

#[test]
fn requests_for_more_than_names() {
    let names = |name| Asked { names: vec![dns("w1"), name], ..serving() };
    for asked in [
        names(SanType::Rfc822Name("admin@harbor.example".try_into().unwrap())),
        names(SanType::URI("spiffe://harbor/w1".try_into().unwrap())),
    ] {
        let error = asked.read().unwrap_err();
        assert!(matches!(error, RequestError::Name(_)), "{error}");
    }
    let with = |change: fn(&mut CertificateParams)| Asked { change, ..serving() };
    for asked in [
        with(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
        with(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
    ] {
        let error = asked.read().unwrap_err();
        assert!(matches!(error, RequestError::Extension(_)), "{error}");
    }
}

#[test]
fn texts_that_are_no_requests() {
    let with = |request: String| Request::read(&RequestSpec { request, ..serving().spec });
    let good = serving().spec().request;
    assert!(with(good.clone()).is_ok());
    let pem = STANDARD.decode(&good).unwrap();
    let certificate = String::from_utf8(pem.clone()).unwrap().replace("CERTIFICATE REQUEST", "CERTIFICATE");
    for text in [
        String::new(),
        "?".to_owned(),
        STANDARD.encode("-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n"),
        STANDARD.encode(certificate),
        STANDARD.encode(&pem[..pem.len() / 2]),
    ] {
        assert_eq!(with(text).unwrap_err(), RequestError::Encoding);
    }
    let mut asked = serving();
    asked.spec.signer_name = "kubernetes.io/legacy-unknown".to_owned();
    assert!(matches!(asked.read().unwrap_err(), RequestError::Signer(_)));
}
