//! The OVF environment: the properties of a machine that was made from a template, as an XML document (DMTF DSP0243,
//! "OVF environment document"; its schema is DSP8027). The host has it as guestinfo, and some make a disc of it.

use std::collections::BTreeMap;

use crate::identity::cloud_init::{CLOUD_INIT, Document, Documents};
use crate::identity::source::SourceError;
use crate::identity::{Claim, Told, document};

/// Of the disc, in lower case.
pub const LABEL: &str = "ovf env";
/// Files of the disc: as the standard calls it, and as ISO 9660 without its extensions spells that.
pub const FILES: [&str; 2] = ["ovf-env.xml", "ovf_env.xml"];

const SEED: &str = "bootwright.seed";
const USER_DATA: &str = "user-data";
const NETWORK: &str = "network-config";
/// cloud-init takes both.
const HOST_NAMES: [&str; 2] = ["local-hostname", "hostname"];

/// What the environment in `bytes` says: a claim for the node.toml that is a property, and one for those properties that are
/// cloud-init's. `origin` is where it is (`/dev/sr0`), `next` what to do about a mistake in it.
pub fn claims(bytes: &[u8], origin: &str, next: &'static str) -> Vec<Result<Claim, SourceError>> {
    let source = format!("the OVF environment ({origin})");
    let text = document::text(bytes).map_err(|error| error.to_string());
    let properties = match text.and_then(|text| properties(&text)) {
        Ok(properties) => properties,
        Err(message) => return vec![Err(SourceError::Mistake { document: source, message, next })],
    };
    let place = |key: &str| format!("property {key} of {source}");
    let mut claims = Vec::new();
    if let Some(text) = properties.get(SEED) {
        let says = document::seed(text.as_bytes(), &place(SEED), next);
        claims.push(says.map(|says| Claim::new(place(SEED), says)));
    }
    if [USER_DATA, NETWORK].iter().chain(&HOST_NAMES).any(|key| properties.contains_key(*key)) {
        let told = of_cloud_init(&properties, place, next);
        claims.push(told.map(|told| Claim::new(source.clone(), told)));
    }
    claims
}

/// What cloud-init's properties say. Its documents are in base64, which is seen by its letters.
fn of_cloud_init(
    properties: &Properties,
    place: impl Fn(&str) -> String,
    next: &'static str,
) -> Result<Told, SourceError> {
    let document = |key: &str| {
        properties.get(key).map(|text| Document { bytes: text.as_bytes(), place: place(key), next })
    };
    let documents = Documents { user_data: document(USER_DATA), meta_data: None, network: document(NETWORK) };
    let mut told = documents.say(&CLOUD_INIT)?;
    if told.says.name.is_none() && told.host_name.is_none() {
        let name = HOST_NAMES.iter().find_map(|key| properties.get(*key));
        told.host_name = name.and_then(|name| document::first_label(name));
    }
    Ok(told)
}

/// Values by key, of those that have one: a property that a template has and nobody has set is there, and empty.
pub type Properties = BTreeMap<String, String>;

/// The properties of this machine. Those of others of the same vApp, which are in sections of an `Entity`, are left alone.
///
/// # Errors
/// It is no such document, in one line.
pub fn properties(text: &str) -> Result<Properties, String> {
    let document = document::xml(text)?;
    let environment = document.root_element();
    let kind = environment.tag_name().name();
    if kind != "Environment" {
        return Err(format!("it is a document of the type {kind:?}, and no Environment"));
    }
    let sections = environment.children().filter(|node| node.tag_name().name() == "PropertySection");
    let elements = sections.flat_map(|section| section.children());
    let mut properties = Properties::new();
    for element in elements.filter(|node| node.tag_name().name() == "Property") {
        // With the standard's namespace, or with none: not every tool writes it.
        let attribute = |name: &str| {
            let found = element.attributes().find(|attribute| attribute.name() == name);
            found.map(|attribute| attribute.value().trim()).filter(|value| !value.is_empty())
        };
        if let (Some(key), Some(value)) = (attribute("key"), attribute("value")) {
            properties.entry(key.to_owned()).or_insert_with(|| value.to_owned());
        }
    }
    Ok(properties)
}
