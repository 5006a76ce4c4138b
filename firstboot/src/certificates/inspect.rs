//! Whether a certificate on the disk is still the one that is wanted.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bootwright_model::kubernetes::pki;
use rcgen::{KeyPair, PublicKeyData};
use x509_parser::prelude::{GeneralName, X509Certificate, X509Name};

use super::authority::{Authority, seconds};
use super::profiles::{Name, Profile, Usage};
use super::{CertificatesError, DAY, RENEW_BEFORE, files};

/// Why a certificate has to be issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// There is none, or no key to it.
    Missing,
    /// One of the files cannot be understood, or others may read the key.
    Damaged(&'static str),
    /// A power cut between two renames, or somebody's hand.
    KeyMismatch,
    /// The cluster's secrets are others now.
    OtherAuthority,
    /// It starts in the future: it was issued while the clock was wrong.
    NotYetValid,
    /// It ends soon, or has ended.
    Expiring,
    /// The subject is another one.
    OtherSubject,
    /// The machine's names or addresses have changed.
    OtherNames,
    /// It is good for something else.
    OtherUsage,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Missing => "missing",
            Reason::Damaged(what) => what,
            Reason::KeyMismatch => "does not fit its key",
            Reason::OtherAuthority => "signed by another authority",
            Reason::NotYetValid => "not valid yet",
            Reason::Expiring => "expires soon",
            Reason::OtherSubject => "for another subject",
            Reason::OtherNames => "for other names or addresses",
            Reason::OtherUsage => "for another purpose",
        })
    }
}

/// The first thing wrong with a certificate in `folder`, if any. Only a file that cannot be read at all
/// is an error; whatever is in it can be replaced.
pub(super) fn fault(
    folder: &Path,
    profile: &Profile,
    authority: &Authority,
    now: u64,
) -> Result<Option<Reason>, CertificatesError> {
    let key_path = folder.join(pki::key(profile.name));
    let (Some(certificate), Some(key)) =
        (files::read(&folder.join(pki::certificate(profile.name)))?, files::read(&key_path)?)
    else {
        return Ok(Some(Reason::Missing));
    };
    let mode = std::fs::metadata(&key_path)
        .map_err(|source| CertificatesError::Read { path: key_path, source })?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        return Ok(Some(Reason::Damaged("key was readable by others")));
    }
    let Some(pem) = std::str::from_utf8(&certificate).ok().and_then(files::first_pem) else {
        return Ok(Some(Reason::Damaged("damaged")));
    };
    let Ok(certificate) = pem.parse_x509() else { return Ok(Some(Reason::Damaged("damaged"))) };
    let Some(key) = std::str::from_utf8(&key).ok().and_then(|key| KeyPair::from_pem(key).ok()) else {
        return Ok(Some(Reason::Damaged("key damaged")));
    };
    Ok(compare(&certificate, &key, profile, authority, now))
}

fn compare(
    certificate: &X509Certificate,
    key: &KeyPair,
    profile: &Profile,
    authority: &Authority,
    now: u64,
) -> Option<Reason> {
    let not_after = seconds(&certificate.validity().not_after);
    // A new one would end no later if the authority itself ends soon: then there is nothing to renew.
    let ends = now + RENEW_BEFORE >= not_after && authority.end_of_leaf(now) > not_after + DAY;
    if key.subject_public_key_info() != certificate.public_key().raw {
        Some(Reason::KeyMismatch)
    } else if !authority.signed(certificate) {
        Some(Reason::OtherAuthority)
    } else if seconds(&certificate.validity().not_before) > now {
        Some(Reason::NotYetValid)
    } else if ends {
        Some(Reason::Expiring)
    } else if !same_subject(certificate.subject(), profile) {
        Some(Reason::OtherSubject)
    } else if names(certificate) != Some(profile.names.iter().cloned().collect()) {
        Some(Reason::OtherNames)
    } else if !same_usage(certificate, profile.usage) {
        Some(Reason::OtherUsage)
    } else {
        None
    }
}

fn same_subject(subject: &X509Name, profile: &Profile) -> bool {
    let common_names: Vec<_> = subject.iter_common_name().map(|name| name.as_str().ok()).collect();
    let organizations: Vec<_> = subject.iter_organization().map(|name| name.as_str().ok()).collect();
    common_names == [Some(profile.common_name.as_str())]
        && organizations == profile.organization.map(Some).into_iter().collect::<Vec<_>>()
}

/// Subject alternative names, or nothing if there is one of a kind that is never issued here.
fn names(certificate: &X509Certificate) -> Option<BTreeSet<Name>> {
    let Some(extension) = certificate.subject_alternative_name().ok()? else { return Some(BTreeSet::new()) };
    extension
        .value
        .general_names
        .iter()
        .map(|name| match name {
            GeneralName::DNSName(name) => Some(Name::Dns((*name).to_owned())),
            GeneralName::IPAddress(bytes) => address(bytes).map(Name::Ip),
            _ => None,
        })
        .collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(bytes));
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

fn same_usage(certificate: &X509Certificate, usage: Usage) -> bool {
    let Ok(Some(extension)) = certificate.extended_key_usage() else { return false };
    let (server, client) = (extension.value.server_auth, extension.value.client_auth);
    match usage {
        Usage::Client => client && !server,
        Usage::Server => server && !client,
        Usage::Both => server && client,
    }
}
