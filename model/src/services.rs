//! The services of a profile as a graph: faults found before an image is made of them, and their order.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::placeholders::{self, PlaceholderError};
use crate::profile::{GoMemory, Readiness, Service};

/// Shortest pause before a restart that a profile may ask for, milliseconds: a service that ends at once
/// must not keep the machine busy.
pub const SHORTEST_RESTART_MILLISECONDS: u32 = 50;
/// Longest time that a profile may give a service to stop, seconds.
pub const LONGEST_STOP_SECONDS: u32 = 30;

/// A fault of a profile's services.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// Names become file and cgroup names.
    #[error("service name {name:?} must be 1 to 40 of a-z, 0-9 and '-', starting with a letter")]
    Name {
        /// The name.
        name: String,
    },
    /// Two services of one name.
    #[error("service {name:?} is defined twice; rename one")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// `after` or `uses` names no service.
    #[error("service {service:?} needs {after:?}, which is not a service of this profile")]
    UnknownDependency {
        /// The service.
        service: String,
        /// What it names.
        after: String,
    },
    /// Services wait for each other.
    #[error("services wait for each other: {}; take one `after` or `uses` away", .path.join(" needs "))]
    Cycle {
        /// Names along the cycle, the first repeated at the end.
        path: Vec<String>,
    },
    /// No program, or one that is not an absolute path.
    #[error(
        "service {service:?}: the command must begin with the absolute path of a program, not {program:?}"
    )]
    Program {
        /// The service.
        service: String,
        /// First word of its command, empty if there is none.
        program: String,
    },
    /// A placeholder that does not exist.
    #[error("service {service:?}, {field}: {source}")]
    Placeholder {
        /// The service.
        service: String,
        /// Field of the service.
        field: &'static str,
        /// What is wrong with it.
        source: PlaceholderError,
    },
    /// A probe that could never succeed.
    #[error("service {service:?}: probe {target:?} must be {wanted}")]
    Probe {
        /// The service.
        service: String,
        /// As written.
        target: String,
        /// The form that is wanted.
        wanted: &'static str,
    },
    /// A path or cgroup that leaves its place.
    #[error("service {service:?}, {field}: {path:?} must be {wanted}")]
    Path {
        /// The service.
        service: String,
        /// Field of the service.
        field: &'static str,
        /// As written.
        path: String,
        /// The form that is wanted.
        wanted: &'static str,
    },
    /// A field that only makes sense with another.
    #[error("service {service:?}: {reason}")]
    Contradiction {
        /// The service.
        service: String,
        /// Which and why.
        reason: &'static str,
    },
    /// A number out of its range.
    #[error("service {service:?}, {field}: {reason}")]
    Range {
        /// The service.
        service: String,
        /// Field of the service.
        field: &'static str,
        /// The range.
        reason: String,
    },
}

/// All faults of a profile's services, in order of definition; none if they can be run.
pub fn check(services: &[Service]) -> Vec<ServiceError> {
    let mut faults = Vec::new();
    let mut seen = BTreeMap::new();
    for service in services {
        if seen.insert(service.name.as_str(), ()).is_some() {
            faults.push(ServiceError::Duplicate { name: service.name.clone() });
        }
    }
    for service in services {
        check_fields(service, &mut faults);
        for after in needs(service).filter(|after| !seen.contains_key(after.as_str())) {
            faults.push(ServiceError::UnknownDependency {
                service: service.name.clone(),
                after: after.clone(),
            });
        }
    }
    // A graph with unknown or doubled names has no meaningful order to complain about.
    let graph_is_sound = !faults
        .iter()
        .any(|f| matches!(f, ServiceError::Duplicate { .. } | ServiceError::UnknownDependency { .. }));
    if graph_is_sound && let Err(cycle) = order(services) {
        faults.push(cycle);
    }
    faults
}

/// Indices of `services` so that each comes after those it waits for or uses; otherwise in order of definition.
pub fn order(services: &[Service]) -> Result<Vec<usize>, ServiceError> {
    let index: BTreeMap<&str, usize> =
        services.iter().enumerate().map(|(i, s)| (s.name.as_str(), i)).collect();
    let mut dependencies = Vec::with_capacity(services.len());
    for service in services {
        let mut of_one = Vec::new();
        for after in needs(service) {
            of_one.push(*index.get(after.as_str()).ok_or_else(|| ServiceError::UnknownDependency {
                service: service.name.clone(),
                after: after.clone(),
            })?);
        }
        dependencies.push(of_one);
    }
    let mut ordered: Vec<usize> = Vec::with_capacity(services.len());
    let mut placed = vec![false; services.len()];
    while ordered.len() < services.len() {
        let next = (0..services.len()).find(|&i| !placed[i] && dependencies[i].iter().all(|&d| placed[d]));
        let Some(next) = next else {
            return Err(cycle(services, &dependencies, &placed));
        };
        placed[next] = true;
        ordered.push(next);
    }
    Ok(ordered)
}

/// Names one cycle among the services that could not be placed. Each of them waits for another of them, so
/// that walking along unplaced dependencies must come back to where it has been.
fn cycle(services: &[Service], dependencies: &[Vec<usize>], placed: &[bool]) -> ServiceError {
    let mut path: Vec<usize> = Vec::new();
    let mut at = (0..services.len()).find(|&i| !placed[i]).unwrap_or(0);
    while !path.contains(&at) {
        path.push(at);
        at = dependencies[at].iter().copied().find(|&d| !placed[d]).unwrap_or(at);
    }
    let from = path.iter().position(|&i| i == at).unwrap_or(0);
    let names = path[from..].iter().chain([&at]).map(|&i| services[i].name.clone()).collect();
    ServiceError::Cycle { path: names }
}

/// What stands in `after` and `uses`.
fn needs(service: &Service) -> impl Iterator<Item = &String> {
    service.after.iter().chain(&service.uses)
}

fn check_fields(service: &Service, faults: &mut Vec<ServiceError>) {
    let name = &service.name;
    let well_named = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.len() <= 40
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !well_named {
        faults.push(ServiceError::Name { name: name.clone() });
    }
    let program = service.command.first().cloned().unwrap_or_default();
    if !is_plain_absolute(&program) {
        faults.push(ServiceError::Program { service: name.clone(), program });
    }
    check_placeholders(service, faults);
    if let Some(readiness) = &service.ready {
        check_probe(name, readiness, faults);
    }
    check_places(service, faults);
    let contradictions = [
        (
            service.oneshot && service.ready.is_some(),
            "a one-shot is ready when it has ended well: take `ready` away",
        ),
        (!service.oneshot && service.once.is_some(), "`once` is for a one-shot: add `oneshot = true`"),
        (service.oneshot && service.workloads.is_some(), "`workloads` is for a service that keeps running"),
        (
            service.starting_cpu_weight.is_some() && service.ready.is_none(),
            "`starting-cpu-weight` lasts until it is ready: add `ready`",
        ),
    ];
    for (_, reason) in contradictions.into_iter().filter(|(wrong, _)| *wrong) {
        faults.push(ServiceError::Contradiction { service: name.clone(), reason });
    }
    check_ranges(service, faults);
}

fn check_ranges(service: &Service, faults: &mut Vec<ServiceError>) {
    let mut fault = |field, reason| {
        faults.push(ServiceError::Range { service: service.name.clone(), field, reason });
    };
    let [first, largest] = service.restart_milliseconds;
    if first < SHORTEST_RESTART_MILLISECONDS || first > largest {
        fault(
            "restart-milliseconds",
            format!(
                "[{first}, {largest}] must be [first, largest] with {SHORTEST_RESTART_MILLISECONDS} <= first <= largest"
            ),
        );
    }
    if service.stop_seconds == 0 || service.stop_seconds > LONGEST_STOP_SECONDS {
        fault("stop-seconds", format!("{} must be 1 to {LONGEST_STOP_SECONDS}", service.stop_seconds));
    }
    if !(-1000..=1000).contains(&service.oom_score) {
        fault("oom-score", format!("{} must be -1000 to 1000", service.oom_score));
    }
    let weights = [("cpu-weight", service.cpu_weight), ("starting-cpu-weight", service.starting_cpu_weight)];
    for (field, weight) in weights {
        if let Some(weight) = weight.filter(|weight| !(1..=10_000).contains(weight)) {
            fault(field, format!("{weight} must be 1 to 10000"));
        }
    }
    if let Some(GoMemory { percent, .. }) = service.go_memory
        && !(1..=100).contains(&percent)
    {
        fault("go-memory.percent", format!("{percent} must be 1 to 100"));
    }
    if let Some(GoMemory { least_mib: 0, .. }) = service.go_memory {
        fault("go-memory.least-mib", "0 must be what the program needs at least".to_owned());
    }
}

fn check_placeholders(service: &Service, faults: &mut Vec<ServiceError>) {
    let ready = service.ready.as_ref().map(|r| match r {
        Readiness::Https(target)
        | Readiness::Http(target)
        | Readiness::Tcp(target)
        | Readiness::Unix(target) => target,
    });
    let texts = (service.command.iter().map(|text| ("command", text)))
        .chain(service.environment.values().map(|text| ("environment", text)))
        .chain(service.once.iter().map(|once| ("once.key", &once.key)))
        .chain(ready.map(|text| ("ready", text)));
    for (field, text) in texts {
        if let Err(source) = placeholders::check(text) {
            faults.push(ServiceError::Placeholder { service: service.name.clone(), field, source });
        }
    }
}

/// A probe's target is checked only without placeholders: with one it is checked once they are filled in.
fn check_probe(service: &str, readiness: &Readiness, faults: &mut Vec<ServiceError>) {
    if let Err((target, wanted)) = probe_form(readiness)
        && !target.contains('{')
    {
        faults.push(ServiceError::Probe { service: service.to_owned(), target, wanted });
    }
}

/// The target and the form wanted if a probe is not of the form that its kind needs. Placeholders are filled in.
pub fn probe_form(readiness: &Readiness) -> Result<(), (String, &'static str)> {
    let (target, good, wanted) = match readiness {
        Readiness::Https(target) | Readiness::Http(target) => {
            let good = target.split_once('/').is_some_and(|(authority, path)| {
                authority.parse::<SocketAddr>().is_ok() && path.bytes().all(|b| b.is_ascii_graphic())
            });
            (target, good, "address:port/path, with a numeric address")
        }
        Readiness::Tcp(target) => {
            (target, target.parse::<SocketAddr>().is_ok(), "address:port, with a numeric address")
        }
        // The size of sun_path, less the final zero: unix(7).
        Readiness::Unix(target) => {
            (target, is_plain_absolute(target) && target.len() <= 107, "an absolute path of up to 107 bytes")
        }
    };
    if good { Ok(()) } else { Err((target.clone(), wanted)) }
}

fn check_places(service: &Service, faults: &mut Vec<ServiceError>) {
    let cgroups = [("cgroup", &service.cgroup), ("workloads", &service.workloads)];
    for (field, path) in cgroups.into_iter().filter_map(|(field, path)| Some((field, path.as_ref()?))) {
        let good = !path.is_empty()
            && path.split('/').all(|part| !part.is_empty() && !part.starts_with('.') && is_cgroup_name(part));
        if !good {
            let wanted = "a cgroup below the root, as in \"system/etcd\"";
            faults.push(ServiceError::Path {
                service: service.name.clone(),
                field,
                path: path.clone(),
                wanted,
            });
        }
    }
    if let Some(path) =
        service.only_with.as_ref().filter(|path| !is_plain_absolute(path) || !path.starts_with("/run/"))
    {
        faults.push(ServiceError::Path {
            service: service.name.clone(),
            field: "only-with",
            path: path.clone(),
            wanted: "a file below /run",
        });
    }
    for path in service.once.iter().flat_map(|once| &once.clears) {
        // Only state may be cleared, and never the state partition as a whole.
        let good = is_plain_absolute(path) && path.starts_with("/var/lib/") && path.len() > "/var/lib/".len();
        if !good {
            let (field, wanted) = ("once.clears", "a folder below /var/lib");
            faults.push(ServiceError::Path {
                service: service.name.clone(),
                field,
                path: path.clone(),
                wanted,
            });
        }
    }
}

fn is_cgroup_name(part: &str) -> bool {
    part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn is_plain_absolute(path: &str) -> bool {
    path.len() > 1
        && path.starts_with('/')
        && !path.contains('\0')
        && path[1..].split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

#[cfg(test)]
mod tests;
