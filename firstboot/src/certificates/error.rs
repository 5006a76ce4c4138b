//! Why certificates cannot be issued.

use std::io;
use std::path::PathBuf;

use bootwright_model::addresses::AddressError;

/// Each message is one line; causes are in `source()`.
#[derive(Debug, thiserror::Error)]
pub enum CertificatesError {
    /// A file or folder cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file or folder cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The cluster layer lacks a file of an authority.
    #[error("{} is missing, and every certificate hangs on it; build the image again, with secrets = \"baked\"", path.display())]
    AuthorityMissing {
        /// The file.
        path: PathBuf,
    },
    /// A file of an authority cannot be understood.
    #[error("{} is no {what} ({reason}); put the cluster's secrets folder right and build the image again", path.display())]
    AuthorityDamaged {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificate and key of an authority are not a pair.
    #[error("{} is not the key of {}; put the cluster's secrets folder right and build the image again", key.display(), certificate.display())]
    AuthorityMismatch {
        /// Certificate.
        certificate: PathBuf,
        /// Key.
        key: PathBuf,
    },
    /// Past its end.
    #[error("{} expired at {not_after}; the clock says {now}: set the clock, or renew the authority and build the image again", path.display())]
    AuthorityExpired {
        /// The certificate.
        path: PathBuf,
        /// Its end.
        not_after: String,
        /// The machine's time.
        now: String,
    },
    /// Before its start: the clock is wrong.
    #[error("{} is valid from {not_before}; the clock says {now}: set the hardware clock", path.display())]
    AuthorityNotYetValid {
        /// The certificate.
        path: PathBuf,
        /// Its start.
        not_before: String,
        /// The machine's time.
        now: String,
    },
    /// The certificate cannot be made.
    #[error("cannot issue the certificate {name}")]
    Issue {
        /// One of the names in [`bootwright_model::kubernetes::pki`].
        name: &'static str,
        /// Why.
        source: rcgen::Error,
    },
    /// The kernel gives no random numbers.
    #[error("no random numbers for the certificate {name}")]
    Random {
        /// One of the names in [`bootwright_model::kubernetes::pki`].
        name: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A range of the cluster file is too small.
    #[error(transparent)]
    Address(#[from] AddressError),
}
