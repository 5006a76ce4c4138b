//! `firstboot addons`: a control plane applies the addons that were baked for it.
//!
//! A program of its own after `apply`, so that an addon that cannot be applied keeps no node from being ready. Each
//! object is applied by server-side apply, so a second control plane or the next boot changes nothing. An object that
//! is refused keeps no other waiting: all are tried, and those that are left are tried again with growing pauses, which
//! also brings custom resources in after their definitions, and what is in a namespace after the namespace.
//!
//! Through first boot's own small client and not through the kube crate, which the agent has: five calls are all that
//! is needed, and the crate with its runtime would make PID 1, which is the same file and is unpacked at each boot,
//! twice as large. What it would do besides is small: to ask the API server for the path of a kind.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use bootwright_model::addons::BakedAddon;
use bootwright_model::layout;
use serde_json::Value;

use super::{Api, ApiError, BootstrapError, read_facts, tell};
use crate::certificates::Roots;

/// Before objects that are left are tried again.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The pause doubles up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// How long it is tried for: an operator that serves a webhook may have to be started first. The supervisor starts the
/// program again later, with a pause of its own.
const PATIENCE: Duration = Duration::from_secs(600);
/// Characters of a path's segment that stand for themselves, besides letters and digits (RFC 3986, section 3.3).
const PLAIN: &[u8] = b"-._~!$&'()*+,;=:@";

/// What became of the addons.
#[derive(Debug)]
pub struct Outcome {
    /// How many objects are in the cluster.
    pub applied: usize,
    /// A line for each that is not: the addon, the object, and why.
    pub failed: Vec<String>,
}

/// Why one object is not in the cluster.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    /// The API server cannot be called, or says no.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// No such kind.
    #[error("the API server has no {kind} in {api_version}; is its definition applied?")]
    Kind {
        /// Kind of the object.
        kind: String,
        /// Group and version.
        api_version: String,
    },
}

impl Refusal {
    fn is_temporary(&self) -> bool {
        match self {
            Refusal::Api(error) => error.is_temporary(),
            Refusal::Kind { .. } => true,
        }
    }
}

/// Runs as a program below `root` (`/` on a node).
pub fn main(root: &Path) -> std::process::ExitCode {
    tell("addons", run_below(root))
}

fn run_below(root: &Path) -> Result<String, BootstrapError> {
    let (roots, facts) = (Roots::below(root), read_facts(root)?);
    let addons = read(root)?;
    if addons.is_empty() {
        return Ok("no addons".to_owned());
    }
    let api = Api::open(&roots, facts.layer.file.cluster.endpoint_port)?;
    let outcome = run(&api, &addons, PATIENCE);
    for line in &outcome.failed {
        eprintln!("addons: {line}");
    }
    match outcome.failed.len() {
        0 => Ok(format!("applied {} objects of {} addons", outcome.applied, addons.len())),
        failed => Err(BootstrapError::Addons { failed, all: failed + outcome.applied }),
    }
}

/// The baked addons; an image without any has no such file.
fn read(root: &Path) -> Result<Vec<BakedAddon>, BootstrapError> {
    let folder = root.join(layout::RUN_CLUSTER.trim_start_matches('/'));
    let path = folder.join(layout::CLUSTER_ADDONS);
    let failed = |reason: String| BootstrapError::Baked { path: path.display().to_string(), reason };
    match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(error.to_string())),
        Ok(text) => serde_json::from_slice(&text).map_err(|error| failed(error.to_string())),
    }
}

/// Applies all objects, again and again while one that is left may still be taken, at most for `patience`.
pub fn run(api: &Api, addons: &[BakedAddon], patience: Duration) -> Outcome {
    let deadline = Instant::now() + patience;
    let mut left: Vec<(&str, &Value)> = Vec::new();
    for addon in addons {
        left.extend(addon.objects.iter().map(|object| (addon.name.as_str(), object)));
    }
    let all = left.len();
    let mut pause = FIRST_PAUSE;
    loop {
        // Anew each time: kinds come with the definitions that were applied before.
        let mut kinds = Kinds::default();
        let mut refused = Vec::new();
        for (addon, object) in left {
            if let Err(refusal) = apply(api, &mut kinds, object) {
                refused.push((addon, object, refusal));
            }
        }
        let worth_waiting = refused.iter().any(|(_, _, refusal)| refusal.is_temporary());
        if !worth_waiting || Instant::now() + pause >= deadline {
            let line = |(addon, object, refusal): &(&str, &Value, Refusal)| {
                format!("{addon}: {}: {}", name(object), words(object, refusal))
            };
            return Outcome { applied: all - refused.len(), failed: refused.iter().map(line).collect() };
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
        left = refused.into_iter().map(|(addon, object, _)| (addon, object)).collect();
    }
}

fn apply(api: &Api, kinds: &mut Kinds, object: &Value) -> Result<(), Refusal> {
    let (api_version, kind) = (text(object, "/apiVersion"), text(object, "/kind"));
    let resource = kinds.resource(api, api_version, kind)?;
    let mut object = object.clone();
    let place = if resource.namespaced {
        // As kubectl does.
        let namespace = Some(text(&object, "/metadata/namespace")).filter(|name| !name.is_empty());
        let namespace = namespace.unwrap_or("default").to_owned();
        object["metadata"]["namespace"] = namespace.as_str().into();
        format!("/namespaces/{}", segment(&namespace))
    } else {
        String::new()
    };
    let name = segment(text(&object, "/metadata/name"));
    let path = format!("{}{place}/{}/{name}", group_path(api_version), resource.plural);
    Ok(api.apply(&path, &object)?)
}

/// Kinds of the groups that have been asked for.
#[derive(Default)]
struct Kinds(BTreeMap<String, Vec<Resource>>);

/// How objects of a kind are addressed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Resource {
    kind: String,
    plural: String,
    namespaced: bool,
}

impl Kinds {
    fn resource(&mut self, api: &Api, api_version: &str, kind: &str) -> Result<Resource, Refusal> {
        if !self.0.contains_key(api_version) {
            let list = match api.get(&group_path(api_version)) {
                Ok(answer) => resources(&answer),
                // The group comes with its first definition.
                Err(ApiError::Refused { status: 404, .. }) => Vec::new(),
                Err(error) => return Err(error.into()),
            };
            self.0.insert(api_version.to_owned(), list);
        }
        let found = self.0[api_version].iter().find(|resource| resource.kind == kind);
        found
            .cloned()
            .ok_or_else(|| Refusal::Kind { kind: kind.to_owned(), api_version: api_version.to_owned() })
    }
}

/// An `APIResourceList` without subresources.
fn resources(list: &Value) -> Vec<Resource> {
    let all = list["resources"].as_array().into_iter().flatten();
    let own = all.filter(|resource| !text(resource, "/name").contains('/'));
    own.map(|resource| Resource {
        kind: text(resource, "/kind").to_owned(),
        plural: text(resource, "/name").to_owned(),
        namespaced: resource["namespaced"] == true,
    })
    .collect()
}

/// Where the API server has a group: the core one, `v1`, lies elsewhere.
fn group_path(api_version: &str) -> String {
    match api_version.split_once('/') {
        Some((group, version)) => format!("/apis/{}/{}", segment(group), segment(version)),
        None => format!("/api/{}", segment(api_version)),
    }
}

/// A name as one segment of a path. Those of RBAC objects may hold almost anything.
fn segment(name: &str) -> String {
    let mut out = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || PLAIN.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out += &format!("%{byte:02X}");
        }
    }
    out
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// `Deployment kube-system/coredns`.
fn name(object: &Value) -> String {
    let (kind, name) = (text(object, "/kind"), text(object, "/metadata/name"));
    match text(object, "/metadata/namespace") {
        "" => format!("{kind} {name}"),
        namespace => format!("{kind} {namespace}/{name}"),
    }
}

/// Why, in one line. What the API server says of a Secret can quote what is in it.
fn words(object: &Value, refusal: &Refusal) -> String {
    match refusal {
        Refusal::Api(ApiError::Refused { url, status, .. }) if text(object, "/kind") == "Secret" => {
            format!("{url} answered {status}; what it says is not shown, as it may quote the secret")
        }
        other => crate::report::chain(other).join(": "),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths() {
        assert_eq!(group_path("v1"), "/api/v1");
        assert_eq!(group_path("apps/v1"), "/apis/apps/v1");
        assert_eq!(segment("system:coredns"), "system:coredns");
        assert_eq!(segment("a b/../c?d#e%\u{e4}"), "a%20b%2F..%2Fc%3Fd%23e%25%C3%A4");
    }

    #[test]
    fn kinds_without_their_subresources() {
        let resource =
            |name: &str, namespaced: bool| json!({ "name": name, "kind": "Pod", "namespaced": namespaced });
        let list = json!({ "resources": [resource("pods/log", true), resource("pods", true), resource("x", false)] });
        let found = resources(&list);
        let found: Vec<_> = found.iter().map(|one| (one.plural.as_str(), one.namespaced)).collect();
        assert_eq!(found, [("pods", true), ("x", false)]);
        assert!(resources(&Value::Null).is_empty());
    }

    #[test]
    fn what_is_said_of_a_secret_quotes_nothing() {
        let refusal = || {
            let url = "https://127.0.0.1:6443/api/v1/x".to_owned();
            Refusal::Api(ApiError::Refused {
                url,
                status: 400,
                message: "expected string, got hunter2".to_owned(),
            })
        };
        let object = |kind: &str| json!({ "kind": kind, "metadata": { "name": "x", "namespace": "y" } });
        assert!(
            words(&object("ConfigMap"), &refusal()).ends_with("answered 400: expected string, got hunter2")
        );
        assert!(!words(&object("Secret"), &refusal()).contains("hunter2"));
        assert_eq!(name(&object("Secret")), "Secret y/x");
    }

    #[test]
    fn an_image_without_addons_has_no_file_and_a_damaged_one_is_told() {
        let root = tempfile::tempdir().unwrap();
        assert!(read(root.path()).unwrap().is_empty());
        let folder = root.path().join("run/bootwright/cluster");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("addons.json"), "[{\"name\": \"dns\", \"objects\": [{}]}]").unwrap();
        assert_eq!(read(root.path()).unwrap()[0].name, "dns");
        fs::write(folder.join("addons.json"), "[").unwrap();
        assert!(read(root.path()).unwrap_err().to_string().contains("addons.json"));
    }
}
