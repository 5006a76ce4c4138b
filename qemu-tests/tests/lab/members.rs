//! What etcd's members say of themselves, asked from outside as a person would with etcdctl.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use serde_json::{Value, json};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

/// Port of etcd for its clients.
pub const CLIENTS: u16 = 2379;
/// One question; a machine that is off or cut off does not answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A client of every member.
pub struct Members {
    agent: ureq::Agent,
    /// Name of the node, and the port of 127.0.0.1 that leads to its member.
    nodes: Vec<(String, u16)>,
}

/// A member that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub node: String,
    pub member: String,
    pub cluster: String,
    pub leader: String,
    pub learner: bool,
}

impl Members {
    /// With a certificate made for the day, from the secrets of the cluster.
    pub fn new(secrets: &Path, nodes: Vec<(String, u16)>) -> Members {
        let read = |name: &str| std::fs::read_to_string(secrets.join(name)).unwrap();
        let authority = read("etcd-ca.crt");
        let key = KeyPair::from_pem(&read("etcd-ca.key")).unwrap();
        let issuer = Issuer::from_ca_cert_pem(&authority, key).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "person");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let client = ClientCert::new_with_certs(
            &[Certificate::from_pem(certificate.pem().as_bytes()).unwrap()],
            PrivateKey::from_pem(key.serialize_pem().as_bytes()).unwrap(),
        );
        let roots = vec![Certificate::from_pem(authority.as_bytes()).unwrap()];
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(roots)))
            .client_cert(Some(client))
            .build();
        let config = ureq::Agent::config_builder().tls_config(tls).timeout_global(Some(PATIENCE));
        // A connection that is kept may lead to a machine as it was before it lost its power.
        let agent = config.max_idle_connections(0).build().new_agent();
        Members { agent, nodes }
    }

    /// Those that answer, in the order of the nodes.
    pub fn told(&self) -> Vec<Told> {
        self.nodes.iter().filter_map(|(node, port)| self.ask(node, *port).ok()).collect()
    }

    fn ask(&self, node: &str, port: u16) -> Result<Told, ureq::Error> {
        let status = self.call(port, "maintenance/status", &json!({}))?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(Told {
            node: node.to_owned(),
            member: text(&status["header"]["member_id"]),
            cluster: text(&status["header"]["cluster_id"]),
            leader: text(&status["leader"]),
            learner: status["isLearner"] == true,
        })
    }

    fn call(&self, port: u16, path: &str, body: &Value) -> Result<Value, ureq::Error> {
        let url = format!("https://127.0.0.1:{port}/v3/{path}");
        let text = self.agent.post(&url).send(body.to_string())?.body_mut().read_to_string()?;
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    /// Makes the member of a node the leader.
    ///
    /// # Panics
    /// It is not one at the deadline.
    pub fn lead(&self, node: &str, deadline: Instant) {
        let mut refusal = None;
        loop {
            let told = self.told();
            let of = |name: &str| told.iter().find(|one| one.node == name);
            let wanted = of(node).map(|one| one.member.clone());
            let leader = told.iter().find(|one| one.leader == one.member);
            match (wanted, leader) {
                (Some(wanted), Some(leader)) if leader.member == wanted => return,
                (Some(wanted), Some(leader)) => {
                    let port = self.nodes.iter().find(|(name, _)| *name == leader.node).unwrap().1;
                    let body = json!({ "targetID": wanted });
                    let outcome = self.call(port, "maintenance/transfer-leadership", &body);
                    refusal = outcome.err().map(|error| error.to_string());
                }
                _ => {}
            }
            assert!(Instant::now() < deadline, "{node} does not lead: {told:?}; {refusal:?}");
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    /// All members, of one cluster and with a vote each.
    ///
    /// # Panics
    /// They are not at the deadline.
    pub fn all_vote(&self, deadline: Instant) -> Vec<Told> {
        loop {
            let told = self.told();
            let whole = told.len() == self.nodes.len();
            if whole && told.iter().all(|one| !one.learner && one.cluster == told[0].cluster) {
                return told;
            }
            assert!(Instant::now() < deadline, "not all members have a vote: {told:?}");
            std::thread::sleep(Duration::from_secs(1));
        }
    }
}
