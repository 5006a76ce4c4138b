//! `[kubernetes]`: a version that the roles' profiles can run, and one place to get it from.

use bootwright_model::kubernetes::version::Version;
use bootwright_model::kubernetes::{COMPONENTS, FLAG_COMPONENTS};

use super::settings::url_finding;
use super::{Context, node};
use crate::cluster::text::finding::{Finding, KeyPath};
use crate::cluster::text::similar;

pub fn check(context: &Context<'_>, findings: &mut Vec<Finding>) {
    version(context, findings);
    source(context, findings);
    flags(context, findings);
}

fn key(name: &str) -> KeyPath {
    KeyPath::of("kubernetes").key(name)
}

fn version(context: &Context<'_>, findings: &mut Vec<Finding>) {
    let text = &context.file.kubernetes.version;
    let mistake = |message: String| {
        Finding::new("version", message).at_value(key("version"), "not a version of three numbers")
    };
    if let Some(rest) = text.strip_prefix(['v', 'V']) {
        findings.push(mistake(format!("\"{text}\" begins with a v")).help(format!("write \"{rest}\"")));
        return;
    }
    let numbers = text.split('.').map(|part| part.parse::<u16>().is_ok() && !part.starts_with('+'));
    if !numbers.clone().all(|good| good) || numbers.count() != 3 {
        findings.push(
            mistake(format!("\"{text}\" is not a version"))
                .help("write three numbers, such as \"1.20.2\": flags and binaries depend on them"),
        );
        return;
    }
    let version: Version = match text.parse() {
        Ok(version) => version,
        Err(error) => {
            findings.push(
                Finding::new("version", error.to_string())
                    .at_value(key("version"), "not supported")
                    .help("write a version in that range"),
            );
            return;
        }
    };
    let minor = format!("{}.{}", version.major, version.minor);
    let mut said = Vec::new();
    for (index, one) in context.file.nodes.iter().enumerate() {
        let Some(profile) = context.profiles.get(&one.role) else { continue };
        if profile.kubernetes.contains(&minor) || said.contains(&&one.role) {
            continue;
        }
        said.push(&one.role);
        findings.push(
            Finding::new("profile-version", format!("profile {} cannot run Kubernetes {text}", one.role))
                .at_value(key("version"), "this version")
                .at_value(node(index, "role"), "this profile")
                .help(format!("use a version of {}", profile.kubernetes.join(", "))),
        );
    }
}

/// What flags there are, only the program knows; that a name can be one is all that can be said here.
fn flags(context: &Context<'_>, findings: &mut Vec<Finding>) {
    for (component, flags) in &context.file.kubernetes.flags {
        let table = key("flags").key(component);
        if !FLAG_COMPONENTS.contains(&component.as_str()) {
            let finding = Finding::new("flags", format!("\"{component}\" takes no flags"))
                .at_key(table, "not one of the components that do")
                .help(match similar(component, FLAG_COMPONENTS.into_iter()) {
                    Some(meant) if !COMPONENTS.contains(&component.as_str()) => {
                        format!("did you mean \"{meant}\"?")
                    }
                    _ => format!("flags are for {}", FLAG_COMPONENTS.join(", ")),
                });
            findings.push(finding);
            continue;
        }
        for name in flags.keys() {
            let bare = name.trim_start_matches('-');
            let good = !bare.is_empty() && bare.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            if bare != name || !good {
                let help = if good {
                    format!("write \"{bare}\": the dashes are added")
                } else {
                    "write the flag's name, such as \"feature-gates\"".to_owned()
                };
                findings.push(
                    Finding::new("flags", format!("\"{name}\" is not the name of a flag"))
                        .at_key(table.clone().key(name), "not a name")
                        .help(help),
                );
            }
        }
    }
}

fn source(context: &Context<'_>, findings: &mut Vec<Finding>) {
    let kubernetes = &context.file.kubernetes;
    match (&kubernetes.directory, &kubernetes.mirror) {
        (None, None) => findings.push(
            Finding::new("kubernetes-source", "there is no place to get Kubernetes from")
                .at_value(KeyPath::of("kubernetes"), "neither `directory` nor `mirror`")
                .help("add `directory = \"…\"`, a folder with the binaries, or `mirror`, the URL of a release mirror")
                .because_of(key("directory"))
                .because_of(key("mirror")),
        ),
        (Some(_), Some(_)) => findings.push(
            Finding::new("kubernetes-source", "there are two places to get Kubernetes from")
                .at_key(key("mirror"), "a mirror")
                .at_key(key("directory"), "and a folder")
                .help("keep one of them"),
        ),
        (Some(directory), None) if directory.is_empty() => findings.push(
            Finding::new("kubernetes-source", "`directory` is empty")
                .at_value(key("directory"), "no folder")
                .help("name the folder with the binaries, relative to this file"),
        ),
        (Some(_), None) => {}
        (None, Some(url)) => url_finding(key("mirror"), url, findings),
    }
}
