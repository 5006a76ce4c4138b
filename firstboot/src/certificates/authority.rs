//! The cluster's authorities: loading them, and signing with them.

use std::io;
use std::path::Path;
use std::time::Duration;

use bootwright_model::kubernetes::pki;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use x509_parser::prelude::{ASN1Time, FromDer, Pem, X509Certificate};

use super::profiles::{Name, Profile, Usage};
use super::{CertificatesError, LIFETIME, files};

/// A certificate and its key as PEM.
pub(super) struct Pair {
    pub(super) certificate: String,
    /// PKCS#8.
    pub(super) key: String,
}

/// The authorities of a cluster that this machine's certificates are of.
pub(super) struct Authorities(Vec<Authority>);

/// An authority that can sign.
pub(super) struct Authority {
    name: &'static str,
    issuer: Issuer<'static, KeyPair>,
    certificate: Pem,
    not_before: u64,
    not_after: u64,
}

impl Authorities {
    /// Loads and checks those that sign these certificates; they have to be valid at `now`.
    pub(super) fn load(
        folder: &Path,
        profiles: &[Profile],
        now: u64,
    ) -> Result<Authorities, CertificatesError> {
        [pki::CA, pki::FRONT_PROXY_CA, pki::ETCD_CA]
            .into_iter()
            .filter(|name| profiles.iter().any(|profile| profile.authority == *name))
            .map(|name| Authority::load(folder, name, now))
            .collect::<Result<_, _>>()
            .map(Authorities)
    }

    /// The one that signs a certificate.
    pub(super) fn of(&self, profile: &Profile) -> &Authority {
        let found = self.0.iter().find(|authority| authority.name == profile.authority);
        found.expect("those of all profiles are loaded, and every profile names one of the three")
    }
}

/// See [`super::clock_floor`].
pub(super) fn latest_not_before(folder: &Path) -> Result<u64, CertificatesError> {
    let mut latest = 0;
    for name in [pki::CA, pki::FRONT_PROXY_CA, pki::ETCD_CA] {
        let path = folder.join(pki::certificate(name));
        let pem = match read_certificate(&path) {
            // A node without authorities knows one of the three.
            Err(CertificatesError::AuthorityMissing { .. }) => continue,
            other => other?,
        };
        latest = latest.max(seconds(&parse(&path, &pem)?.validity().not_before));
    }
    Ok(latest)
}

/// An authority of which only the certificate is here.
pub(super) struct Trusted(Pem);

impl Trusted {
    /// Loads and checks it; it has to be valid at `now`.
    pub(super) fn load(folder: &Path, name: &str, now: u64) -> Result<Trusted, CertificatesError> {
        let path = folder.join(pki::certificate(name));
        let pem = read_certificate(&path)?;
        check_time(&path, &parse(&path, &pem)?, now)?;
        Ok(Trusted(pem))
    }

    /// Whether this authority signed the certificate.
    pub(super) fn signed(&self, leaf: &X509Certificate) -> bool {
        signed(&self.0, leaf)
    }
}

/// Whether the authority of this certificate signed the leaf.
fn signed(authority: &Pem, leaf: &X509Certificate) -> bool {
    let Ok((_, own)) = X509Certificate::from_der(&authority.contents) else { return false };
    leaf.issuer().as_raw() == own.subject().as_raw() && leaf.verify_signature(Some(own.public_key())).is_ok()
}

impl Authority {
    fn load(folder: &Path, name: &'static str, now: u64) -> Result<Authority, CertificatesError> {
        let path = folder.join(pki::certificate(name));
        let key_path = folder.join(pki::key(name));
        let pem = read_certificate(&path)?;
        let certificate = parse(&path, &pem)?;
        check_time(&path, &certificate, now)?;
        let (not_before, not_after) =
            (seconds(&certificate.validity().not_before), seconds(&certificate.validity().not_after));
        let damaged = |path: &Path, what, reason: rcgen::Error| CertificatesError::AuthorityDamaged {
            path: path.to_owned(),
            what,
            reason: reason.to_string(),
        };
        let key = KeyPair::from_pem(&read_text(&key_path)?)
            .map_err(|reason| damaged(&key_path, "private key in PKCS#8", reason))?;
        if key.subject_public_key_info() != certificate.public_key().raw {
            return Err(CertificatesError::AuthorityMismatch { certificate: path, key: key_path });
        }
        let issuer = Issuer::from_ca_cert_der(&pem.contents.as_slice().into(), key)
            .map_err(|reason| damaged(&path, "certificate of an authority", reason))?;
        drop(certificate);
        Ok(Authority { name, issuer, certificate: pem, not_before, not_after })
    }

    /// Whether this authority signed the certificate.
    pub(super) fn signed(&self, leaf: &X509Certificate) -> bool {
        signed(&self.certificate, leaf)
    }

    /// The end of a certificate issued at `now`: none outlives its authority.
    pub(super) fn end_of_leaf(&self, now: u64) -> u64 {
        (now + LIFETIME).min(self.not_after)
    }

    /// A new key pair and its certificate.
    pub(super) fn issue(
        &self,
        profile: &Profile,
        not_before: u64,
        now: u64,
    ) -> Result<Pair, CertificatesError> {
        let failed = |source| CertificatesError::Issue { name: profile.name, source };
        let mut serial = [0; 16];
        let filled = rustix::rand::getrandom(&mut serial, rustix::rand::GetRandomFlags::empty());
        if filled != Ok(serial.len()) {
            let source = filled.map_or_else(io::Error::from, |_| io::ErrorKind::UnexpectedEof.into());
            return Err(CertificatesError::Random { name: profile.name, source });
        }
        // Positive and never zero, RFC 5280 section 4.1.2.2.
        serial[0] = serial[0] & 0x7f | 0x40;
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = params(profile).map_err(failed)?;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.not_before = time(not_before.max(self.not_before));
        params.not_after = time(self.end_of_leaf(now));
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

fn params(profile: &Profile) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    if let Some(organization) = profile.organization {
        subject.push(DnType::OrganizationName, organization);
    }
    subject.push(DnType::CommonName, profile.common_name.as_str());
    params.distinguished_name = subject;
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = match profile.usage {
        Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
        Usage::Both => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
    };
    for name in &profile.names {
        params.subject_alt_names.push(match name {
            Name::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
            Name::Ip(address) => SanType::IpAddress(*address),
        });
    }
    Ok(params)
}

fn check_time(path: &Path, certificate: &X509Certificate, now: u64) -> Result<(), CertificatesError> {
    let validity = certificate.validity();
    let show = |time: u64| {
        ASN1Time::from_timestamp(i64::try_from(time).unwrap_or(i64::MAX))
            .map_or_else(|_| format!("{time} s after 1970"), |time| time.to_string())
    };
    if now < seconds(&validity.not_before) {
        return Err(CertificatesError::AuthorityNotYetValid {
            path: path.to_owned(),
            not_before: validity.not_before.to_string(),
            now: show(now),
        });
    }
    if now >= seconds(&validity.not_after) {
        return Err(CertificatesError::AuthorityExpired {
            path: path.to_owned(),
            not_after: validity.not_after.to_string(),
            now: show(now),
        });
    }
    Ok(())
}

fn read_text(path: &Path) -> Result<String, CertificatesError> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(CertificatesError::AuthorityMissing { path: path.to_owned() })
        }
        other => other.map_err(|source| CertificatesError::Read { path: path.to_owned(), source }),
    }
}

fn read_certificate(path: &Path) -> Result<Pem, CertificatesError> {
    let text = read_text(path)?;
    files::first_pem(&text).ok_or_else(|| not_a_certificate(path, "no PEM block"))
}

fn parse<'a>(path: &Path, pem: &'a Pem) -> Result<X509Certificate<'a>, CertificatesError> {
    pem.parse_x509().map_err(|error| not_a_certificate(path, &error.to_string()))
}

fn not_a_certificate(path: &Path, reason: &str) -> CertificatesError {
    CertificatesError::AuthorityDamaged {
        path: path.to_owned(),
        what: "certificate of an authority",
        reason: reason.to_owned(),
    }
}

/// Seconds since the Unix epoch; nothing of ours is older.
pub(super) fn seconds(time: &ASN1Time) -> u64 {
    u64::try_from(time.timestamp()).unwrap_or(0)
}

fn time(seconds: u64) -> time::OffsetDateTime {
    time::OffsetDateTime::UNIX_EPOCH + Duration::from_secs(seconds)
}
