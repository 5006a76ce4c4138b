//! Leaf certificates and kubeconfigs, issued on the node from the baked authorities; on a node without them, what
//! its kubelet needs to ask for its own ([`joined`]).
//!
//! Desired state ([`profiles`]), observed state ([`inspect`]), difference ([`renew_due`]), apply
//! ([`ensure`]): running it twice changes nothing. What is renewed is renewed in place, and components
//! read the files again by themselves, but for those named in [`Issued::restart`].

mod authority;
mod error;
mod files;
mod inspect;
mod joined;
mod kubeconfigs;
mod profiles;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bootwright_model::kubernetes::{issues_certificates, pki};
use bootwright_model::layout;
use bootwright_model::node::NodeFacts;

use authority::{Authorities, Authority, Pair};
pub use error::CertificatesError;
pub use inspect::Reason;
use profiles::Profile;

/// Seconds of a day.
const DAY: u64 = 24 * 60 * 60;
/// Lifetime of a leaf, as kubeadm's.
const LIFETIME: u64 = 365 * DAY;
/// A leaf with less than this left is issued anew: a quarter of its life, so that a machine that is
/// switched on four times a year never meets an expired one.
const RENEW_BEFORE: u64 = 90 * DAY;

/// Where certificates lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// Authorities, from the cluster layer; read only.
    pub cluster_pki: PathBuf,
    /// Leaves and kubeconfigs.
    pub node_pki: PathBuf,
    /// What the kubelet of a node without authorities was given.
    pub kubelet_pki: PathBuf,
}

impl Roots {
    /// The places of [`layout`] below a root folder, `/` on a node.
    pub fn below(root: &Path) -> Roots {
        let place = |path: &str| root.join(path.trim_start_matches('/'));
        Roots {
            cluster_pki: place(layout::RUN_CLUSTER).join(layout::CLUSTER_PKI),
            node_pki: place(layout::NODE_PKI),
            kubelet_pki: place(layout::KUBELET_PKI),
        }
    }
}

/// A certificate that was, or has to be, issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reissue {
    /// One of the names in [`pki`].
    pub name: &'static str,
    /// What was wrong with the old one.
    pub reason: Reason,
    /// Services that keep using the old one until they are restarted.
    pub restart: &'static [&'static str],
}

/// What [`ensure`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Issued {
    /// Certificates that were good.
    pub reused: usize,
    /// Certificates that were made.
    pub issued: Vec<Reissue>,
}

impl Issued {
    /// Services to restart if they were running already.
    pub fn restart(&self) -> BTreeSet<&'static str> {
        self.issued.iter().flat_map(|reissue| reissue.restart).copied().collect()
    }
}

/// One line for the boot report.
impl fmt::Display for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = self.issued.iter().filter(|reissue| reissue.reason == Reason::Missing).count();
        write!(f, "{} issued, {} reused", self.issued.len(), self.reused)?;
        // On a first boot all are missing, which needs no list.
        let renewed: Vec<String> = self
            .issued
            .iter()
            .filter(|reissue| reissue.reason != Reason::Missing || missing < self.issued.len())
            .map(|reissue| format!("{}: {}", reissue.name, reissue.reason))
            .collect();
        if renewed.is_empty() { Ok(()) } else { write!(f, " ({})", renewed.join("; ")) }
    }
}

/// Issues below `root` (`/` on a node) at the machine's time; the summary is one line for the report.
pub fn issue(root: &Path, facts: &NodeFacts) -> Result<String, CertificatesError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let roots = Roots::below(root);
    if !issues_certificates(&facts.layer.role) {
        return joined::ensure(&roots, facts, now);
    }
    Ok(ensure(&roots, facts, now)?.to_string())
}

/// Makes every certificate and kubeconfig of this node good at `now` (seconds since the Unix epoch):
/// what is missing, about to expire, or does not fit authority, names or key is issued anew. A node without
/// authorities is made ready to ask for them instead.
pub fn ensure(roots: &Roots, facts: &NodeFacts, now: u64) -> Result<Issued, CertificatesError> {
    if !issues_certificates(&facts.layer.role) {
        return joined::ensure(roots, facts, now).map(|_| Issued::default());
    }
    let profiles = profiles::all(facts)?;
    let authorities = Authorities::load(&roots.cluster_pki, &profiles, now)?;
    files::make_private_folder(&roots.node_pki)?;
    let due = differences(roots, &authorities, &profiles, now)?;
    let pairs = issue_all(&authorities, &due, not_before(facts, now), now)?;

    let mut batch = files::Batch::new(&roots.node_pki);
    for ((profile, _), pair) in due.iter().zip(&pairs) {
        batch.write(&pki::key(profile.name), pair.key.as_bytes(), 0o600)?;
        batch.write(&pki::certificate(profile.name), pair.certificate.as_bytes(), 0o644)?;
    }
    for (name, contents) in kubeconfigs::all(roots, facts, &profiles) {
        batch.write_if_different(&name, contents.as_bytes(), 0o600)?;
    }
    batch.commit()?;

    let issued: Vec<Reissue> = due.into_iter().map(reissue).collect();
    Ok(Issued { reused: profiles.len() - issued.len(), issued })
}

/// What [`ensure`] would issue at `now`. Writes nothing.
pub fn renew_due(roots: &Roots, facts: &NodeFacts, now: u64) -> Result<Vec<Reissue>, CertificatesError> {
    let profiles = profiles::all(facts)?;
    let authorities = Authorities::load(&roots.cluster_pki, &profiles, now)?;
    Ok(differences(roots, &authorities, &profiles, now)?.into_iter().map(reissue).collect())
}

/// The earliest time at which every authority is valid, seconds since the Unix epoch. A clock that
/// shows less is wrong.
pub fn clock_floor(cluster_pki: &Path) -> Result<u64, CertificatesError> {
    authority::latest_not_before(cluster_pki)
}

fn reissue((profile, reason): (&Profile, Reason)) -> Reissue {
    Reissue { name: profile.name, reason, restart: profile.restart }
}

/// The image's build time rather than today, less a day for clocks that differ: a machine whose clock
/// was years ahead when it issued them still has valid certificates once the clock is put right.
fn not_before(facts: &NodeFacts, now: u64) -> u64 {
    facts.layer.epoch.min(now).saturating_sub(DAY)
}

fn differences<'a>(
    roots: &Roots,
    authorities: &Authorities,
    profiles: &'a [Profile],
    now: u64,
) -> Result<Vec<(&'a Profile, Reason)>, CertificatesError> {
    let mut due = Vec::new();
    for profile in profiles {
        let authority = authorities.of(profile);
        if let Some(reason) = inspect::fault(&roots.node_pki, profile, authority, now)? {
            due.push((profile, reason));
        }
    }
    Ok(due)
}

/// Issues on every processor: each certificate costs a key pair and a signature.
fn issue_all(
    authorities: &Authorities,
    due: &[(&Profile, Reason)],
    not_before: u64,
    now: u64,
) -> Result<Vec<Pair>, CertificatesError> {
    let workers = std::thread::available_parallelism().map_or(1, |n| n.get()).min(due.len());
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(due.len()));
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some((profile, _)) = due.get(index) else { return };
                    let authority: &Authority = authorities.of(profile);
                    let pair = authority.issue(profile, not_before, now);
                    results.lock().expect("no holder of the lock can panic").push((index, pair));
                }
            });
        }
    });
    let mut results = results.into_inner().expect("no holder of the lock can panic");
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, pair)| pair).collect()
}
