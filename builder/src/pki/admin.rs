//! The administrator's client certificate, for the kubeconfig on the machine that builds.
//!
//! It is in no image, so that renewing it changes none.

use std::path::Path;

use rcgen::PublicKeyData;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::authority::{Authority, first_certificate, seconds};
use super::keys::{self, Pair};
use super::{ADMIN, DAY, PkiError, client, folder};

/// Name of the user.
pub(super) const USER: &str = "kubernetes-admin";
/// Group with all rights.
const GROUP: &str = "system:masters";
/// A year.
const LIFETIME: u64 = 365 * DAY;
/// Renewed by a build when less is left.
const RENEW_BEFORE: u64 = 90 * DAY;

/// The certificate, and whether it is a new one.
pub(super) struct Admin {
    pub(super) pair: Pair,
    pub(super) renewed: bool,
}

/// Takes the one in the folder, or makes one if there is none, or none that `ca` stands for.
pub(super) fn open_or_renew(folder: &Path, ca: &Authority, now: u64) -> Result<Admin, PkiError> {
    if let Some(pair) = present(folder, ca, now)? {
        return Ok(Admin { pair, renewed: false });
    }
    let pair = client::issue(ca, USER, GROUP, LIFETIME, now)
        .map_err(|source| PkiError::Create { what: "the administrator's certificate", source })?;
    folder::write_pair(folder, ADMIN, &pair)?;
    Ok(Admin { pair, renewed: true })
}

fn present(folder: &Path, ca: &Authority, now: u64) -> Result<Option<Pair>, PkiError> {
    let [certificate, key] = ADMIN.map(|name| folder.join(name));
    if !folder::exists(&certificate)? || !folder::exists(&key)? {
        return Ok(None);
    }
    let public = folder::read(&certificate)?;
    let key = keys::load(&key)?;
    let der = first_certificate(&public).unwrap_or_default();
    let Ok((_, parsed)) = X509Certificate::from_der(&der) else { return Ok(None) };
    let good = ca.signed(&parsed)
        && parsed.public_key().raw == key.subject_public_key_info()
        && seconds(&parsed.validity().not_before) <= now
        && seconds(&parsed.validity().not_after) > (now + RENEW_BEFORE).min(ca.not_after.saturating_sub(1));
    Ok(good.then(|| Pair { public, key: key.serialize_pem() }))
}
