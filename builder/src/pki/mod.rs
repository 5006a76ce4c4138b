//! Certificate authorities, tokens and kubeconfigs, made once per cluster.
//!
//! They lie in the cluster's secrets folder, beside the cluster file. Keys and tokens are the one thing
//! that a build does not derive from its inputs, so they are made once, and a folder that has been
//! completed is never completed again: what is missing then is an error, as a cluster that runs does not
//! know new keys.

mod admin;
mod authority;
mod client;
mod error;
mod folder;
mod keys;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bootwright_model::kubernetes::bootstrap::BootstrapToken;
use bootwright_model::kubernetes::kubeconfig::{Kubeconfig, Pem};
use bootwright_model::kubernetes::pki;
use sha2::{Digest, Sha256};

use authority::Authority;
pub use client::kubelets;
pub use error::PkiError;

/// Seconds of a day.
const DAY: u64 = 24 * 60 * 60;

/// An authority: its files, and its subject's common name.
struct AuthorityFiles {
    certificate: &'static str,
    key: &'static str,
    common_name: &'static str,
}

const AUTHORITIES: [AuthorityFiles; 3] = [
    KUBERNETES,
    AuthorityFiles {
        certificate: "front-proxy-ca.crt",
        key: "front-proxy-ca.key",
        common_name: "front-proxy-ca",
    },
    ETCD,
];
const KUBERNETES: AuthorityFiles =
    AuthorityFiles { certificate: "ca.crt", key: "ca.key", common_name: "kubernetes" };
const ETCD: AuthorityFiles =
    AuthorityFiles { certificate: "etcd-ca.crt", key: "etcd-ca.key", common_name: "etcd-ca" };
/// Signs service-account tokens: the public key for those who verify, the private one for who signs.
const SERVICE_ACCOUNT: [&str; 2] = ["sa.pub", "sa.key"];
/// The administrator of the host's kubeconfig.
const ADMIN: [&str; 2] = ["admin.crt", "admin.key"];

/// The secrets folder of a cluster: `secrets/<name>` beside the cluster file.
pub fn folder(cluster_file: &Path, cluster_name: &str) -> PathBuf {
    let beside = cluster_file.parent().unwrap_or(Path::new(""));
    beside.join("secrets").join(cluster_name)
}

/// A file for the cluster layer.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretFile {
    /// Name in [`bootwright_model::layout::CLUSTER_PKI`].
    pub name: &'static str,
    /// PEM, or the token.
    pub contents: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
}

/// Hides the contents.
impl fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretFile({}, {} bytes, {:o})", self.name, self.contents.len(), self.mode)
    }
}

/// A checked secrets folder.
#[derive(Debug)]
pub struct Secrets {
    cluster: String,
    files: Vec<SecretFile>,
    /// Certificate and key.
    admin: [SecretFile; 2],
    created: Vec<String>,
}

impl Secrets {
    /// What a control plane gets in its cluster layer, always in the same order. Keys are PKCS#8,
    /// whatever form they have in the folder.
    pub fn baked_files(&self) -> &[SecretFile] {
        &self.files
    }

    /// The same for a machine of etcd, which signs its member's certificates and nothing else.
    pub fn files_for_etcd(&self) -> impl Iterator<Item = &SecretFile> {
        let wanted = [ETCD.certificate, ETCD.key];
        self.files.iter().filter(move |file| wanted.contains(&file.name))
    }

    /// The same for any other node, which signs nothing: whom to trust, and the token to ask with.
    pub fn files_to_join(&self) -> impl Iterator<Item = &SecretFile> {
        let wanted = [KUBERNETES.certificate, pki::BOOTSTRAP_TOKEN];
        self.files.iter().filter(move |file| wanted.contains(&file.name))
    }

    /// Names of the files that this call made; empty if all were there.
    pub fn created(&self) -> &[String] {
        &self.created
    }

    /// SHA-256 over names and contents of [`Secrets::baked_files`], 64 hexadecimal digits.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for file in &self.files {
            hash.update(file.name.as_bytes());
            hash.update([0]);
            hash.update((file.contents.len() as u64).to_le_bytes());
            hash.update(&file.contents);
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// A kubeconfig with the rights of `system:masters`; `server` is `https://host:port`. It carries its
    /// key: write it with [`Secrets::write_kubeconfig`] only.
    pub fn kubeconfig(&self, server: &str) -> String {
        let authority = self.files.iter().find(|file| file.name == KUBERNETES.certificate);
        let authority = authority.expect("loading checked for it");
        let [certificate, key] = &self.admin;
        Kubeconfig {
            cluster: &self.cluster,
            server,
            authority: Pem::Data(&STANDARD.encode(&authority.contents)),
            user: admin::USER,
            certificate: Pem::Data(&STANDARD.encode(&certificate.contents)),
            key: Pem::Data(&STANDARD.encode(&key.contents)),
        }
        .render()
    }

    /// Writes the kubeconfig, for its owner only, replacing what is there.
    pub fn write_kubeconfig(&self, path: &Path, server: &str) -> Result<(), PkiError> {
        folder::write(path, self.kubeconfig(server).as_bytes(), 0o600)
    }
}

/// Fails if [`open_or_create`] would fail for the folder's place, rights or cluster; makes nothing. For the
/// beginning of a build, whose other work takes longer.
///
/// # Errors
/// The folder is another cluster's or open to others, or has to be written to and cannot.
pub fn check(folder: &Path, cluster_name: &str) -> Result<(), PkiError> {
    match folder::state(folder, cluster_name)? {
        folder::State::Absent => folder::check_writable(crate::files::folder_of(folder)),
        folder::State::Supplied => folder::check_writable(folder),
        folder::State::Complete => Ok(()),
    }
}

/// Opens the secrets of a cluster, and makes them if there are none yet.
///
/// A folder in which somebody put authorities (`ca.crt` and `ca.key`, and so on) is completed with the
/// rest. `now` decides only about validity: a new authority starts a day earlier and lives ten years.
pub fn open_or_create(folder: &Path, cluster_name: &str, now: SystemTime) -> Result<Secrets, PkiError> {
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let _lock = folder::lock_parent(folder)?;
    let mut created = Vec::new();
    match folder::state(folder, cluster_name)? {
        folder::State::Absent => {
            let staging = folder::Staging::beside(folder)?;
            created = complete(staging.path(), cluster_name, now)?;
            staging.publish(folder)?;
        }
        folder::State::Supplied => created = complete(folder, cluster_name, now)?,
        folder::State::Complete => {}
    }
    load(folder, cluster_name, now, created)
}

/// Makes every secret that the folder lacks, and marks it as complete last.
fn complete(folder: &Path, cluster_name: &str, now: u64) -> Result<Vec<String>, PkiError> {
    let mut created = Vec::new();
    for AuthorityFiles { certificate, key, common_name } in AUTHORITIES {
        if folder::pair_is_missing(folder, [certificate, key])? {
            let pair = authority::create(common_name, cluster_name, now)?;
            folder::write_pair(folder, [certificate, key], &pair)?;
            created.extend([certificate.to_owned(), key.to_owned()]);
        }
    }
    if folder::pair_is_missing(folder, SERVICE_ACCOUNT)? {
        folder::write_pair(folder, SERVICE_ACCOUNT, &keys::generate()?)?;
        created.extend(SERVICE_ACCOUNT.map(str::to_owned));
    }
    let token = folder.join(pki::BOOTSTRAP_TOKEN);
    if !folder::exists(&token)? {
        folder::write(&token, format!("{}\n", keys::bootstrap_token()?).as_bytes(), 0o600)?;
        created.push(pki::BOOTSTRAP_TOKEN.to_owned());
    }
    folder::mark_complete(folder, cluster_name)?;
    Ok(created)
}

/// Reads and checks everything, and renews the administrator's certificate, which no image holds.
fn load(folder: &Path, cluster_name: &str, now: u64, mut created: Vec<String>) -> Result<Secrets, PkiError> {
    let mut files = Vec::new();
    let mut ca = None;
    for authority_files in AUTHORITIES {
        let authority = Authority::load(folder, &authority_files, now)?;
        files.extend(pair([authority_files.certificate, authority_files.key], authority.pem()));
        if authority_files.certificate == KUBERNETES.certificate {
            ca = Some(authority);
        }
    }
    files.extend(pair(SERVICE_ACCOUNT, keys::load_service_account(folder)?));
    let token = folder::read_secret(&folder.join(pki::BOOTSTRAP_TOKEN))?;
    if BootstrapToken::parse(&token).is_none() {
        return Err(PkiError::Damaged {
            path: folder.join(pki::BOOTSTRAP_TOKEN),
            what: "bootstrap token",
            reason: "it has to be six characters of a-z and 0-9, a dot, and sixteen more".to_owned(),
        });
    }
    files.push(SecretFile { name: pki::BOOTSTRAP_TOKEN, contents: token.into_bytes(), mode: 0o600 });

    let ca = ca.expect("the kubernetes authority is one of the three");
    let admin = admin::open_or_renew(folder, &ca, now)?;
    if admin.renewed {
        created.extend(ADMIN.map(str::to_owned));
    }
    Ok(Secrets { cluster: cluster_name.to_owned(), files, admin: pair(ADMIN, admin.pair), created })
}

/// The public and the secret part of a pair, as files.
fn pair([public, secret]: [&'static str; 2], pair: keys::Pair) -> [SecretFile; 2] {
    [
        SecretFile { name: public, contents: pair.public.into_bytes(), mode: 0o644 },
        SecretFile { name: secret, contents: pair.key.into_bytes(), mode: 0o600 },
    ]
}
