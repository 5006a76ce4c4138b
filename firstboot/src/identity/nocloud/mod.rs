//! NoCloud, cloud-init's way to hand over without a cloud: a drive with the label `cidata`, or `ds=nocloud;h=NAME` as the
//! firmware's serial number or on the kernel command line
//! (<https://cloudinit.readthedocs.io/en/latest/reference/datasources/nocloud.html>).
//!
//! Proxmox, KubeVirt, libvirt's tools and many more make such a drive. A seed that is to be fetched (`s=URL`) is not.

use std::collections::BTreeMap;

use bootwright_model::seed::Seed;

use super::cloud_init::{CLOUD_INIT, Document, Documents};
use super::drives::Drive;
use super::machine::Machine;
use super::source::{Source, SourceError};
use super::{Claim, Told, document};

/// Of the drive, in lower case.
pub const LABEL: &str = "cidata";
const META_DATA: &str = "meta-data";
const USER_DATA: &str = "user-data";
const NETWORK_CONFIG: &str = "network-config";
/// Files of the drive.
pub const FILES: [&str; 3] = [META_DATA, USER_DATA, NETWORK_CONFIG];
/// Key on the command line and in the serial number.
const DATA_SOURCE: &str = "ds";

/// The NoCloud drive, and what stands in for it.
pub struct NoCloud;

impl Source for NoCloud {
    fn name(&self) -> &'static str {
        "NoCloud"
    }

    fn evidence(&self, machine: &Machine) -> bool {
        drives(machine).next().is_some() || names(machine).next().is_some()
    }

    fn read(&self, machine: &Machine) -> Vec<Result<Claim, SourceError>> {
        let named = names(machine)
            .map(|(source, name)| Ok(Claim::new(source, Seed { name: Some(name), ..Seed::default() })));
        drives(machine).map(read).chain(named).collect()
    }
}

fn drives(machine: &Machine) -> impl Iterator<Item = &Drive> {
    machine.drives.drives.iter().filter(|drive| drive.label == LABEL)
}

/// Host names from where a drive is not needed, and where that is.
fn names(machine: &Machine) -> impl Iterator<Item = (String, String)> {
    let serial = machine.firmware.serial.as_deref();
    let serial = serial.and_then(|serial| serial.strip_prefix(DATA_SOURCE)?.strip_prefix('='));
    let places = [
        ("NoCloud (the firmware's serial number)", serial),
        ("NoCloud (ds= on the kernel command line)", machine.command_line.value(DATA_SOURCE)),
    ];
    places.into_iter().filter_map(|(source, text)| Some((source.to_owned(), host_name(text?)?)))
}

/// Of `nocloud;h=NAME;i=ID`.
fn host_name(text: &str) -> Option<String> {
    let mut parts = text.split(';');
    // With `-net` it is the same with a seed on the network.
    if !["nocloud", "nocloud-net"].contains(&parts.next()?) {
        return None;
    }
    let named = |part: &str| {
        let (key, value) = part.split_once('=')?;
        ["h", "local-hostname"].contains(&key).then(|| value.to_owned())
    };
    parts.find_map(named).as_deref().and_then(document::first_label)
}

fn read(drive: &Drive) -> Result<Claim, SourceError> {
    let device = drive.device.display();
    let files = drive.files.as_ref().map_err(|error| SourceError::Unreadable {
        what: format!("the NoCloud drive {device} cannot be read"),
        next: "make the drive again",
        source: std::io::Error::new(error.kind(), error.to_string()),
    })?;
    Ok(Claim::new(format!("NoCloud ({device})"), says(files, &device.to_string())?))
}

/// What the files say.
fn says(files: &BTreeMap<&'static str, Vec<u8>>, device: &str) -> Result<Told, SourceError> {
    let document = |name: &'static str, next: &'static str| {
        files.get(name).map(|bytes| Document { bytes, place: format!("{name} on {device}"), next })
    };
    let documents = Documents {
        user_data: document(
            USER_DATA,
            "correct the node.toml that is the drive's user-data, and make the drive again",
        ),
        meta_data: document(META_DATA, "correct the drive's meta-data, and make the drive again"),
        network: document(NETWORK_CONFIG, "correct the drive's network-config, and make the drive again"),
    };
    documents.say(&CLOUD_INIT)
}

#[cfg(test)]
mod tests;
