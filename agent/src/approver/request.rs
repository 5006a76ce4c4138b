//! A kubelet's certificate request, read strictly: what is not understood is not approved.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::{OID_X509_COMMON_NAME, OID_X509_ORGANIZATION_NAME};
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use crate::api::objects::RequestSpec;

/// Start of the user name of a node (KEP-4: `system:node:<name>`).
const NODE_USER: &str = "system:node:";
/// Group of every node.
pub const NODES: &str = "system:nodes";

/// What a kubelet asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Which certificate.
    pub kind: Kind,
    /// Who asks.
    pub username: String,
    /// Groups of who asks.
    pub groups: Vec<String>,
    /// Name of the node that the certificate would be for.
    pub node: String,
    /// DNS names that it would be good for.
    pub names: BTreeSet<String>,
    /// Addresses that it would be good for.
    pub addresses: BTreeSet<IpAddr>,
    /// Key usages, as the API spells them.
    pub usages: BTreeSet<String>,
}

/// Which of the kubelet's certificates; each has a signer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Shown to those who call the kubelet.
    Serving,
    /// Shown to the API server.
    Client,
}

impl Kind {
    /// By the name of the signer.
    pub fn of_signer(name: &str) -> Option<Kind> {
        match name {
            "kubernetes.io/kubelet-serving" => Some(Kind::Serving),
            "kubernetes.io/kube-apiserver-client-kubelet" => Some(Kind::Client),
            _ => None,
        }
    }
}

/// A request that no kubelet makes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not a PKCS#10 request, or one that is so long that it was not kept.
    #[error("spec.request is no certificate request in PEM of at most 16 KiB")]
    Encoding,
    /// For another signer.
    #[error("signer {0} is not for kubelets")]
    Signer(String),
    /// The subject is not that of a node.
    #[error(
        "the subject is {0}; a kubelet's is O = {NODES}, CN = {NODE_USER} and the node's name, and nothing else"
    )]
    Subject(String),
    /// Names of a kind that kubelets have no use for.
    #[error("it asks for the name {0}; a kubelet has DNS names and addresses")]
    Name(String),
    /// Something else that the certificate should have.
    #[error("it asks for more than names: {0}")]
    Extension(String),
}

impl Request {
    /// Reads what was asked. The signature by the key is checked by the signer.
    pub fn read(spec: &RequestSpec) -> Result<Request, RequestError> {
        let kind = Kind::of_signer(&spec.signer_name)
            .ok_or_else(|| RequestError::Signer(spec.signer_name.clone()))?;
        let pem = STANDARD.decode(&spec.request).map_err(|_| RequestError::Encoding)?;
        let (_, pem) = parse_x509_pem(&pem).map_err(|_| RequestError::Encoding)?;
        if pem.label != "CERTIFICATE REQUEST" {
            return Err(RequestError::Encoding);
        }
        let (rest, request) =
            X509CertificationRequest::from_der(&pem.contents).map_err(|_| RequestError::Encoding)?;
        if !rest.is_empty() {
            return Err(RequestError::Encoding);
        }
        let subject = &request.certification_request_info.subject;
        let node = node_name(subject).ok_or_else(|| RequestError::Subject(subject.to_string()))?;
        let mut names = BTreeSet::new();
        let mut addresses = BTreeSet::new();
        if let Some(wanted) = alternative_names(&request)? {
            for name in wanted {
                match name {
                    GeneralName::DNSName(name) => drop(names.insert((*name).to_owned())),
                    GeneralName::IPAddress(bytes) => {
                        let address = address(bytes).ok_or_else(|| RequestError::Name(format!("{name}")))?;
                        addresses.insert(address);
                    }
                    other => return Err(RequestError::Name(other.to_string())),
                }
            }
        }
        Ok(Request {
            kind,
            username: spec.username.clone(),
            groups: spec.groups.clone(),
            node,
            names,
            addresses,
            usages: spec.usages.iter().cloned().collect(),
        })
    }

    /// User that the certificate's subject is, or would be.
    pub fn subject_user(&self) -> String {
        format!("{NODE_USER}{}", self.node)
    }
}

/// As in a line: the node, and what the certificate would be good for.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Serving => "serving",
            Kind::Client => "client",
        };
        write!(f, "{kind} certificate of node {}", self.node)?;
        let names = self.names.iter().cloned();
        let all: Vec<String> = names.chain(self.addresses.iter().map(ToString::to_string)).collect();
        if all.is_empty() { Ok(()) } else { write!(f, " for {}", all.join(", ")) }
    }
}

/// The node's name, if the subject is exactly one group and one node.
fn node_name(subject: &X509Name) -> Option<String> {
    let attributes: Vec<_> = subject.iter_attributes().collect();
    let text = |oid: &x509_parser::oid_registry::Oid| {
        let mut found = attributes.iter().filter(|attribute| attribute.attr_type() == oid);
        let text = found.next()?.as_str().ok()?;
        found.next().is_none().then_some(text)
    };
    let organization = text(&OID_X509_ORGANIZATION_NAME)?;
    let name = text(&OID_X509_COMMON_NAME)?.strip_prefix(NODE_USER)?;
    // RFC 1123, as Node names are: it goes into the path of a call too.
    let well_named = !name.is_empty()
        && name.len() <= 253
        && name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'.'))
        && name.split('.').all(|label| !label.is_empty());
    (attributes.len() == 2 && organization == NODES && well_named).then(|| name.to_owned())
}

/// The alternative names asked for. Whatever else is asked for is an error, even what the signer would ignore.
fn alternative_names<'a>(
    request: &'a X509CertificationRequest<'a>,
) -> Result<Option<Vec<GeneralName<'a>>>, RequestError> {
    let mut found = None;
    for attribute in request.certification_request_info.iter_attributes() {
        let ParsedCriAttribute::ExtensionRequest(extensions) = attribute.parsed_attribute() else {
            return Err(RequestError::Extension(format!("attribute {}", attribute.oid)));
        };
        for extension in &extensions.extensions {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(names) if found.is_none() => {
                    found = Some(names.general_names.clone());
                }
                _ => return Err(RequestError::Extension(format!("extension {}", extension.oid))),
            }
        }
    }
    Ok(found)
}

/// As the signer writes it: Go keeps `::ffff:10.20.0.10` in 4 bytes (net.IP.To4), so it is that IPv4 address that
/// the certificate would be good for.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(bytes));
    }
    <[u8; 16]>::try_from(bytes).ok().map(|bytes| Ipv6Addr::from(bytes).to_canonical())
}
