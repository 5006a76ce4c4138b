//! Certificates of clients of the API.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};

use super::authority::{Authority, time};
use super::keys::Pair;
use super::{DAY, KUBERNETES, PkiError};

/// Group of the nodes; their users are `system:node:` and the name.
const NODES: &str = "system:nodes";

/// Certificates and keys, PEM, of the kubelets of these nodes, for a day. They are written nowhere: real nodes ask for
/// theirs, these are for a bench that plays nodes.
///
/// # Errors
/// `folder` is not the secrets folder of a cluster, with the key of its authority.
pub fn kubelets(folder: &Path, nodes: &[String], now: SystemTime) -> Result<Vec<[String; 2]>, PkiError> {
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let ca = Authority::load(folder, &KUBERNETES, now)?;
    let kubelet = |node: &String| {
        let pair = issue(&ca, &format!("system:node:{node}"), NODES, DAY, now)
            .map_err(|source| PkiError::Create { what: "a node's certificate", source })?;
        Ok([pair.public, pair.key])
    };
    nodes.iter().map(kubelet).collect()
}

/// A certificate of a user in a group, from a day before `now` until `lifetime` seconds after it.
pub(super) fn issue(
    ca: &Authority,
    user: &str,
    group: &str,
    lifetime: u64,
    now: u64,
) -> Result<Pair, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, group);
    params.distinguished_name.push(DnType::CommonName, user);
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = time(now.saturating_sub(DAY).max(ca.not_before));
    params.not_after = time((now + lifetime).min(ca.not_after));
    let certificate = params.signed_by(&key, ca.issuer())?;
    Ok(Pair { public: certificate.pem(), key: key.serialize_pem() })
}
