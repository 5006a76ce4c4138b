//! Certificate authorities: making one, and checking one.

use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData,
};
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

use super::keys::{self, Pair};
use super::{AuthorityFiles, DAY, PkiError, folder};

/// Ten years.
const LIFETIME: u64 = 3650 * DAY;

/// A checked authority.
pub(super) struct Authority {
    certificate: String,
    der: Vec<u8>,
    key: String,
    issuer: Issuer<'static, KeyPair>,
    pub(super) not_before: u64,
    pub(super) not_after: u64,
}

/// A self-signed authority for ten years from a day before `now`.
pub(super) fn create(common_name: &str, cluster_name: &str, now: u64) -> Result<Pair, PkiError> {
    let failed = |source| PkiError::Create { what: "a certificate authority", source };
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, cluster_name);
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // RFC 5280 section 4.2.1.1 lets a self-signed one go without; strict verifiers want it in all.
    params.use_authority_key_identifier_extension = true;
    params.not_before = time(now.saturating_sub(DAY));
    params.not_after = time(now + LIFETIME);
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok(Pair { public: certificate.pem(), key: key.serialize_pem() })
}

impl Authority {
    /// Reads and checks certificate and key.
    pub(super) fn load(folder: &Path, files: &AuthorityFiles, now: u64) -> Result<Authority, PkiError> {
        let (path, key_path) = (folder.join(files.certificate), folder.join(files.key));
        let text = folder::read(&path)?;
        let damaged = |reason: String| PkiError::Damaged {
            path: path.clone(),
            what: "certificate of an authority",
            reason: format!("{reason}; take the right file from a backup"),
        };
        let der =
            first_certificate(&text).ok_or_else(|| damaged("there is no certificate in it".to_owned()))?;
        let (_, certificate) = X509Certificate::from_der(&der).map_err(|error| damaged(error.to_string()))?;
        if !certificate.is_ca() {
            return Err(damaged("its basic constraints do not say CA".to_owned()));
        }
        if let Ok(Some(usage)) = certificate.key_usage()
            && !usage.value.key_cert_sign()
        {
            return Err(damaged("its key usage does not let it sign certificates".to_owned()));
        }
        check_time(&path, &certificate, now)?;
        let (not_before, not_after) =
            (seconds(&certificate.validity().not_before), seconds(&certificate.validity().not_after));
        let key = keys::load(&key_path)?;
        if key.subject_public_key_info() != certificate.public_key().raw {
            return Err(PkiError::Mismatch { key: key_path, public: path });
        }
        let key_pem = key.serialize_pem();
        let issuer = Issuer::from_ca_cert_der(&der.as_slice().into(), key)
            .map_err(|error| damaged(error.to_string()))?;
        Ok(Authority { certificate: text, der, key: key_pem, issuer, not_before, not_after })
    }

    /// Certificate as it is, key as PKCS#8.
    pub(super) fn pem(&self) -> Pair {
        Pair { public: self.certificate.clone(), key: self.key.clone() }
    }

    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// Whether this authority signed the certificate.
    pub(super) fn signed(&self, leaf: &X509Certificate) -> bool {
        let Ok((_, own)) = X509Certificate::from_der(&self.der) else { return false };
        leaf.issuer().as_raw() == own.subject().as_raw()
            && leaf.verify_signature(Some(own.public_key())).is_ok()
    }
}

fn check_time(path: &Path, certificate: &X509Certificate, now: u64) -> Result<(), PkiError> {
    let validity = certificate.validity();
    if seconds(&validity.not_before) > now {
        let not_before = validity.not_before.to_string();
        return Err(PkiError::NotYetValid { path: path.to_owned(), not_before });
    }
    if seconds(&validity.not_after) <= now {
        let not_after = validity.not_after.to_string();
        return Err(PkiError::Expired { path: path.to_owned(), not_after });
    }
    Ok(())
}

/// DER of the first certificate in a PEM text.
pub(super) fn first_certificate(text: &str) -> Option<Vec<u8>> {
    let blocks = pem::parse_many(text).ok()?;
    blocks.into_iter().find(|block| block.tag() == "CERTIFICATE").map(pem::Pem::into_contents)
}

/// Seconds since the Unix epoch.
pub(super) fn seconds(time: &ASN1Time) -> u64 {
    u64::try_from(time.timestamp()).unwrap_or(0)
}

pub(super) fn time(seconds: u64) -> time::OffsetDateTime {
    time::OffsetDateTime::UNIX_EPOCH + Duration::from_secs(seconds)
}
