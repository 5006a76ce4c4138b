//! What can be wrong with a secrets folder.

use std::io;
use std::path::PathBuf;

/// Every message ends in what to do. None contains a secret.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file or folder cannot be read.
    #[error("cannot read {}: {source}; see to its rights", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file or folder cannot be written.
    #[error(
        "cannot write {}: {source}; see to the rights and the room there (secrets lie beside the cluster file)",
        path.display()
    )]
    Write {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something else lies at the folder's place.
    #[error("{} is no folder; move it away, the cluster's secrets go there", path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// Others may read a folder or a key.
    #[error("{} can be read by others (mode {mode:04o}); run: chmod {wanted:o} {}", path.display(), path.display())]
    TooOpen {
        /// Which one.
        path: PathBuf,
        /// Permission bits found.
        mode: u32,
        /// Permission bits that are good.
        wanted: u32,
    },
    /// The folder was made for another cluster.
    #[error(
        "{} holds the secrets of the cluster \"{found}\", not of \"{wanted}\"; give the cluster file its old name, or move the folder to where that cluster's file expects it",
        path.display()
    )]
    OtherCluster {
        /// The folder.
        path: PathBuf,
        /// Name in its mark.
        found: String,
        /// Name in the cluster file.
        wanted: String,
    },
    /// A file of a completed folder is gone.
    #[error(
        "{} is missing; take it from a backup, or, if no machine of the cluster is left, remove the whole folder and build again to get new secrets",
        path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Half of a pair that somebody supplied.
    #[error("{} is there without {}; supply both, or remove it to have both made", present.display(), absent.display())]
    HalfPair {
        /// The file that is there.
        present: PathBuf,
        /// The file that is not.
        absent: PathBuf,
    },
    /// A file cannot be understood.
    #[error("{} is no {what}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// A key in a form that cannot be used.
    #[error(
        "{} cannot be used: {reason}; if it is a good key, convert it: openssl pkcs8 -topk8 -nocrypt -in {} -out key.new && mv key.new {}",
        path.display(), path.display(), path.display()
    )]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Two files that do not belong together.
    #[error("{} does not belong to {}; take both from the same backup", key.display(), public.display())]
    Mismatch {
        /// Private key.
        key: PathBuf,
        /// Certificate or public key.
        public: PathBuf,
    },
    /// An authority that has ended.
    #[error(
        "{} expired at {not_after}; supply a new certificate for the same key, or remove the whole folder to make a new cluster",
        path.display()
    )]
    Expired {
        /// The certificate.
        path: PathBuf,
        /// Its end.
        not_after: String,
    },
    /// An authority that has not begun.
    #[error("{} is valid from {not_before} only; set this machine's clock", path.display())]
    NotYetValid {
        /// The certificate.
        path: PathBuf,
        /// Its start.
        not_before: String,
    },
    /// Making a key or certificate failed.
    #[error("cannot make {what}: {source}")]
    Create {
        /// What.
        what: &'static str,
        /// Why.
        source: rcgen::Error,
    },
}
