//! **identity**: who this machine is, and the files that say so.

use std::io;
use std::path::{Path, PathBuf};

use bootwright_model::baked::{ClusterLayer, OsRelease};
use bootwright_model::families::PerFamily;
use ipnet::IpNet;

use super::baked::{self, BakedError};
use super::{Advice, Done, Problem, problem};
use crate::identity::machine::Machine;
use crate::identity::smbios::{Firmware, Unknown};
use crate::identity::source::{SOURCES, ask};
use crate::identity::{self, Claim, Identity, IdentityError, Recognised, derived};
use crate::network::links::{self, LinkError};
use crate::network::resolvers::{self, Said};
use crate::report::under;

/// Why it is not known who this machine is.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// A baked file.
    #[error("what was baked for this node cannot be read")]
    Baked(#[from] BakedError),
    /// The sources.
    #[error("it is not clear who this machine is")]
    Identity(#[from] IdentityError),
    /// The machine's links.
    #[error("this machine's links cannot be listed")]
    Links(#[from] LinkError),
    /// The host name.
    #[error("the host name cannot be set to {name}")]
    HostName {
        /// Wanted.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// A file below /etc.
    #[error("{path}: cannot be written")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Advice for StageError {
    fn advice(&self) -> String {
        match self {
            StageError::Baked(error) => error.advice(),
            StageError::Identity(error) => error.advice(),
            StageError::Links(error) => error.advice(),
            StageError::HostName { .. } | StageError::Write { .. } => {
                "restart; if it happens again, build the image again".to_owned()
            }
        }
    }
}

/// What is known before the network is up.
#[derive(Debug)]
pub struct Known {
    /// Who this machine is.
    pub identity: Identity,
    /// What it was recognised by.
    pub machine: Machine,
    /// The cluster layer.
    pub layer: ClusterLayer,
    /// The OS layer.
    pub os: OsRelease,
}

/// Puts the sources together and writes what depends on the name alone.
pub fn run(root: &Path) -> Result<Done<Known>, StageError> {
    let layer = baked::cluster_layer(root)?;
    let os = baked::os_release(root)?;
    let machine = Machine::look(root);
    let said = ask(&SOURCES, &machine).map_err(IdentityError::from)?;
    let mut problems = said.problems;
    let mut identity = resolve(root, &said.claims, &layer, &machine.firmware)?;
    problems.extend(name_in_cloud(&machine.firmware, &layer, &mut identity));
    rustix::system::sethostname(identity.name.as_bytes())
        .map_err(|errno| StageError::HostName { name: identity.name.clone(), source: errno.into() })?;
    write_files(root, &identity, &layer)?;
    let summary = format!("{} ({})", identity.name, identity.sources.join("; "));
    Ok(Done { value: Known { identity, machine, layer, os }, summary, problems })
}

/// How the cloud calls this machine, unless seed or inventory say so. Without it the cloud controller manager looks for
/// the machine by its name, so that this is a problem and not an end.
fn name_in_cloud(firmware: &Firmware, layer: &ClusterLayer, identity: &mut Identity) -> Option<Problem> {
    let cloud = &layer.file.cloud;
    if !cloud.is_external() {
        identity.provider_id = None;
        return None;
    }
    let pattern = cloud.provider_id.as_deref().filter(|_| identity.provider_id.is_none())?;
    match firmware.provider_id(pattern, &identity.name) {
        Ok(id) => identity.provider_id = Some(id),
        Err(error) => return Some(problem(&error)),
    }
    None
}

impl Advice for Unknown {
    fn advice(&self) -> String {
        "write provider-id into the machine's node.toml, or into the cluster file's node".to_owned()
    }
}

fn resolve(
    root: &Path,
    said: &[Claim],
    layer: &ClusterLayer,
    firmware: &Firmware,
) -> Result<Identity, StageError> {
    let by = || Ok::<_, LinkError>(Recognised { cards: links::cards(root)?, firmware: firmware.clone() });
    match identity::resolve(said, layer, &by()?) {
        // A card whose driver is slow may be the one that the inventory knows.
        Err(IdentityError::Missing { .. }) => {
            let strangers = layer.admits_unknown();
            // A stranger of another role is no node of this image's.
            let nodes = layer.file.nodes.iter().filter(|node| !strangers || node.role == layer.role);
            let known: Vec<String> = nodes.filter_map(|node| node.mac.clone()).collect();
            match strangers {
                // A name that follows from the cards is to follow from all of them. One by the UUID stays as it is.
                true if known.is_empty() && derived::is_by_uuid(firmware) => {}
                true => links::wait_until_settled(root, &known)?,
                false if known.is_empty() => {}
                false => links::wait_for_any(root, &known)?,
            }
            Ok(identity::resolve_or_admit(said, layer, &by()?)?)
        }
        result => Ok(result?),
    }
}

fn write_files(root: &Path, identity: &Identity, layer: &ClusterLayer) -> Result<(), StageError> {
    let files = [
        ("/etc/hostname", format!("{}\n", identity.name)),
        ("/etc/hosts", hosts(&identity.name, identity.address, layer)),
        ("/etc/machine-id", machine_id(identity, layer)),
    ];
    for (path, text) in files {
        let path = under(root, path);
        crate::files::replace(&path, text.as_bytes(), 0o644)
            .map_err(|source| StageError::Write { path, source })?;
    }
    let (said, of_cluster) = (Said::by(&identity.links), &layer.file.network.resolvers);
    resolvers::say(root, resolvers::DESCRIBED, &said, of_cluster)
        .map_err(|source| StageError::Write { path: under(root, "/etc/resolv.conf"), source })
}

/// Every node by name, so that nothing on a node waits for a resolver to find another node.
/// Without an address of its own, as before a lease, the node is not there itself.
pub(super) fn hosts(ours: &str, address: Option<PerFamily<IpNet>>, layer: &ClusterLayer) -> String {
    let mut text = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n".to_owned();
    let own = address.map(|address| (address.addrs(), ours));
    let others = layer.file.nodes.iter().map(|node| (node.address.addrs(), node.name.as_str()));
    for (addresses, name) in own.into_iter().chain(others.filter(|(_, name)| *name != ours)) {
        for address in addresses.iter() {
            text += &format!("{address} {name}\n");
        }
    }
    text
}

/// machine-id(5): 32 digits that stay the same as long as the node is the same node. Derived, so that
/// nothing need be kept and a replaced disk gives the same.
fn machine_id(identity: &Identity, layer: &ClusterLayer) -> String {
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    for part in ["machine-id", &layer.file.cluster.name, &identity.name] {
        digest.update(part.as_bytes());
        digest.update(&[0]);
    }
    let digits: String = digest.finish().as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    digits + "\n"
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn known() -> (Identity, ClusterLayer) {
        let facts = crate::network::tests::facts("10.10.3.0/24", "vxlan");
        let identity = Identity {
            name: "cp1".into(),
            address: Some(facts.address),
            gateway: facts.gateway,
            mac: None,
            pod_cidr: facts.pod_cidr,
            provider_id: None,
            links: Vec::new(),
            time_servers: None,
            sources: Vec::new(),
        };
        (identity, facts.layer)
    }

    #[test]
    fn every_node_is_found_by_name_without_a_resolver() {
        let (identity, layer) = known();
        insta::assert_snapshot!(hosts(&identity.name, identity.address, &layer), @r"
        127.0.0.1 localhost
        ::1 localhost ip6-localhost ip6-loopback
        10.20.0.10 cp1
        10.20.0.11 w1
        ");
    }

    #[test]
    fn the_machine_id_is_the_nodes() {
        let (identity, layer) = known();
        let id = machine_id(&identity, &layer);
        assert_eq!(id.len(), 33);
        assert!(id.trim_end().bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_eq!(id, machine_id(&identity, &layer));
        let other = Identity { name: "w1".into(), ..identity };
        assert_ne!(id, machine_id(&other, &layer));
    }

    #[test]
    fn a_cloud_is_told_who_the_machine_is() {
        let firmware = Firmware { serial: Some("4711".to_owned()), ..Firmware::default() };
        let (mut identity, mut layer) = known();
        let cloud = |provider: &str| {
            let text = format!("provider = '{provider}'\nprovider-id = 'hcloud://{{serial}}'");
            toml::from_str(&text).unwrap()
        };
        layer.file.cloud = cloud("external");
        assert!(name_in_cloud(&firmware, &layer, &mut identity).is_none());
        assert_eq!(identity.provider_id.as_deref(), Some("hcloud://4711"));
        // What is written comes first.
        identity.provider_id = Some("hcloud://1".to_owned());
        assert!(name_in_cloud(&firmware, &layer, &mut identity).is_none());
        assert_eq!(identity.provider_id.as_deref(), Some("hcloud://1"));
        identity.provider_id = None;
        assert!(name_in_cloud(&Firmware::default(), &layer, &mut identity).is_some());
        assert_eq!(identity.provider_id, None);
        layer.file.cloud = cloud("none");
        assert!(name_in_cloud(&firmware, &layer, &mut identity).is_none());
    }

    #[test]
    fn files_replace_what_the_image_has() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        std::os::unix::fs::symlink("/run/resolv.conf", root.path().join("etc/resolv.conf")).unwrap();
        let (identity, layer) = known();
        write_files(root.path(), &identity, &layer).unwrap();
        assert_eq!(fs::read_to_string(root.path().join("etc/hostname")).unwrap(), "cp1\n");
        assert!(fs::symlink_metadata(root.path().join("etc/resolv.conf")).unwrap().is_file());
    }
}
