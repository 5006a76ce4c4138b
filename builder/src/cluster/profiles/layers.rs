//! A profile that names parts: each file read and checked by itself, then the whole of them.

use std::path::Path;

use bootwright_model::cluster::ClusterFile;
use bootwright_model::parts::{NAME, PARTS, WHEN, When, merge};
use bootwright_model::profile::{KernelFlavour, Profile};
use serde::Deserialize;
use toml::{Table, Value};

use super::{ProfileError, ProfileStore};
use crate::cluster::checks;
use crate::cluster::text::finding::{Finding, KeyPath, Place, Step};
use crate::cluster::text::shape::{Key, Shape};
use crate::cluster::text::{self, Reading, similar};

/// What only the profile itself says.
const OWN: [&str; 4] = ["role", "description", "kubernetes", PARTS];

/// Whether a profile is put together from parts. One that cannot be parsed says so as a whole one.
pub(super) fn has_parts(text: &str) -> bool {
    text.parse::<Table>().is_ok_and(|table| table.contains_key(PARTS))
}

/// The profile of `role` in the file at `path`, put together for a cluster and checked.
pub(super) fn load(
    store: &ProfileStore,
    role: &str,
    file: &ClusterFile,
    path: &Path,
    text: String,
) -> Result<Profile, ProfileError> {
    let mut reading: Reading<Table> = text::read_as(text, &shape(true));
    let Some(own) = reading.value.take().filter(|_| !reading.has_errors()) else {
        return Err(ProfileError::Invalid(reading.finish(path)));
    };
    let mut parts = Vec::new();
    let names = own.get(PARTS).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    for (index, name) in names.enumerate() {
        match part(store, name)? {
            Some(part) => parts.push(part),
            None => reading.add([unknown(store, index, name)]),
        }
    }
    let flavour = flavour(parts.iter().chain([&own]));
    let layers = parts.into_iter().filter(|part| applies(part, role, file, flavour));
    let mut profile = None;
    if !reading.has_errors() {
        let whole = merge(layers.chain([own.clone()]));
        match Profile::deserialize(whole.clone()) {
            Ok(value) => {
                let findings = checks::profile(&value, role);
                reading.add(findings.into_iter().map(|finding| at_home(finding, &own, &whole)));
                profile = Some(value);
            }
            Err(error) => reading.add([incomplete(error.message())]),
        }
    }
    let findings = reading.finish(path);
    profile.filter(|_| !findings.has_errors()).ok_or(ProfileError::Invalid(findings))
}

/// What a part says; nothing if there is no such part.
fn part(store: &ProfileStore, name: &str) -> Result<Option<Table>, ProfileError> {
    let Some((path, text)) = store.read(&format!("{PARTS}/{name}.toml"), name)? else { return Ok(None) };
    let mut reading: Reading<Table> = text::read_as(text, &shape(false));
    let value = reading.value.take();
    let findings = reading.finish(&path);
    value.filter(|_| !findings.has_errors()).map(Some).ok_or(ProfileError::Invalid(findings))
}

/// Whether a part that was read without a finding is meant for the role in the cluster.
fn applies(part: &Table, role: &str, file: &ClusterFile, flavour: KernelFlavour) -> bool {
    let when = part.get(WHEN).and_then(|when| When::deserialize(when.clone()).ok());
    when.is_none_or(|when| when.holds(role, file, flavour))
}

/// The kernel that the last of the layers names which names one: a layer on top replaces it. A whole without one is
/// refused, so that the choice made here for it does not matter.
fn flavour<'a>(layers: impl Iterator<Item = &'a Table>) -> KernelFlavour {
    let named = layers
        .filter_map(|layer| KernelFlavour::deserialize(layer.get("kernel")?.get("flavour")?.clone()).ok());
    named.last().unwrap_or(KernelFlavour::Cloud)
}

/// The form of a profile with parts, or of a part.
fn shape(of_profile: bool) -> Shape {
    let Shape::Table(keys) = Shape::of::<Profile>().fragment() else {
        unreachable!("a profile is a table");
    };
    let mut keys: Vec<Key> = keys;
    if of_profile {
        keys.retain(|key| key.name != WHEN);
        keys.iter_mut().filter(|key| OWN.contains(&key.name.as_str())).for_each(|key| key.required = true);
    } else {
        keys.retain(|key| !OWN.contains(&key.name.as_str()));
    }
    Shape::Table(keys)
}

fn unknown(store: &ProfileStore, index: usize, name: &str) -> Finding {
    let parts = store.parts();
    let known = parts.join(", ");
    let help = match similar(name, parts.iter().map(String::as_str)) {
        Some(part) => format!("did you mean \"{part}\"? There are {known}"),
        None => format!("there are {known}; a file {PARTS}/<name>.toml beside this one adds another"),
    };
    Finding::new("parts", format!("there is no part \"{name}\""))
        .at_value(KeyPath::of(PARTS).index(index), "no such part")
        .help(help)
}

/// A whole that lacks what a profile must have; `message` is serde's.
fn incomplete(message: &str) -> Finding {
    Finding::new("parts", format!("with its parts this is no whole profile: {message}"))
        .at_value(KeyPath::of(PARTS), "with these")
        .help("write what is missing here, or name the part that has it")
}

/// A finding about the whole, as one about this file: what comes from a part is shown at the parts' names.
fn at_home(mut finding: Finding, own: &Table, whole: &Table) -> Finding {
    let (own, whole) = (Value::Table(own.clone()), Value::Table(whole.clone()));
    for label in &mut finding.labels {
        if let Place::Path(path, half) = &label.place {
            let (home, text) = match own_path(path, &own, &whole) {
                Some(path) => (path, label.text.clone()),
                None => (KeyPath::of(PARTS), "in one of these".to_owned()),
            };
            label.place = Place::Path(home, *half);
            label.text = text;
        }
    }
    let mut seen = Vec::new();
    finding.labels.retain(|label| {
        let new = !seen.contains(&label.place);
        seen.push(label.place.clone());
        new
    });
    finding
}

/// Where a value of the whole stands in this file; nothing if it comes from a part.
fn own_path(path: &KeyPath, own: &Value, whole: &Value) -> Option<KeyPath> {
    let (mut own, mut whole) = (own, whole);
    let mut steps = Vec::new();
    for (position, step) in path.steps().iter().enumerate() {
        match step {
            Step::Key(key) => {
                let Some(value) = whole.get(key) else {
                    // Nobody has it: its table is the place.
                    steps.extend_from_slice(&path.steps()[position..]);
                    break;
                };
                (own, whole) = (own.get(key)?, value);
                steps.push(step.clone());
            }
            Step::Index(index) => {
                let (ours, all) = (own.as_array()?, whole.as_array()?);
                let element = all.get(*index)?;
                let at = match element.get(NAME) {
                    Some(name) => ours.iter().position(|one| one.get(NAME) == Some(name))?,
                    // Our own are the last.
                    None => (index + ours.len()).checked_sub(all.len())?,
                };
                (own, whole) = (ours.get(at)?, element);
                steps.push(Step::Index(at));
            }
        }
    }
    Some(KeyPath::from_steps(steps))
}
