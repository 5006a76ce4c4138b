//! OpenStack's config drive: a drive with the label `config-2`
//! (<https://docs.openstack.org/nova/latest/user/metadata.html#config-drives>). Clouds that do as OpenStack does have
//! it too.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::cloud_init::{Document, Documents, Formats};
use super::drives::Drive;
use super::machine::Machine;
use super::source::{Source, SourceError};
use super::{Claim, Told, network_config};

/// Of the drive, in lower case.
pub const LABEL: &str = "config-2";
/// What Nova knows of the server.
pub const META_DATA: &str = "openstack/latest/meta_data.json";
const USER_DATA: &str = "openstack/latest/user_data";
const NETWORK_DATA: &str = "openstack/latest/network_data.json";
/// Files of the drive.
pub const FILES: [&str; 3] = [META_DATA, USER_DATA, NETWORK_DATA];

const NEXT: &str =
    "correct the server's user data and rebuild its config drive; report it if OpenStack itself wrote this";

/// The config drive.
pub struct ConfigDrive;

impl Source for ConfigDrive {
    fn name(&self) -> &'static str {
        "the OpenStack config drive"
    }

    fn evidence(&self, machine: &Machine) -> bool {
        drives(machine).next().is_some()
    }

    fn read(&self, machine: &Machine) -> Vec<Result<Claim, SourceError>> {
        drives(machine).map(read).collect()
    }
}

fn drives(machine: &Machine) -> impl Iterator<Item = &Drive> {
    machine.drives.drives.iter().filter(|drive| drive.label == LABEL)
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MetaData {
    hostname: Option<String>,
}

fn read(drive: &Drive) -> Result<Claim, SourceError> {
    let device = drive.device.display();
    let files = drive.files.as_ref().map_err(|error| SourceError::Unreadable {
        what: format!("the OpenStack config drive {device} cannot be read"),
        next: "rebuild the machine's config drive",
        source: std::io::Error::new(error.kind(), error.to_string()),
    })?;
    Ok(Claim::new(format!("the OpenStack config drive ({device})"), says(files, &device.to_string(), NEXT)?))
}

/// What the files of a drive or service say. `next` is what to do about a mistake in them.
pub fn says(
    files: &BTreeMap<&'static str, Vec<u8>>,
    origin: &str,
    next: &'static str,
) -> Result<Told, SourceError> {
    let document = |name: &'static str| {
        files.get(name).map(|bytes| Document { bytes, place: format!("{name} on {origin}"), next })
    };
    let documents = Documents {
        user_data: document(USER_DATA),
        meta_data: document(META_DATA),
        network: document(NETWORK_DATA),
    };
    documents.say(&Formats { host_name, links: network_config::from_network_data })
}

fn host_name(text: &str) -> Result<Option<String>, String> {
    let meta: MetaData = serde_json::from_str(text).map_err(|error| error.to_string())?;
    Ok(meta.hostname)
}

#[cfg(test)]
mod tests;
