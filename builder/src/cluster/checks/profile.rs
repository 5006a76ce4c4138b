//! What a profile means.

use bootwright_model::kubernetes::{CONTROL_PLANE_ROLES, is_control_plane};
use bootwright_model::profile::{Profile, Service};
use bootwright_model::services::{self, ServiceError};

use super::duplicates;
use super::images::is_package_name;
use crate::cluster::text::finding::{Finding, KeyPath};

/// Everything that is wrong with a profile that is read from `<role>.toml`.
pub fn profile(profile: &Profile, role: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if profile.role != role {
        findings.push(
            Finding::new(
                "profile-role",
                format!("this is the profile of role \"{role}\", not \"{}\"", profile.role),
            )
            .at_value(KeyPath::of("role"), "another role")
            .help(format!("write \"{role}\", or rename the file")),
        );
    }
    if profile.when.is_some() {
        findings.push(
            Finding::new("parts", "a profile applies wherever a node names its role")
                .at_value(KeyPath::of("when"), "in parts only")
                .help("leave it out, or move what depends on it into a part"),
        );
    }
    api_server(profile, &mut findings);
    versions(profile, &mut findings);
    packages(profile, &mut findings);
    setup(profile, &mut findings);
    super::addons::check(&profile.addons, &mut findings);
    for fault in services::check(&profile.services) {
        findings.push(service(profile, &fault));
    }
    findings
}

/// Which nodes hold the authorities' keys is known by their role alone.
fn api_server(profile: &Profile, findings: &mut Vec<Finding>) {
    let runs = |service: &Service| service.component.as_deref() == Some("kube-apiserver");
    let Some(index) = profile.services.iter().position(runs) else { return };
    if !is_control_plane(&profile.role) {
        let roles = CONTROL_PLANE_ROLES.join(" or ");
        findings.push(
            Finding::new("profile-role", format!("role \"{}\" cannot run an API server", profile.role))
                .at_value(KeyPath::of("service").index(index).key("component"), "needs the authorities' keys")
                .help(format!("give the profile and its file the name {roles}, or leave the service out")),
        );
    }
}

fn versions(profile: &Profile, findings: &mut Vec<Finding>) {
    let path = KeyPath::of("kubernetes");
    if profile.kubernetes.is_empty() {
        findings.push(
            Finding::new("profile-version", "this profile can run no version of Kubernetes")
                .at_value(path.clone(), "empty")
                .help("name the minor versions it was made for: [\"1.20\"]"),
        );
    }
    for (index, version) in profile.kubernetes.iter().enumerate() {
        let numbers: Vec<_> = version.split('.').map(str::parse::<u16>).collect();
        if numbers.len() != 2 || numbers.iter().any(Result::is_err) {
            findings.push(
                Finding::new("profile-version", format!("\"{version}\" is not a minor version"))
                    .at_value(path.index(index), "not two numbers")
                    .help("write two numbers: \"1.20\""),
            );
        }
    }
}

fn packages(profile: &Profile, findings: &mut Vec<Finding>) {
    let lists = [
        (KeyPath::of("packages").key("install"), &profile.packages.install),
        (KeyPath::of("packages").key("exclude"), &profile.packages.exclude),
        (KeyPath::of("kernel").key("firmware"), &profile.kernel.firmware),
    ];
    for (path, list) in lists {
        for (index, _) in list.iter().enumerate().filter(|(_, package)| !is_package_name(package)) {
            findings.push(
                Finding::new("package", format!("\"{}\" is not the name of a package", list[index]))
                    .at_value(path.index(index), "not a package")
                    .help("write the name alone, in lower case; the lock keeps versions"),
            );
        }
        duplicates(list.iter().map(Some), |first, second, package| {
            findings.push(
                Finding::new("duplicate", format!("package {package} is written twice"))
                    .at_value(path.index(second), "again")
                    .at_value(path.index(first), "first here")
                    .help("leave one of them out"),
            );
        });
    }
    for (index, package) in profile.packages.install.iter().enumerate() {
        if let Some(other) = profile.packages.exclude.iter().position(|excluded| excluded == package) {
            findings.push(
                Finding::new("package", format!("package {package} is installed and excluded"))
                    .at_value(KeyPath::of("packages").key("exclude").index(other), "excluded")
                    .at_value(KeyPath::of("packages").key("install").index(index), "installed")
                    .help("leave one of them out"),
            );
        }
    }
}

fn setup(profile: &Profile, findings: &mut Vec<Finding>) {
    let path = KeyPath::of("setup");
    for (folder, mode) in &profile.setup.folders {
        let good = mode.len() >= 3 && u32::from_str_radix(mode, 8).is_ok_and(|mode| mode <= 0o7777);
        if !good {
            findings.push(
                Finding::new("mode", format!("\"{mode}\" is not a mode"))
                    .at_value(path.key("folders").key(folder), "not octal")
                    .help("write the permission bits in octal: \"0755\""),
            );
        }
    }
    let users = path.key("users");
    duplicates(profile.setup.users.iter().map(|user| Some(&user.name)), |first, second, name| {
        findings.push(
            Finding::new("duplicate", format!("two users have the name {name}"))
                .at_value(users.index(second).key("name"), "again")
                .at_value(users.index(first).key("name"), "first here")
                .help("leave one of them out"),
        );
    });
    duplicates(profile.setup.users.iter().map(|user| Some(user.id)), |first, second, id| {
        findings.push(
            Finding::new("duplicate", format!("two users have the id {id}"))
                .at_value(users.index(second).key("id"), "again")
                .at_value(users.index(first).key("id"), "first here")
                .help("give each user an id of its own"),
        );
    });
}

/// A fault of the service graph, at the service that it names.
fn service(profile: &Profile, fault: &ServiceError) -> Finding {
    let (name, field) = match fault {
        ServiceError::Name { name } | ServiceError::Duplicate { name } => (name.as_str(), Some("name")),
        ServiceError::UnknownDependency { service, .. } => (service.as_str(), Some("after")),
        ServiceError::Cycle { path } => (path.first().map_or("", String::as_str), Some("after")),
        ServiceError::Program { service, .. } => (service.as_str(), Some("command")),
        ServiceError::Probe { service, .. } => (service.as_str(), Some("ready")),
        ServiceError::Placeholder { service, field, .. }
        | ServiceError::Path { service, field, .. }
        | ServiceError::Range { service, field, .. } => (service.as_str(), Some(*field)),
        ServiceError::Contradiction { service, .. } => (service.as_str(), None),
    };
    // Of two services with one name the second is the one too many.
    let index = profile.services.iter().rposition(|service| service.name == name).unwrap_or_default();
    let path = KeyPath::of("service").index(index);
    let place = field.into_iter().flat_map(|field| field.split('.')).fold(path, |path, key| path.key(key));
    Finding::new("service", fault.to_string())
        .at_value(place, "here")
        .help("correct the service's definition")
}
