//! A profile's services on this node: placeholders filled in, flags and files of Kubernetes' components added.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use bootwright_model::kubernetes;
use bootwright_model::node::NodeFacts;
use bootwright_model::placeholders::{self, PlaceholderError};
use bootwright_model::profile::{Once, Profile, Readiness, Service, StopSignal};
use bootwright_model::services::{self, ServiceError};

use super::Host;

/// Where programs are looked for by the services themselves; the root is merged-/usr.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Where Go's runtime reads its memory limit, bytes: <https://pkg.go.dev/runtime#hdr-Environment_Variables>.
const GO_LIMIT: &str = "GOMEMLIMIT";

/// A service as it is started on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// As in the profile, with placeholders filled in and the component's arguments in `command`.
    pub service: Service,
    /// Indices of the services in `after`.
    pub after: Vec<usize>,
    /// Indices of the services in `uses`.
    pub uses: Vec<usize>,
    /// Environment, `PATH` included.
    pub environment: Vec<(String, String)>,
}

impl Definition {
    /// The cgroup leaf, relative to the root of the tree.
    pub fn cgroup(&self) -> String {
        self.service.cgroup.clone().unwrap_or_else(|| format!("system/{}", self.service.name))
    }

    /// Number of the signal that asks it to stop.
    pub fn stop_signal(&self) -> rustix::process::Signal {
        use rustix::process::Signal;
        match self.service.stop_signal {
            StopSignal::Term => Signal::TERM,
            StopSignal::Int => Signal::INT,
            StopSignal::Quit => Signal::QUIT,
            StopSignal::Hup => Signal::HUP,
        }
    }
}

/// Everything that [`resolve`] made.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// In the profile's order.
    pub definitions: Vec<Definition>,
    /// Configuration files to be there before any service starts.
    pub files: Vec<kubernetes::ConfigFile>,
}

/// Why a profile cannot be run on this node.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// The builder checks profiles too: the image was made by another version of it.
    #[error("{}; correct the profile and build the image again", join(.0))]
    Profile(Vec<ServiceError>),
    /// A placeholder that has no value here.
    #[error("service {service:?}")]
    Placeholder {
        /// The service.
        service: String,
        /// Which and why.
        source: PlaceholderError,
    },
    /// No flags for this version of Kubernetes.
    #[error("service {service:?}: no flags for component {component:?}")]
    Component {
        /// The service.
        service: String,
        /// Its component.
        component: String,
        /// Why.
        source: Box<kubernetes::KubernetesError>,
    },
    /// A configuration file.
    #[error("cannot write configuration file {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn join(errors: &[ServiceError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The profile without the services whose file (`only-with`) first boot did not make on this machine. Nothing waits for
/// them then.
pub fn of_this_machine(host: &Host, profile: &Profile) -> Profile {
    let mut profile = profile.clone();
    let is_absent =
        |service: &Service| service.only_with.as_deref().is_some_and(|path| !host.below_root(path).exists());
    let absent: Vec<String> = profile
        .services
        .iter()
        .filter(|service| is_absent(service))
        .map(|service| service.name.clone())
        .collect();
    profile.services.retain(|service| !absent.contains(&service.name));
    for service in &mut profile.services {
        service.after.retain(|name| !absent.contains(name));
        service.uses.retain(|name| !absent.contains(name));
    }
    profile
}

/// Fills in the profile's services for this node, whose memory is given in bytes. Touches nothing.
pub fn resolve(profile: &Profile, facts: &NodeFacts, memory: u64) -> Result<Resolved, DefinitionError> {
    let faults = services::check(&profile.services);
    if !faults.is_empty() {
        return Err(DefinitionError::Profile(faults));
    }
    let mut files = Vec::new();
    let mut definitions = Vec::with_capacity(profile.services.len());
    for service in &profile.services {
        let mut filled = fill(service, facts)
            .map_err(|source| DefinitionError::Placeholder { service: service.name.clone(), source })?;
        if let Some((target, wanted)) =
            filled.ready.as_ref().and_then(|ready| services::probe_form(ready).err())
        {
            let service = service.name.clone();
            return Err(DefinitionError::Profile(vec![ServiceError::Probe { service, target, wanted }]));
        }
        if let Some(component) = &service.component {
            let component =
                kubernetes::component(component, facts).map_err(|source| DefinitionError::Component {
                    service: service.name.clone(),
                    component: component.clone(),
                    source: Box::new(source),
                })?;
            filled.command.extend(component.arguments);
            files.extend(component.files);
        }
        let index = |name: &String| profile.services.iter().position(|s| s.name == *name);
        definitions.push(Definition {
            after: service.after.iter().filter_map(index).collect(),
            uses: service.uses.iter().filter_map(index).collect(),
            environment: environment(&filled, memory),
            service: filled,
        });
    }
    Ok(Resolved { definitions, files })
}

fn environment(service: &Service, memory: u64) -> Vec<(String, String)> {
    // Some of Go's libraries refuse to start without a home.
    let mut environment = vec![("PATH".to_owned(), PATH.to_owned()), ("HOME".to_owned(), "/".to_owned())];
    environment.extend(service.go_memory.map(|limit| (GO_LIMIT.to_owned(), limit.bytes(memory).to_string())));
    for (name, value) in &service.environment {
        environment.retain(|(known, _)| known != name);
        environment.push((name.clone(), value.clone()));
    }
    environment
}

fn fill(service: &Service, facts: &NodeFacts) -> Result<Service, PlaceholderError> {
    let fill = |text: &String| placeholders::expand(text, facts);
    let mut filled = service.clone();
    filled.command = service.command.iter().map(fill).collect::<Result<_, _>>()?;
    for value in filled.environment.values_mut() {
        *value = fill(value)?;
    }
    if let Some(Once { key, .. }) = &mut filled.once {
        *key = fill(key)?;
    }
    if let Some(
        Readiness::Https(target) | Readiness::Http(target) | Readiness::Tcp(target) | Readiness::Unix(target),
    ) = &mut filled.ready
    {
        *target = fill(target)?;
    }
    Ok(filled)
}

/// Writes configuration files, each whole or not at all, with its mode from the first byte on.
pub fn write_files(host: &Host, files: &[kubernetes::ConfigFile]) -> Result<(), DefinitionError> {
    for file in files {
        let path = host.below_root(&file.path);
        let same = fs::read(&path).is_ok_and(|now| now == file.contents.as_bytes())
            && fs::metadata(&path).is_ok_and(|m| m.permissions().mode() & 0o7777 == file.mode);
        if !same {
            crate::files::replace(&path, file.contents.as_bytes(), file.mode)
                .map_err(|source| DefinitionError::File { path, source })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
